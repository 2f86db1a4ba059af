"""What every way to an agent has in common, so that nothing above cares how the bytes get there."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pyrsyncbackup_collector.errors import AgentUnreachable, ConnectError, HostUnreachable, SshRefused
from pyrsyncbackup_collector.fleet.hosts import Host

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an agent's port can be reached from here: `target` for gRPC, a Unix socket's path or (address, port)."""

    target: str
    address: str | tuple[str, int]

    def connect(self, timeout: float) -> socket.socket:
        """A plain connection; raises OSError."""
        if isinstance(self.address, tuple):
            return socket.create_connection(self.address, timeout)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect(self.address)
        except BaseException:
            connection.close()
            raise
        return connection


class Route(Protocol):
    """An open way to one agent's port. Thread-safe; whoever opened it closes it, once."""

    @property
    def endpoint(self) -> Endpoint:
        """The near end."""
        ...

    @property
    def alive(self) -> bool:
        """False once it is known to be broken."""
        ...

    def why(self) -> ConnectError | None:
        """Why the last connection through it failed, as far as the route itself knows."""
        ...

    def close(self) -> None:
        """End it, and every connection in it."""
        ...


class Link(Protocol):
    """An open connection with one SSH server. Thread-safe; whoever opened it closes it, once, after its forwards."""

    @property
    def alive(self) -> bool:
        """False once it is known to be broken."""
        ...

    def why(self) -> ConnectError | None:
        """Why it ended, as far as it knows."""
        ...

    def forward(self, path: Path, address: str, port: int) -> Route:
        """Listen on a Unix socket at `path`: its connections lead to `address`:`port`, as the server reaches it.

        Raises ConnectError. That nobody listens at the far end shows only when it is used.
        """
        ...

    def close(self) -> None:
        """End it, and every connection in it."""
        ...


def forwarding_forbidden(host: Host, address: str, port: int) -> SshRefused:
    """The SSH server of `host` does not let us forward to `address`:`port`."""
    user = f" {host.ssh.user}" if host.ssh.user else ""
    return SshRefused(
        f"{host.name}: the SSH server forbids{user} to forward to {_shown(address, port)}",
        f"in authorized_keys on {host.name}, the line of that key, which is one for all targets, needs "
        f'`port-forwarding,permitopen="{address}:{port}"`; in sshd_config `AllowTcpForwarding local`',
    )


def far_end_silent(host: Host, address: str, port: int, why: str) -> ConnectError:
    """Nobody answers at `address`:`port` behind the SSH server of `host`: its agent, or another SSH server."""
    if (address, port) == (LOOPBACK, host.agent_port):
        return AgentUnreachable(
            f"{host.name}: the agent's port {port} does not answer behind SSH: {why}",
            "is pyrsyncbackup-agent running there, on that port?",
        )
    return HostUnreachable(
        f"{host.name}: its SSH server could not connect to {address}:{port}: {why}", "is an SSH server running there?"
    )


def _shown(address: str, port: int) -> str:
    return f"port {port}" if address == LOOPBACK else f"{address}:{port}"
