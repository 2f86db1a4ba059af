"""Open connections with agents: made when needed, shared while used, kept a while, given up with backoff.

A connection is a route (SSH tunnel or direct) and an agent client on it, whose agent proved to be the right one. Here
is decided when one is made, reused and closed, and which error names the failure: the route's own reason before that
of a TLS probe, and that before gRPC's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyrsyncbackup import identity

from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.config.model import Config
from pyrsyncbackup_collector.errors import (
    AgentRefused,
    AgentUnreachable,
    BackupError,
    ConnectError,
    ConnectionLost,
    HostKeyChanged,
    HostKeyUnknown,
)
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.transport import trust
from pyrsyncbackup_collector.transport.agent_client import AgentClient, Timeouts
from pyrsyncbackup_collector.transport.direct import Direct
from pyrsyncbackup_collector.transport.host_keys import HostKey, KnownHosts
from pyrsyncbackup_collector.transport.invitations import own_identity
from pyrsyncbackup_collector.transport.listing import Limits
from pyrsyncbackup_collector.transport.offer import AgentInfo
from pyrsyncbackup_collector.transport.route import Endpoint, Route
from pyrsyncbackup_collector.transport.ssh_tunnel import SshTunnel, shown_host_key

# A failed connection is tried again after 5 s, then twice as long each time, up to 10 minutes.
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 600.0
# The kernel's limit for the path of a Unix socket is 108 bytes with the closing 0.
_MAX_SOCKET_PATH = 107


@dataclass(frozen=True, slots=True)
class Backoff:
    """Failures in a row of one host, when (monotonic) it may be tried again, and the last error."""

    failures: int
    next_try: float
    error: ConnectError


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a host shows now. `ssh_key` None: no SSH on the way. `agent_certificate` None: `problem` says why."""

    ssh_key: HostKey | None
    ssh_trusted: bool
    agent_certificate: bytes | None = None
    pinned_certificate: bytes | None = None
    proven: bool = False
    info: AgentInfo | None = None
    problem: BackupError | None = None

    @property
    def agent_fingerprint(self) -> str:
        """The fingerprint of the agent's certificate, or nothing."""
        return identity.fingerprint(self.agent_certificate) if self.agent_certificate else ""

    @property
    def agent_trusted(self) -> bool:
        """Whether what it shows is what was pinned."""
        return self.agent_certificate is not None and self.agent_certificate == self.pinned_certificate


@dataclass
class _Connection:
    """One host's place; `lock` is held while it is being opened or closed."""

    lock: threading.Lock
    host: Host
    route: Route | None = None
    client: AgentClient | None = None
    users: int = 0
    since: float = 0
    broken: bool = False
    backoff: Backoff | None = None


