"""The way without SSH, for networks where the agent's port can be reached: mutual TLS alone protects it."""

from __future__ import annotations

import ipaddress
import socket

from pyrsyncbackup_collector.errors import ConnectError, HostUnreachable
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.transport.route import Endpoint


class Direct:
    """Holds nothing open: gRPC connects by itself."""

    def __init__(self, host: Host, timeout: float) -> None:
        self._host = host
        self._timeout = timeout
        self.endpoint = Endpoint(_target(host.address, host.agent_port), (host.address, host.agent_port))
        self.alive = True

    def why(self) -> ConnectError | None:
        """Try the port once, to name what is wrong with it."""
        try:
            self.endpoint.connect(self._timeout).close()
        except OSError as error:
            return unreachable(error, self._host.address, self._host.agent_port, "the agent")
        return None

    def close(self) -> None:
        """Nothing to end."""


def unreachable(error: OSError, address: str, port: int, what: str) -> HostUnreachable:
    """Why a TCP connection to `address` could not be made, and the next step."""
    where = f"{address}:{port}"
    if isinstance(error, socket.gaierror):
        return HostUnreachable(f"the name {address} cannot be resolved: {error.strerror}", "correct `address`, or DNS")
    if isinstance(error, ConnectionRefusedError):
        return HostUnreachable(f"{where} refuses connections", f"is {what} running there, on that port?")
    if isinstance(error, TimeoutError):
        return HostUnreachable(f"{where} does not answer", "is the host up, and does a firewall let us through?")
    return HostUnreachable(f"{where} cannot be reached: {error.strerror or error}", "is the host up?")


def _target(address: str, port: int) -> str:
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        return f"dns:///{address}:{port}"
    return f"ipv4:{address}:{port}" if version == 4 else f"ipv6:[{address}]:{port}"
