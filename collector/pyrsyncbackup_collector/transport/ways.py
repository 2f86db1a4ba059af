"""How the way to an agent comes about, hop by hop, each upon the one before; and where on it a failure happened.

A hop is a connection with an SSH server (directly, or through that of a jump host), a relay that passes a connection
on, or a direct one. SSH connections and relays are shared: they come from the pools that `Connections` hands in.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from pyrsyncbackup_collector.errors import BackupError, ConnectError, ConnectionLost
from pyrsyncbackup_collector.fleet.hosts import Host, hops, link_hops
from pyrsyncbackup_collector.transport import openssh, ssh_tunnel
from pyrsyncbackup_collector.transport.agent_client import AgentClient
from pyrsyncbackup_collector.transport.direct import Direct
from pyrsyncbackup_collector.transport.host_keys import HostKey, KnownHosts, Server
from pyrsyncbackup_collector.transport.relay_hop import RelayHop
from pyrsyncbackup_collector.transport.route import LOOPBACK, Link, Route

# The kernel's limit for the path of a Unix socket is 108 bytes with the closing 0.
_MAX_SOCKET_PATH = 107
# sshd drops logins by chance when ten are under way (MaxStartups 10:30:100), and others log in, too.
LOGINS_PER_SERVER = 4


@dataclass
class OpenLink:
    """An open connection with an SSH server. `hops` says how many steps away the server is."""

    link: Link
    hops: int
    below: OpenLink | None = None
    rest: ExitStack = field(default_factory=ExitStack)

    @property
    def alive(self) -> bool:
        """Whether it and all that it rests upon stand."""
        return self.link.alive and (self.below is None or self.below.alive)

    def why(self) -> ConnectError | None:
        """Why not: the deepest reason."""
        if self.below is not None and not self.below.alive:
            return self.below.why()
        error = self.link.why()
        return error.at(self.hops) if error else None

    def close(self) -> None:
        """End it, and the use of what it rests upon."""
        self.rest.close()


@dataclass
class OpenAgent:
    """An open connection with an agent, `hops` steps away, that proved to be the right one."""

    client: AgentClient
    route: Route
    hops: int
    below: OpenLink | OpenAgent | None = None
    rest: ExitStack = field(default_factory=ExitStack)
    lost: bool = False

    @property
    def alive(self) -> bool:
        """Whether it and all that it rests upon stand."""
        return not self.lost and self.route.alive and (self.below is None or self.below.alive)

    def why(self) -> ConnectError | None:
        """Why not: the deepest reason."""
        if self.below is not None and not self.below.alive and (error := self.below.why()):
            return error
        error = self.route.why()
        return error.at(self.hops) if error else None

    def lose(self) -> None:
        """What went through it found it gone."""
        self.lost = True

    def close(self) -> None:
        """End it, and the use of what it rests upon."""
        self.rest.close()


class UseLink(Protocol):
    """The pool of links: the open one of a host, for the time of a block; with `now` whatever failed before."""

    def __call__(self, host: Host, *, now: bool = False) -> AbstractContextManager[OpenLink]:
        """Raises ConnectError."""
        ...


Below = TypeVar("Below", OpenLink, OpenAgent)

UseAgent = Callable[[Host], AbstractContextManager[OpenAgent]]


class Ways:
    """Opens links and routes; closes none: they belong to the caller's stack."""

    def __init__(
        self,
        runtime: Path,
        own_known_hosts: Path,
        timeout: float,
        links: UseLink,
        agents: UseAgent,
        make_room: Callable[[Host], bool],
    ) -> None:
        """`make_room` closes something that is passed on by the relay it is given and unused, if there is such."""
        self._runtime, self._own_known_hosts, self._timeout = runtime, own_known_hosts, timeout
        self._links, self._agents, self._make_room = links, agents, make_room
        self._lock = threading.Lock()
        self._opened = 0
        self._logins: dict[Server, threading.BoundedSemaphore] = {}

    def link(self, host: Host) -> OpenLink:
        """A new connection with the SSH server of `host`. Raises ConnectError."""
        with ExitStack() as stack:
            below, through = self._jump(host, stack)
            with _numbered(link_hops(host)), self._login(host), _through(below, through):
                endpoint = through.endpoint if through else None
                known = self.known_hosts(host)
                if host.transport == "openssh":
                    link: Link = openssh.OpenSsh(host, known, self._timeout, endpoint, self._private())
                else:
                    link = ssh_tunnel.SshTunnel(host, known, self._timeout, endpoint)
            stack.callback(link.close)
            return OpenLink(link, link_hops(host), below, stack.pop_all())

    def route(
        self, host: Host, relay: Host | None, stack: ExitStack, *, now: bool = False
    ) -> tuple[Route, OpenLink | OpenAgent | None]:
        """A new way to the agent of `host`, through `relay` if one is given, and what it rests upon, both in `stack`.

        With `now` the host's own SSH server is tried whatever failed before; what others rest upon, too, is not.
        """
        if host.transport == "direct":
            return Direct(host, self._timeout), None
        if relay is None:
            link = stack.enter_context(_upon(self._links(host, now=now)))
            with _numbered(link.hops):
                forward = link.link.forward(self._socket(host), LOOPBACK, host.agent_port)
            stack.callback(forward.close)
            return forward, link
        agent = stack.enter_context(_upon(self._agents(relay)))
        with _numbered(agent.hops + 1):
            room = partial(self._make_room, relay)
            hop = RelayHop(agent.client.relay, host.peer, self._socket(host), agent.lose, room)
        stack.callback(hop.close)
        return hop, agent

    def shown_host_key(self, host: Host) -> tuple[Server, HostKey]:
        """The SSH server of `host` and the key that it shows now. Raises ConnectError."""
        with ExitStack() as stack:
            below, through = self._jump(host, stack)
            endpoint = through.endpoint if through else None
            with _numbered(link_hops(host)), self._login(host), _through(below, through):
                known = self.known_hosts(host)
                if host.transport == "openssh":
                    return openssh.shown_host_key(host, known, self._timeout, endpoint, self._private())
                return ssh_tunnel.shown_host_key(host, known, self._timeout, endpoint)

    def known_hosts(self, host: Host) -> KnownHosts:
        """Ours, then the user's."""
        users = host.ssh.known_hosts or Path("~/.ssh/known_hosts").expanduser()
        return KnownHosts(self._own_known_hosts, (users,))

    def _jump(self, host: Host, stack: ExitStack) -> tuple[OpenLink | None, Route | None]:
        """The way to the SSH server of `host` through its jump host, if it has one."""
        if host.ssh.jump is None:
            return None, None
        below = stack.enter_context(_upon(self._links(host.ssh.jump)))
        with _numbered(below.hops):
            through = below.link.forward(self._socket(host), *self._address(host))
        stack.callback(through.close)
        return below, through

    def _address(self, host: Host) -> tuple[str, int]:
        """Of its SSH server, as its jump host reaches it."""
        if host.transport == "openssh":
            return openssh.address(host, self._timeout)
        return host.address, host.ssh.port

    @contextlib.contextmanager
    def _login(self, host: Host) -> Iterator[None]:
        """A turn to log in at the server of `host`."""
        server = Server(host.address, host.ssh.port, host.ssh.jump.name if host.ssh.jump else "")
        with self._lock:
            turns = self._logins.setdefault(server, threading.BoundedSemaphore(LOGINS_PER_SERVER))
        with turns:
            yield

    def _socket(self, host: Host) -> Path:
        """A new name for a socket."""
        with self._lock:
            self._opened += 1
            name = f"{host.name}-{os.getpid()}-{self._opened}"
        path = self._private() / f"{hashlib.sha256(name.encode()).hexdigest()[:12]}.sock"
        if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
            raise BackupError(f"{path} is too long for a socket", "set `runtime` to a shorter directory")
        return path

    def _private(self) -> Path:
        runtime = self._runtime
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = runtime.stat()
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise BackupError(f"{runtime} is open to other users", f"chmod 700 {runtime}, owned by who runs this")
        return runtime


