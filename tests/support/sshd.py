"""A real sshd with keys of its own in a temporary folder; works as root and as a user.

It listens on a loopback port, or where it is told in a node of a network.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.network import Node
from tests.support.orphans import descendants
from tests.support.tcp import closed_port
from tests.support.waiting import until


class Sshd:
    """One server. `options` are lines of sshd_config; change them, or the keys, then `restart`."""

    def __init__(self, folder: Path, node: Node | None = None, address: str = "127.0.0.1", port: int = 0) -> None:
        self.folder = folder
        self.node = node
        self.address = address
        # Another one where it is reached through a router.
        self.known_as = address
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.user = getpass.getuser()
        self.user_key = folder / "user_key"
        self.authorized_keys = folder / "authorized_keys"
        self.options: list[str] = []
        self.port = port or closed_port()
        self.host_key_kinds = ["ed25519"]
        self._process: subprocess.Popen[bytes] | None = None
        make_key(self.user_key)
        self.new_host_keys()
        self.authorize(f"{self.user_key}.pub")

    def new_host_keys(self) -> None:
        """Replace the host keys, as a reinstallation does."""
        for kind in self.host_key_kinds:
            file = self.folder / f"host_{kind}"
            for old in (file, Path(f"{file}.pub")):
                old.unlink(missing_ok=True)
            make_key(file, kind)

    def authorize(self, *public_keys: str | Path) -> None:
        """Let exactly these keys in."""
        self.authorized_keys.write_text("".join(Path(key).read_text() for key in public_keys))

    def let_in(self, accepted: str) -> None:
        """Let in whom the line is for that `pyrsyncbackup-agent accept` printed."""
        line = next(line for line in accepted.splitlines() if "permitopen" in line)
        self.authorized_keys.write_text(line + "\n")

    def known_hosts_line(self, kind: str = "ed25519") -> str:
        """The line that makes this server known."""
        public = (self.folder / f"host_{kind}.pub").read_text().split()
        name = self.known_as if self.port == 22 else f"[{self.known_as}]:{self.port}"
        return f"{name} {public[0]} {public[1]}\n"

    @property
    def fingerprint(self) -> str:
        """That of its host key, as its administrator reads it."""
        key = self.folder / "host_ed25519.pub"
        return subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, check=True, text=True).stdout.split()[1]

    def start(self) -> None:
        """Start it and wait until it listens."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        seen = self.connections
        config = self.folder / "sshd_config"
        lines = [
            *self.options,
            *(f"HostKey {self.folder}/host_{kind}" for kind in self.host_key_kinds),
            f"ListenAddress {self.address}:{self.port}",
            f"AuthorizedKeysFile {self.authorized_keys}",
            f"PidFile {self.folder}/sshd.pid",
            "UsePAM no",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            # Of this one the last line counts, not the first.
            *([] if any(line.startswith("MaxStartups") for line in self.options) else ["MaxStartups 100"]),
            "LogLevel VERBOSE",
        ]
        config.write_text("\n".join(lines) + "\n")
        program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ["PATH"])
        assert program, "openssh-server is not installed"
        with open(self.folder / "sshd.log", "ab") as log:
            argv = [*(self.node.prefix if self.node else ()), program, "-D", "-e", "-f", config]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True)
        try:
            until(self._listens)
            # It tells of who asked that a moment later; nobody shall count it among his own.
            until(lambda: self.connections > seen, what="a word about a connection")
        except BaseException:
            self.kill()
            raise

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        if self.node is not None:
            return self.node.reaches(self.address, self.port)
        with socket.socket() as probe:
            return probe.connect_ex((self.address, self.port)) == 0

    def log(self) -> str:
        """What it said."""
        file = self.folder / "sshd.log"
        return file.read_text(errors="replace") if file.exists() else ""

    @property
    def logins(self) -> int:
        """How often somebody was let in so far."""
        return self.log().count("Accepted publickey")

    @property
    def connections(self) -> int:
        """How many TCP connections it got so far, with those by which `start` waits for it."""
        return self.log().count("Connection from")

    @property
    def sessions(self) -> int:
        """How many processes serve somebody now."""
        assert self._process is not None
        return len(descendants(self._process.pid))

    def cut(self) -> None:
        """End every session without a farewell; the server stays."""
        assert self._process is not None
        for child in descendants(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def kill(self) -> None:
        """End it and every session of it, without a farewell."""
        if self._process is not None:
            self.cut()
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill it and start it anew, with what was changed."""
        self.kill()
        self.start()


def make_key(file: Path, kind: str = "ed25519", passphrase: str = "") -> None:
    """A key pair in OpenSSH's form."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", file],
        check=True,
        stdin=subprocess.DEVNULL,
    )


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Sshd]:
    """A started server that the file `user_known_hosts` in its folder knows, killed at the end of the block."""
    sshd = Sshd(folder)
    (folder / "user_known_hosts").write_text(sshd.known_hosts_line())
    sshd.start()
    try:
        yield sshd
    finally:
        sshd.kill()
