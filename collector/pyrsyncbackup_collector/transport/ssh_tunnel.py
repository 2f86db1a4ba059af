"""A port forward over SSH, its near end a Unix socket: the only user of sshtunnel and paramiko.

sshtunnel by itself checks no host key, swallows the reason of a failure, prints tracebacks of its threads, and waits
with select(), which ends at descriptor 1023. What it brings is the listening side and its life; login and forwarding
are done here, so that the host key is verified before the login and every failure becomes one of our errors.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import sshtunnel

from pyrsyncbackup_collector.errors import (
    ConnectError,
    ConnectionLost,
    HostUnreachable,
    SshRefused,
)
from pyrsyncbackup_collector.fleet.hosts import Host, Ssh
from pyrsyncbackup_collector.transport.direct import unreachable
from pyrsyncbackup_collector.transport.host_keys import HostKey, KnownHosts, Server
from pyrsyncbackup_collector.transport.route import Endpoint, far_end_silent, forwarding_forbidden

# Their threads report what we report too, in their words and with tracebacks.
_LOG = logging.getLogger("pyrsyncbackup_collector.transport.ssh")
for _logger in (_LOG, logging.getLogger("paramiko")):
    _logger.addHandler(logging.NullHandler())
    _logger.propagate = False

# Together they find a dead path within 30 s: seconds between two signs of life, and milliseconds that what was sent may
# stay without an answer before the kernel gives the connection up.
_KEEPALIVE = 10
_USER_TIMEOUT = 18_000
# What one read from the local end takes.
_CHUNK = 65536
# Together worth half of the CPU time: a large packet, reading all that a window holds at once (paramiko moves the rest
# of its buffer at each read), and AES-GCM, which needs no second pass for a checksum.
_WINDOW = 2 * 2**20
_PACKET = 2**17
_RSA = ("rsa-sha2-512", "rsa-sha2-256")


class SshTunnel:
    """An open connection with the SSH server of one host. Opened by the constructor.

    With `through`, a way to the server that another connection forwards, no TCP connection of its own is made.
    """

    def __init__(self, host: Host, known_hosts: KnownHosts, timeout: float, through: Endpoint | None = None) -> None:
        self.host, self.timeout = host, timeout
        self.key, agent = _key(host.ssh, host.name)
        try:
            self._transport = _logged_in(host, self.key, known_hosts, timeout, through)
        finally:
            if agent is not None:
                agent.close()

    @property
    def alive(self) -> bool:
        """Whether the connection stands."""
        return bool(self._transport.is_active())

    def why(self) -> ConnectError | None:
        """That it was cut, if so."""
        return (
            None if self.alive else ConnectionLost(f"{self.host.name}: the SSH connection was cut", "it is made anew")
        )

    def forward(self, path: Path, address: str, port: int) -> SshForward:
        """Listen at `path` for connections to `address`:`port`, as the server reaches it."""
        return SshForward(self, self._transport, path, (address, port))

    def close(self) -> None:
        """End the connection."""
        self._transport.close()
        self._transport.stop_thread()


class SshForward:
    """One forwarded address, listening at `path`. Opened by the constructor."""

    def __init__(self, tunnel: SshTunnel, transport: paramiko.Transport, path: Path, remote: tuple[str, int]) -> None:
        self._tunnel = tunnel
        self.endpoint = Endpoint(f"unix:{path}", str(path))
        path.unlink(missing_ok=True)
        self._forwarder = _Forwarder(tunnel, transport, str(path), remote)
        try:
            self._forwarder.start()
        except sshtunnel.BaseSSHTunnelForwarderError as error:
            self._forwarder.stop(force=True)
            raise ConnectionLost(
                f"{tunnel.host.name}: the SSH connection was cut at once", "it is made anew"
            ) from error

    @property
    def alive(self) -> bool:
        """Whether the SSH connection stands."""
        return self._tunnel.alive

    def why(self) -> ConnectError | None:
        """Why the last forwarded connection failed."""
        failure = self._forwarder.failure
        return failure.anew() if failure else self._tunnel.why()

    def close(self) -> None:
        """End its connections and remove the socket; the SSH connection stays."""
        self._forwarder.stop(force=True)


def shown_host_key(
    host: Host, known_hosts: KnownHosts, timeout: float, through: Endpoint | None = None
) -> tuple[Server, HostKey]:
    """The host's SSH server and the key that it shows now, of a known kind if it can; nobody logs in."""
    transport = _negotiate(host, known_hosts, timeout, through)
    try:
        return _server(host), _host_key(transport)
    finally:
        transport.close()


def _server(host: Host) -> Server:
    return Server(host.address, host.ssh.port, host.ssh.jump.name if host.ssh.jump else "")


def _logged_in(
    host: Host, key: paramiko.PKey, known_hosts: KnownHosts, timeout: float, through: Endpoint | None
) -> paramiko.Transport:
    """A connection whose server is the right one and let us in."""
    transport = _negotiate(host, known_hosts, timeout, through)
    try:
        known_hosts.check(host.name, _server(host), _host_key(transport))
        with _login_failures(host):
            transport.auth_timeout = timeout
            if transport.auth_publickey(host.ssh.user, key):
                raise SshRefused(
                    f"{host.name}: the SSH server wants more than a key from {host.ssh.user}",
                    "allow `AuthenticationMethods publickey` for that user",
                )
        transport.set_keepalive(_KEEPALIVE)
    except BaseException:
        transport.close()
        raise
    return transport


