"""Networks of this machine's own: namespaces joined by veth pairs, with addresses and routes. Needs root.

A `Network` makes nodes and links and takes all of it away at its end, with every process that still runs in it. What
a node lets through is in `firewall`, what passes an interface is recorded by `wire`.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import until

_NAMESPACES = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

# For every test that makes a network.
needs_network = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("nft", path=os.environ["PATH"] + ":/usr/sbin"),
    reason="needs root for network namespaces, and the programs ip and nft",
)


class Node:
    """A machine as far as its network is concerned. `interfaces` and `addresses` are by the name of the neighbour."""

    def __init__(self, network: Network, name: str) -> None:
        self.network = network
        self.name = name
        self.namespace = f"{network.prefix}{name}"
        self.interfaces: dict[str, str] = {}
        self.addresses: dict[str, str] = {}

    @property
    def prefix(self) -> tuple[str, ...]:
        """What stands before a command line that shall run here."""
        return ("ip", "netns", "exec", self.namespace)

    @property
    def address(self) -> str:
        """Its first address."""
        return next(iter(self.addresses.values()))

    def run(self, *argv: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program here to its end, whatever that is."""
        settings = {"capture_output": True, "text": True, "timeout": 60, "check": True, **options}
        return subprocess.run([*self.prefix, *argv], **settings)

    def popen(self, *argv: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program here; the network's end is its end."""
        process: subprocess.Popen[bytes] = subprocess.Popen([*self.prefix, *argv], **options)
        self.network.processes.append(process)
        return process

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread be here: a socket that it makes meanwhile belongs to this node for good."""
        with open("/proc/thread-self/ns/net") as own, open(_NAMESPACES / self.namespace) as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(own.fileno())

    def connect(self, address: str, port: int, timeout: float = 60) -> socket.socket:
        """A TCP connection from here; raises OSError."""
        with self.inside():
            return socket.create_connection((address, port), timeout)

    def reaches(self, address: str, port: int, timeout: float = 10) -> bool:
        """Whether a TCP connection from here comes about."""
        with contextlib.suppress(OSError), self.connect(address, port, timeout):
            return True
        return False

    def forwarding(self) -> None:
        """Let it pass packets on between its interfaces."""
        with self.inside():
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def route(self, destination: str, via: str) -> None:
        """Add a route; `destination` is a subnet or "default"."""
        _ip("-n", self.namespace, "route", "add", destination, "via", via)

    def received(self, neighbour: str) -> int:
        """Bytes that arrived from this neighbour so far."""
        with self.inside():
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
        line = next(line for line in lines if line.strip().startswith(self.interfaces[neighbour] + ":"))
        return int(line.partition(":")[2].split()[0])

    def nft(self, rules: str) -> None:
        """Load nftables rules."""
        done = self.run("nft", "-f", "-", input=rules, check=False)
        assert done.returncode == 0, f"{done.stderr}\n{rules}"


class Link:
    """A cable between two nodes."""

    def __init__(self, number: int, *ends: Node) -> None:
        self._table = f"cut{number}"
        self.ends = ends

    def _interfaces(self) -> Iterator[tuple[Node, str]]:
        one, other = self.ends
        yield one, one.interfaces[other.name]
        yield other, other.interfaces[one.name]

    def drop(self) -> None:
        """From now on every packet is lost, without a word to either end."""
        for node, interface in self._interfaces():
            hook = f'type filter hook ingress device "{interface}" priority 0; policy drop;'
            node.nft(f"table netdev {self._table} {{\n chain every {{ {hook} }}\n}}\n")

    def restore(self) -> None:
        """Undo `drop`."""
        for node in self.ends:
            node.nft(f"delete table netdev {self._table}\n")

    def rate(self, limit: str) -> None:
        """Let so much through each way, "20mbit" for example."""
        for node, interface in self._interfaces():
            words = ("root", "tbf", "rate", limit, "burst", "64kb", "latency", "200ms")
            node.run("tc", "qdisc", "replace", "dev", interface, *words)

    def full_rate(self) -> None:
        """Undo `rate`."""
        for node, interface in self._interfaces():
            node.run("tc", "qdisc", "del", "dev", interface, "root")


class Network:
    """Nodes and links; a context manager. Networks of several processes do not meet."""

    _count = 0

    def __init__(self) -> None:
        Network._count += 1
        self.prefix = f"prb{os.getpid()}-{Network._count}-"
        self.nodes: dict[str, Node] = {}
        self.links: dict[tuple[str, str], Link] = {}
        self.processes: list[subprocess.Popen[bytes]] = []
        # What must be closed before the namespaces can go: sockets keep them.
        self.closing = contextlib.ExitStack()

    def __enter__(self) -> Network:
        _remove_what_a_killed_process_left()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.closing.close()
        finally:
            for node in self.nodes.values():
                _remove(node.namespace)
            for process in self.processes:
                process.wait(60)
                for stream in (process.stdin, process.stdout, process.stderr):
                    if stream is not None:
                        stream.close()

    def node(self, name: str) -> Node:
        """A new machine without neighbours."""
        node = self.nodes[name] = Node(self, name)
        _ip("netns", "add", node.namespace)
        _ip("-n", node.namespace, "link", "set", "lo", "up")
        return node

    def link(self, one: Node, other: Node, subnet: str) -> Link:
        """A cable: `one` has the first address of the subnet, `other` the second."""
        link = self._cable(one, other)
        network = ipaddress.ip_network(subnet)
        for node, neighbour, number in ((one, other, 1), (other, one, 2)):
            _give_address(node, neighbour.name, network[number], network.prefixlen)
        return link

    def subnet(self, name: str, subnet: str, members: dict[Node, int]) -> dict[str, Link]:
        """A switch with a cable to each member; the numbers are the last ones of their addresses."""
        switch = self.node(name)
        _ip("-n", switch.namespace, "link", "add", "name", "switch", "type", "bridge")
        _ip("-n", switch.namespace, "link", "set", "switch", "up")
        network = ipaddress.ip_network(subnet)
        links = {}
        for member, number in members.items():
            links[member.name] = self._cable(member, switch)
            _ip("-n", switch.namespace, "link", "set", switch.interfaces[member.name], "master", "switch")
            _give_address(member, name, network[number], network.prefixlen)
        return links

    def _cable(self, one: Node, other: Node) -> Link:
        for node, neighbour in ((one, other), (other, one)):
            # Names of interfaces have 15 bytes at most, and are only seen within their node.
            node.interfaces[neighbour.name] = f"to-{neighbour.name}"[:15]
        near, far = one.interfaces[other.name], other.interfaces[one.name]
        ends = ("netns", one.namespace, "type", "veth", "peer", "name", far, "netns", other.namespace)
        _ip("link", "add", near, *ends)
        for node, interface in ((one, near), (other, far)):
            _ip("-n", node.namespace, "link", "set", interface, "up")
        link = self.links[one.name, other.name] = Link(len(self.links), one, other)
        return link


def _give_address(node: Node, neighbour: str, address: object, length: int) -> None:
    node.addresses[neighbour] = str(address)
    _ip("-n", node.namespace, "addr", "add", f"{address}/{length}", "dev", node.interfaces[neighbour])


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _remove(namespace: str) -> None:
    """End all processes in it, and remove it with its links."""
    until(lambda: not _kill_all_in(namespace), what=f"the end of what runs in {namespace}")
    _ip("netns", "del", namespace)


def _kill_all_in(namespace: str) -> list[str]:
    pids = _ip("netns", "pids", namespace).split()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    return pids


def _remove_what_a_killed_process_left() -> None:
    """A test process that was killed could not clean up; its number is in the names."""
    with contextlib.suppress(FileNotFoundError):
        for file in _NAMESPACES.iterdir():
            made_by = re.match(r"prb(\d+)-", file.name)
            if made_by and not Path(f"/proc/{made_by[1]}").exists():
                with contextlib.suppress(subprocess.CalledProcessError):  # another process does the same
                    _remove(file.name)
