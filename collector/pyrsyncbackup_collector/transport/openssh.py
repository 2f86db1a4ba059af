"""A connection made by OpenSSH's own client, with the user's ssh_config, agent, certificates and hardware keys.

One `ssh` process for each server: a master that logs in once and then forwards what it is told to, each address to a
Unix socket. Here is its life. What is on its command line, how it runs and what its words mean is beside this. A
connection through a forward ends with its near end, or with the link: OpenSSH has no way to end one from outside.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pyrsyncbackup_collector.errors import BackupError, ConnectError, HostKeyUnknown, SshRefused
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.transport import openssh_command, openssh_outcome
from pyrsyncbackup_collector.transport.host_keys import HostKey, Known, KnownHosts, Server, parse_key
from pyrsyncbackup_collector.transport.openssh_command import Settings
from pyrsyncbackup_collector.transport.openssh_messages import Said
from pyrsyncbackup_collector.transport.openssh_process import Client, run
from pyrsyncbackup_collector.transport.route import Endpoint, far_end_silent, forwarding_forbidden

# The kernel's limit for the path of a Unix socket is 108 bytes with the closing 0. The client makes its own under a
# name that is 17 bytes longer, and then renames it.
_MAX_CONTROL = 107 - 17
# Seconds for what asks nobody.
_AT_ONCE = 30.0


class OpenSsh:
    """An open connection with the SSH server of one host. Opened by the constructor.

    `through` is a way to the server's port that another connection forwards. `folder` is private to us: what the
    connection needs lies in a directory of its own there.
    """

    def __init__(
        self, host: Host, known_hosts: KnownHosts, timeout: float, through: Endpoint | None, folder: Path
    ) -> None:
        self.host, self.timeout = host, timeout
        self._client: Client | None = None
        with _started(host):
            self._folder = Path(tempfile.mkdtemp(prefix="", dir=folder))
        try:
            self._control = _control(self._folder)
            with _started(host):
                self._client = _logged_in(host, known_hosts, timeout, through, self._control)
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether the connection stands."""
        return self._client is not None and self._client.running

    def why(self) -> ConnectError | None:
        """That it was cut, if so, and the client's last words."""
        if self._client is None or self._client.running:
            return None
        return openssh_outcome.lost(self.host, self._client.said())

    def forward(self, path: Path, address: str, port: int) -> OpenSshForward:
        """Listen at `path` for connections to `address`:`port`, as the server reaches it."""
        path.unlink(missing_ok=True)
        self._tell(openssh_command.forward(self._control, path, address, port))
        with _started(self.host):
            path.chmod(0o600)  # the user's StreamLocalBindMask comes after ours, and counts
        return OpenSshForward(self, path, (address, port))

    def cancel(self, path: Path, address: str, port: int) -> None:
        """Listen there no longer."""
        with contextlib.suppress(ConnectError):
            self._tell(openssh_command.cancel(self._control, path, address, port))
        path.unlink(missing_ok=True)

    def refusal(self, address: str, port: int) -> ConnectError | None:
        """Why the server did not make the last connection to there, if so."""
        refused = self._client.refusal(address, port) if self._client else None
        if refused is None:
            return None
        if refused.forbidden:
            return forwarding_forbidden(self.host, address, port)
        return far_end_silent(self.host, address, port, refused.words)

    def close(self) -> None:
        """End the connection and everything that it started."""
        if self._client is not None:
            self._client.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _tell(self, argv: list[str]) -> None:
        if not self.alive:
            raise openssh_outcome.lost(self.host, self._client.said() if self._client else Said())
        with _started(self.host):
            ran = run(argv, self.timeout)
        if ran.code != 0:
            raise self.why() or openssh_outcome.not_forwarded(self.host, ran.said)


class OpenSshForward:
    """One forwarded address, listening at `path`; made by its link, and closed before it."""

    def __init__(self, link: OpenSsh, path: Path, remote: tuple[str, int]) -> None:
        self._link, self._path, self._remote = link, path, remote
        self.endpoint = Endpoint(f"unix:{path}", str(path))

    @property
    def alive(self) -> bool:
        """Whether the SSH connection stands."""
        return self._link.alive

    def why(self) -> ConnectError | None:
        """Why the last forwarded connection failed."""
        return self._link.refusal(*self._remote) or self._link.why()

    def close(self) -> None:
        """Remove the socket; the SSH connection stays."""
        self._link.cancel(self._path, *self._remote)