class _Forwarder(sshtunnel.SSHTunnelForwarder):  # type: ignore[misc] # a library without types
    """sshtunnel with our connection, which others share, and our forwarding."""

    is_alive: bool

    def __init__(self, tunnel: SshTunnel, transport: paramiko.Transport, path: str, remote: tuple[str, int]) -> None:
        self.host, self.timeout, self.shared = tunnel.host, tunnel.timeout, transport
        self.failure: ConnectError | None = None
        self.channels: set[paramiko.Channel] = set()
        super().__init__(
            (tunnel.host.address, tunnel.host.ssh.port),
            ssh_username=tunnel.host.ssh.user,
            ssh_pkey=tunnel.key,
            ssh_config_file=None,
            allow_agent=False,
            host_pkey_directories=[],
            local_bind_address=path,
            remote_bind_address=remote,
            logger=_LOG,
        )

    def _connect_to_gateway(self) -> None:
        self._transport = self.shared

    def _stop_transport(self, force: bool = False) -> None:
        """Close what listens and what was forwarded; the transport belongs to all forwards."""
        del force
        for server in self._server_list:
            if self.is_alive:  # where `start` failed nobody serves, and shutting that down would wait for ever
                server.shutdown()
            server.server_close()
            Path(server.local_address).unlink(missing_ok=True)
        for channel in list(self.channels):
            channel.close()
        self.is_alive = False
        self.__dict__.pop("_transport", None)

    def _make_stream_ssh_forward_server_class(self, remote_address_: tuple[str, int]) -> type:
        del remote_address_
        return _Server

    def _make_ssh_forward_handler_class(self, remote_address_: tuple[str, int]) -> type:
        forwarder = self

        class Handler(_Handler):
            remote_address = remote_address_
            tunnel = forwarder

        return Handler


class _Server(sshtunnel._ThreadingStreamForwardServer):  # type: ignore[misc] # a library without types
    """The listening side; what goes wrong in a connection is told by its handler, not on stderr."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Log what nobody expected."""
        del request, client_address
        _LOG.exception("a forwarded connection failed")


class _Handler(sshtunnel._ForwardHandler):  # type: ignore[misc] # a library without types
    """One connection through the tunnel."""

    tunnel: _Forwarder

    def handle(self) -> None:
        """Open the far end and pass bytes until one side ends; a failure is remembered, never raised."""
        try:
            channel = self.tunnel.shared.open_channel(
                "direct-tcpip",
                self.remote_address,
                ("127.0.0.1", 0),
                window_size=_WINDOW,
                max_packet_size=_PACKET,
                timeout=self.tunnel.timeout,
            )
        except (paramiko.SSHException, EOFError, OSError) as error:
            self.tunnel.failure = _channel_failure(error, self.tunnel.host, *self.remote_address)
            return
        self.tunnel.failure = None
        self.tunnel.channels.add(channel)
        try:
            _pass(self.request, channel)
        except (OSError, EOFError, paramiko.SSHException):
            return  # one of the two ends is gone: that was the end of both
        finally:
            self.tunnel.channels.discard(channel)


def _pass(local: socket.socket, channel: paramiko.Channel) -> None:
    """Copy both ways until one end is done.

    A thread for each way: a channel's descriptor, to wait for both at once, is a pipe whose closing races with
    paramiko's own thread, and that race ends the whole SSH connection.
    """
    back = threading.Thread(target=_copy_back, args=(local, channel), name="tunnel-back", daemon=True)
    back.start()
    try:
        while data := local.recv(_CHUNK):
            channel.sendall(data)
    finally:
        channel.close()  # ends the other way's waiting
        back.join()


def _copy_back(local: socket.socket, channel: paramiko.Channel) -> None:
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        while data := channel.recv(_WINDOW):
            local.sendall(data)
    with contextlib.suppress(OSError):
        local.shutdown(socket.SHUT_RDWR)