@contextlib.contextmanager
def _upon(use: AbstractContextManager[Below]) -> Iterator[Below]:
    """Use what others share, too: a failure of what rests upon it says nothing against it.

    If it is gone itself, why it is gone is the better reason.
    """
    failure: ConnectError | None = None
    with use as below:
        try:
            yield below
        except ConnectError as error:
            lost = isinstance(error, ConnectionLost) and not below.alive
            failure = (below.why() if lost else None) or error
    if failure is not None:
        raise failure


@contextlib.contextmanager
def _numbered(hop: int) -> Iterator[None]:
    """What fails in here failed at this hop, unless something below it did."""
    try:
        yield
    except ConnectError as error:
        error.at(hop)
        raise


@contextlib.contextmanager
def _through(below: OpenLink | None, route: Route | None) -> Iterator[None]:
    """A forward knows better than SSH why nobody answered at its far end, or that it was cut itself."""
    try:
        yield
    except ConnectError as error:
        better = route.why() if route is not None else None
        if better is None:
            raise
        if below is not None and isinstance(better, ConnectionLost):
            better.at(below.hops)
        raise better from error


@contextlib.contextmanager
def located(host: Host, relay: Host | None = None) -> Iterator[None]:
    """A failure on a way of several hops says at which one: "db1: hop 2 of 3: ...".

    `relay` is the one that is tried; without it the first one, where there are any.
    """
    total = hops(host, relay)
    try:
        yield
    except ConnectError as error:
        if total == 1 or error.located == host.name:
            raise
        raise error.placed(host.name, total) from error