def shown_host_key(
    host: Host, known_hosts: KnownHosts, timeout: float, through: Endpoint | None, folder: Path
) -> tuple[Server, HostKey]:
    """The host's SSH server and the key that it shows now, of a known kind if it can; nobody logs in."""
    found = _explained(host, timeout)
    server = found.server(_jump(host))
    with _started(host), tempfile.TemporaryDirectory(prefix="", dir=folder) as private:
        file = Path(private) / "shown"
        argv = openssh_command.show_key(host, file, found, known_hosts.known(server), timeout, _socket(through))
        with contextlib.closing(Client(argv)) as client:
            client.wait(lambda: _key_in(file) is not None, timeout)
            silent, said = client.running, client.said()
        key = _key_in(file)
    if key is None:
        raise openssh_outcome.login_failure(
            host, found, said, proxied=found.proxied and through is None, timeout=timeout * silent
        )
    return server, key


def address(host: Host, timeout: float) -> tuple[str, int]:
    """Where the user's configuration says that the SSH server of `host` listens."""
    found = _explained(host, timeout)
    return found.hostname, found.port


def _logged_in(host: Host, known_hosts: KnownHosts, timeout: float, through: Endpoint | None, control: Path) -> Client:
    """A client whose server is the right one and let us in."""
    if not host.ssh.more_keys and not any(Path(f"{host.ssh.key}{end}").exists() for end in ("", ".pub")):
        raise SshRefused(
            f"{host.name}: the SSH key {host.ssh.key} does not exist",
            "correct `key` in the host's `ssh`; without one the user's and the collector's own are used",
        )
    found = _explained(host, timeout)
    server = found.server(_jump(host))
    known = known_hosts.known(server)
    trust = openssh_command.trusting(
        known, known_hosts.own, server, host.ssh.known_hosts, found, _revoked(known, control.parent)
    )
    client = Client(openssh_command.master(host, control, found, _default_ciphers(), trust, timeout, _socket(through)))
    try:
        if client.wait(control.exists, timeout):
            client.logged_in()
            return client
        silent, said = client.running, client.said()
    except BaseException:
        client.close()
        raise
    client.close()
    if openssh_outcome.about_host_key(said):
        raise _host_key_failure(host, said, known_hosts, timeout, through, control.parent)
    raise openssh_outcome.login_failure(
        host, found, said, proxied=found.proxied and through is None, timeout=timeout * silent
    )


def _host_key_failure(
    host: Host, said: Said, known_hosts: KnownHosts, timeout: float, through: Endpoint | None, folder: Path
) -> ConnectError:
    """What is wrong with the host key, in our words."""
    try:
        server, key = shown_host_key(host, known_hosts, timeout, through, folder)
        known_hosts.check(host.name, server, key)
    except HostKeyUnknown as error:
        if not openssh_outcome.host_key_changed(said):
            return error
        return openssh_outcome.host_key_changed_elsewhere(host, server, key, said)
    except ConnectError as error:
        return error
    return openssh_outcome.host_key_refused(host, said)


def _explained(host: Host, timeout: float) -> Settings:
    """What the user's configuration says of the host's server."""
    with _started(host):
        ran = run(openssh_command.explain(host), timeout)
    with contextlib.suppress(KeyError, ValueError):
        if ran.code == 0:
            return openssh_command.settings(ran.output.splitlines())
    raise openssh_outcome.not_explained(host, ran.said)


@functools.cache
def _default_ciphers() -> tuple[str, ...]:
    """What the client chooses from without any configuration; asked once."""
    with contextlib.suppress(KeyError, ValueError):
        return openssh_command.settings(run(openssh_command.explain_defaults(), _AT_ONCE).output.splitlines()).ciphers
    return ()


@contextlib.contextmanager
def _started(host: Host) -> Iterator[None]:
    """What keeps the client from being started here."""
    try:
        yield
    except OSError as error:
        raise openssh_outcome.not_started(host, error) from error


def _control(folder: Path) -> Path:
    control = folder / "c"
    if len(os.fsencode(control)) > _MAX_CONTROL:
        raise BackupError(f"{control} is too long for a socket", "set `runtime` to a shorter directory")
    return control


def _revoked(known: Known, folder: Path) -> Path | None:
    """A file that marks the keys of this server that are revoked in any file that we read; None if there are none."""
    if not known.revoked:
        return None
    file = folder / "revoked"
    file.write_text("".join(f"@revoked * {key.kind} {base64.b64encode(key.blob).decode()}\n" for key in known.revoked))
    return file


def _key_in(file: Path) -> HostKey | None:
    try:
        lines = file.read_text(errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return None
    parsed = parse_key(lines[0]) if lines and lines[0].endswith("\n") else None
    return parsed[1] if parsed else None


def _jump(host: Host) -> str:
    return host.ssh.jump.name if host.ssh.jump else ""


def _socket(through: Endpoint | None) -> str | None:
    return None if through is None else str(through.address)