class _Prompt(socket.socket):
    """A TCP connection that acknowledges at once what it receives.

    sshd leaves Nagle's algorithm on where it only forwards: a second small piece waits until the first is acknowledged,
    which the kernel puts off for 40 ms. The option is not lasting (tcp(7)), so it is set after each read.
    """

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As of any socket."""
        data = super().recv(size, flags)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data


def _negotiate(host: Host, known_hosts: KnownHosts, timeout: float, through: Endpoint | None) -> paramiko.Transport:
    """A connection whose keys are exchanged, preferring the kinds of host key that are known."""
    connection = _connection(host, timeout, through)
    transport = paramiko.Transport(connection)
    transport.set_log_channel(_LOG.name)
    transport.daemon = True
    transport.banner_timeout = transport.handshake_timeout = timeout
    kinds = known_hosts.known(_server(host)).kinds()
    wanted = [algorithm for kind in kinds for algorithm in (_RSA if kind == "ssh-rsa" else (kind,))]
    options = transport.get_security_options()
    options.ciphers = sorted(options.ciphers, key=lambda cipher: "gcm" not in cipher)
    options.key_types = sorted(
        options.key_types, key=lambda kind: wanted.index(kind) if kind in wanted else len(wanted)
    )
    try:
        with _login_failures(host):
            transport.start_client(timeout=timeout)
            # It returns without a word when the time is over.
            if not transport.initial_kex_done:
                raise paramiko.SSHException(f"no answer within {timeout:.0f} s")
    except BaseException:
        transport.close()
        raise
    return transport


def _connection(host: Host, timeout: float, through: Endpoint | None) -> socket.socket:
    address, port = host.address, host.ssh.port
    try:
        if through is not None:
            return through.connect(timeout)
        connection = socket.create_connection((address, port), timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        failure = unreachable(error, address, port, "the SSH server")
        raise HostUnreachable(f"{host.name}: {failure.cause}", failure.hint) from error
    return _Prompt(fileno=connection.detach())


def _host_key(transport: paramiko.Transport) -> HostKey:
    key = transport.get_remote_server_key()
    return HostKey(key.get_name(), key.asbytes())


@contextlib.contextmanager
def _login_failures(host: Host) -> Iterator[None]:
    """What paramiko raises until the login is done, as our errors."""
    name, ssh = host.name, host.ssh
    try:
        yield
    except paramiko.BadAuthenticationType as error:
        raise SshRefused(
            f"{name}: the SSH server lets {ssh.user} in by {', '.join(error.allowed_types)} only",
            "allow `PubkeyAuthentication` for that user",
        ) from error
    except paramiko.AuthenticationException as error:
        if "timeout" in str(error):  # nobody refused anything
            raise HostUnreachable(
                f"{name}: {host.address}:{ssh.port} does not end the SSH login in time",
                "look at its log: what the login asks there (PAM, a directory of users) does not answer",
            ) from error
        if "EOF" in str(error):  # nor here
            raise _cut_at_login(host) from error
        raise SshRefused(
            f"{name}: the SSH server refuses user {ssh.user} with the key {ssh.key}",
            "add the key that `pyrsyncbackup invitation` prints to that user's authorized_keys",
        ) from error
    except paramiko.ssh_exception.IncompatiblePeer as error:
        raise SshRefused(f"{name}: no common SSH algorithms: {error}", "update the host's SSH server") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise _cut_at_login(host, f": {error}" if str(error) else "") from error


def _cut_at_login(host: Host, why: str = "") -> HostUnreachable:
    return HostUnreachable(
        f"{host.name}: {host.address}:{host.ssh.port} ended the connection during the SSH login{why}",
        "is it an SSH server, and below its MaxStartups?",
    )


def _channel_failure(error: Exception, host: Host, address: str, port: int) -> ConnectError:
    """Why a channel to `address`:`port` behind the SSH server of `host` could not be opened."""
    if isinstance(error, paramiko.ChannelException) and error.code == 1:
        return forwarding_forbidden(host, address, port)
    if isinstance(error, paramiko.ChannelException):
        return far_end_silent(host, address, port, error.text)
    if isinstance(error, paramiko.SSHException) and "imeout" in str(error):
        return far_end_silent(host, address, port, "no answer in time")
    return ConnectionLost(f"{host.name}: the SSH connection was cut", "it is made anew")


def _key(ssh: Ssh, host: str) -> tuple[paramiko.PKey, paramiko.Agent | None]:
    """The key to log in with, and the SSH agent that must stay open while it signs."""
    if ssh.key.exists():
        try:
            return paramiko.PKey.from_path(ssh.key), None
        except paramiko.PasswordRequiredException:
            pass
        except (paramiko.SSHException, ValueError, OSError, TypeError) as error:
            if "ncrypted" not in str(error) and "assw" not in str(error):
                raise SshRefused(
                    f"{host}: the SSH key {ssh.key} cannot be read: {error}", "correct `ssh.key`"
                ) from error
        what = "has a passphrase"
    else:
        what = "does not exist"
    public = _public_blob(ssh.key)
    agent = paramiko.Agent()
    for key in agent.get_keys():
        if key.asbytes() == public:
            return key, agent
    agent.close()
    if what == "does not exist" and not public:
        raise SshRefused(
            f"{host}: the SSH key {ssh.key} does not exist",
            "correct `key` in the host's `ssh`; without one the collector's own is used",
        )
    held = (
        "and the SSH agent does not hold it"
        if public
        else f"and {ssh.key}.pub, to find it in the SSH agent, is missing"
    )
    raise SshRefused(
        f"{host}: the SSH key {ssh.key} {what}, {held}",
        f"run `ssh-add {ssh.key}` with SSH_AUTH_SOCK set here too, or use a key without passphrase",
    )


def _public_blob(key: Path) -> bytes | None:
    try:
        fields = Path(f"{key}.pub").read_text().split()
        blob: Any = paramiko.PublicBlob.from_string(" ".join(fields[:2])).key_blob
    except (OSError, ValueError, AttributeError):
        return None
    return bytes(blob)
