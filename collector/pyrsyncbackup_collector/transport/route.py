"""What every way to an agent has in common, so that nothing above cares how the bytes get there."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Protocol

from pyrsyncbackup_collector.errors import ConnectError


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