class Connections:
    """All connections of one collector. Thread-safe. `close` ends them all."""

    def __init__(self, config: Config, clock: Clock) -> None:
        limits = config.limits
        self._config, self._clock = config, clock
        self._own = own_identity(config.state)
        self._trust = trust.Trust(config.state, self._own)
        self._timeouts = Timeouts(
            call=limits.connect, check=limits.check, list_idle=limits.stall, list_total=limits.list
        )
        self._entry_limits = Limits(entries=limits.max_entries)
        self._places: dict[str, _Connection] = {}
        self._changed = threading.Condition()
        self._opened = 0
        self._tunnels = 0
        self._closed = False
        self._sweeper: threading.Thread | None = None

    @contextlib.contextmanager
    def agent(self, host: Host, *, now: bool = False) -> Iterator[AgentClient]:
        """An open connection with the agent of `host`, shared with whoever else uses it.

        While the host is backed off its last error is raised again at once, unless `now`. A ConnectError that passes
        through the block ends the connection; the next use makes it anew.
        """
        place = self._enter(host)
        try:
            yield self._client(place, host, now)
        except ConnectionLost as error:
            place.broken = True
            # The route may know better than gRPC, to which every end is a socket that was closed.
            route = place.route
            if route is not None and not route.alive and (better := route.why()):
                raise better from error
            raise
        except ConnectError:
            place.broken = True
            raise
        finally:
            self._leave(place)

    def backoff(self, name: str) -> Backoff | None:
        """The failures in a row of the host of that name; None if the last connection came about."""
        place = self._places.get(name)
        return place.backoff if place else None

    def open_count(self) -> int:
        """How many connections are open."""
        return sum(place.client is not None for place in list(self._places.values()))

    @contextlib.contextmanager
    def endpoint(self, host: Host) -> Iterator[Endpoint]:
        """A route of its own to the agent's port, for other programs; ends with the block."""
        route = self._route(host)
        try:
            yield route.endpoint
        finally:
            route.close()

    def credentials(self, host: Host) -> tuple[Path, Path, Path, str]:
        """For other programs: files of our certificate, our key, the host's pin, and the name in that pin."""
        pinned = self._trust.pinned(host.name)
        if pinned is None:
            raise BackupError(f"{host.name}: no key is pinned yet", f"run `pyrsyncbackup host trust {host.name}`")
        directory, pin = self._config.state / "identity", self._config.state / "pins" / f"{host.name}.pem"
        name = identity.certificate_name(pinned)
        return directory / identity.CERTIFICATE_FILE, directory / identity.KEY_FILE, pin, name

    def inspect(self, host: Host) -> Inspection:
        """What the host shows now, trusted or not. Raises ConnectError if not even its SSH server answers.

        The agent is asked only through an SSH server whose key is trusted.
        """
        ssh_key, ssh_trusted, pinned = None, True, self._trust.pinned(host.name)
        if host.transport == "sshtunnel":
            known = self._known_hosts(host)
            ssh_key = shown_host_key(host, known, self._timeouts.call)
            try:
                known.check(host.name, host.address, host.ssh.port, ssh_key)
            except (HostKeyUnknown, HostKeyChanged) as error:
                return Inspection(ssh_key, False, pinned_certificate=pinned, problem=error)
        try:
            with contextlib.closing(self._route(host)) as route:
                shown = self._shown(host, route)
                try:
                    info = self._ask(host, route, shown)
                except ConnectError as error:
                    return Inspection(ssh_key, ssh_trusted, shown, pinned, problem=error)
        except ConnectError as error:
            return Inspection(ssh_key, ssh_trusted, pinned_certificate=pinned, problem=error)
        proven = self._trust.proven(host.name, shown, info.proof)
        return Inspection(ssh_key, ssh_trusted, shown, pinned, proven, info)

    def host_key(self, host: Host) -> HostKey:
        """The key that the host's SSH server shows now. Raises HostKeyUnknown or HostKeyChanged for a wrong one."""
        known = self._known_hosts(host)
        key = shown_host_key(host, known, self._timeouts.call)
        known.check(host.name, host.address, host.ssh.port, key)
        return key

    def trust_ssh_key(self, host: Host, key: HostKey, *, replace: bool = False) -> None:
        """From now on `key` is right for the host's SSH server. Raises HostKeyChanged without `replace`."""
        self._known_hosts(host).trust(host.name, host.address, host.ssh.port, key, replace=replace)
        self._forget(host.name)

    def pin(self, host: Host, certificate_pem: bytes, *, replace: bool = False) -> None:
        """From now on this certificate is right for the host's agent. Raises AgentKeyChanged without `replace`."""
        self._trust.pin(host.name, certificate_pem, replace=replace)
        self._forget(host.name)

    def sweep(self) -> float | None:
        """Close what was idle for `limits.idle`; return the seconds until the next, None if nothing is open."""
        idle, pauses = self._config.limits.idle, []
        for place in list(self._places.values()):
            left = place.since + idle - self._clock.monotonic()
            if place.client is not None and not place.users and left <= 0:
                self._shut(place)
            elif place.client is not None:
                pauses.append(idle if place.users else left)
        return min(pauses, default=None)

    def close(self) -> None:
        """End all connections, also those in use, and the thread that closes idle ones."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for place in list(self._places.values()):
            self._shut(place, used_too=True)
        if self._sweeper is not None:
            self._sweeper.join()

    def _enter(self, host: Host) -> _Connection:
        with self._changed:
            if self._closed:
                raise ConnectionLost(f"{host.name}: the collector is stopping", "start it again")
            place = self._places.setdefault(host.name, _Connection(threading.Lock(), host))
            place.users += 1
            return place

    def _leave(self, place: _Connection) -> None:
        with self._changed:
            place.users -= 1
            place.since = self._clock.monotonic()
            self._changed.notify_all()
        if place.broken and not place.users:
            self._shut(place)

    def _client(self, place: _Connection, host: Host, now: bool) -> AgentClient:
        with place.lock:
            dead = place.route is not None and not place.route.alive
            # Who else uses a dead one has lost it, too; others keep theirs until they are done.
            if dead or (place.users == 1 and (place.broken or place.host != host)):
                self._drop(place)
            if place.client is not None:
                return place.client
            backoff = None if now or place.host != host else place.backoff
            if backoff is not None and self._clock.monotonic() < backoff.next_try:
                raise type(backoff.error)(backoff.error.cause, backoff.error.hint)
            place.host = host
            try:
                self._open(place, host)
            except ConnectError as error:
                place.backoff = self._backed_off(place.backoff, error)
                raise
            place.backoff, place.broken = None, False
            assert place.client is not None  # noqa: S101 - _open made it
            return place.client

    def _backed_off(self, before: Backoff | None, error: ConnectError) -> Backoff:
        failures = before.failures + 1 if before else 1
        pause = min(_FIRST_PAUSE * 2 ** min(failures - 1, 16), _LONGEST_PAUSE)
        return Backoff(failures, self._clock.monotonic() + pause, error)

    def _open(self, place: _Connection, host: Host) -> None:
        tunnel = host.transport == "sshtunnel"
        if tunnel:
            self._make_room(host)
        try:
            place.route = self._route(host)
            try:
                place.client = self._trusted_client(host, place.route)
            except BaseException:
                place.route.close()
                place.route = None
                raise
        except BaseException:
            if tunnel:
                self._one_tunnel_less()
            raise
        self._start_sweeper()

    def _make_room(self, host: Host) -> None:
        """Wait until one more tunnel may be open, closing the one that is idle for longest."""
        deadline = self._clock.monotonic() + self._timeouts.call
        while True:
            with self._changed:
                if self._tunnels < self._config.limits.tunnels:
                    self._tunnels += 1
                    return
                idle = [place for place in self._places.values() if self._is_idle_tunnel(place)]
                left = deadline - self._clock.monotonic()
                if not idle and (left <= 0 or not self._changed.wait(left)):
                    raise ConnectError(
                        f"{host.name}: all {self._tunnels} tunnels are in use", "raise `limits.tunnels`, or wait"
                    )
            if idle:
                self._shut(min(idle, key=lambda place: place.since))

    @staticmethod
    def _is_idle_tunnel(place: _Connection) -> bool:
        return not place.users and place.client is not None and place.host.transport == "sshtunnel"

    def _one_tunnel_less(self) -> None:
        with self._changed:
            self._tunnels -= 1
            self._changed.notify_all()

    def _route(self, host: Host) -> Route:
        if host.transport == "direct":
            return Direct(host, self._timeouts.call)
        runtime = self._config.runtime
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = runtime.stat()
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise BackupError(f"{runtime} is open to other users", f"chmod 700 {runtime}, owned by who runs this")
        with self._changed:
            self._opened += 1
            name = f"{host.name}-{os.getpid()}-{self._opened}"
        path = runtime / f"{hashlib.sha256(name.encode()).hexdigest()[:12]}.sock"
        if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
            raise BackupError(f"{path} is too long for a socket", "set `runtime` to a shorter directory")
        return SshTunnel(host, path, self._known_hosts(host), self._timeouts.call)

    def _known_hosts(self, host: Host) -> KnownHosts:
        users = host.ssh.known_hosts or Path("~/.ssh/known_hosts").expanduser()
        return KnownHosts(self._config.state / "known_hosts", (users,))

    def _trusted_client(self, host: Host, route: Route) -> AgentClient:
        """A client of the right agent, which answered; or the error that says best why not."""
        pinned = self._trust.pinned(host.name)
        if pinned is None:
            pinned = self._first_contact(host, route)
        client = self._new_client(host, route, pinned)
        try:
            client.checked_info(self._timeouts.call)
        except (ConnectionLost, AgentRefused) as error:
            client.close()
            raise self._diagnosis(host, route, pinned, error) from error
        except BaseException:
            client.close()
            raise
        return client

    def _first_contact(self, host: Host, route: Route) -> bytes:
        shown = self._shown(host, route)
        info = self._ask(host, route, shown)
        if host.trust != "first-use":
            raise trust.key_unknown(host.name, shown, "`trust` is set to pinned keys only")
        if not self._trust.proven(host.name, shown, info.proof):
            raise trust.key_unknown(host.name, shown, "it did not prove to hold an invitation of ours")
        self._trust.pin(host.name, shown)
        return shown

    def _shown(self, host: Host, route: Route) -> bytes:
        try:
            return self._trust.shown(host.name, route.endpoint, self._timeouts.call)
        except AgentUnreachable as error:
            raise route.why() or error from error

    def _ask(self, host: Host, route: Route, certificate_pem: bytes) -> AgentInfo:
        """Who answers with exactly this certificate."""
        client = self._new_client(host, route, certificate_pem)
        try:
            return client.info(self._timeouts.call)
        finally:
            client.close()

    def _diagnosis(self, host: Host, route: Route, pinned: bytes, error: ConnectError) -> ConnectError:
        try:
            shown = self._shown(host, route)
        except ConnectError as better:
            return better
        return trust.key_changed(host.name, pinned, shown) if shown != pinned else error

    def _new_client(self, host: Host, route: Route, certificate_pem: bytes) -> AgentClient:
        return AgentClient(
            route.endpoint.target,
            host=host.name,
            identity=self._own,
            agent_certificate=certificate_pem,
            clock=self._clock,
            limits=self._entry_limits,
            timeouts=self._timeouts,
        )

    def _forget(self, name: str) -> None:
        """Trust has changed: the next use begins anew."""
        place = self._places.get(name)
        if place is not None:
            place.backoff, place.broken = None, True
            self._shut(place)

    def _shut(self, place: _Connection, *, used_too: bool = False) -> None:
        with place.lock:
            if used_too or not place.users:
                self._drop(place)

    def _drop(self, place: _Connection) -> None:
        """Close it; the place's lock is held."""
        client, route, place.client, place.route = place.client, place.route, None, None
        if client is not None:
            client.close()
        if route is not None:
            route.close()
            if place.host.transport == "sshtunnel":
                self._one_tunnel_less()

    def _start_sweeper(self) -> None:
        with self._changed:
            if self._sweeper is None and not self._closed:
                self._sweeper = threading.Thread(target=self._sweep_on, name="idle-connections", daemon=True)
                self._sweeper.start()
            self._changed.notify_all()

    def _sweep_on(self) -> None:
        while True:
            pause = self.sweep()
            with self._changed:
                if self._closed:
                    return
                self._changed.wait(pause if pause is None else max(pause, 0.1))
