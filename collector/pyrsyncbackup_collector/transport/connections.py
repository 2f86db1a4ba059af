"""Open connections with agents: what everything above asks for, and what is known of a host's keys.

A connection is a way (`ways`) and a client on it whose agent showed to be the right one (`contact`). What is shared
between hosts, SSH connections and relays, lies in pools, and is held by whatever rests upon it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pyrsyncbackup import identity

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.config.model import Config
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import (
    AgentKeyUnknown,
    BackupError,
    ConnectError,
    ConnectionLost,
    HostKeyChanged,
    HostKeyUnknown,
)
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.transport import trust
from pyrsyncbackup_collector.transport.agent_client import AgentClient
from pyrsyncbackup_collector.transport.contact import Contact
from pyrsyncbackup_collector.transport.host_keys import HostKey, Server
from pyrsyncbackup_collector.transport.invitations import own_identity
from pyrsyncbackup_collector.transport.offer import AgentInfo
from pyrsyncbackup_collector.transport.pool import Backoff, Pool
from pyrsyncbackup_collector.transport.route import Endpoint
from pyrsyncbackup_collector.transport.ways import OpenAgent, OpenLink, Ways, located

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a host shows now. No `ssh_server`: it is reached otherwise. No `agent_certificate`: `problem` says why."""

    ssh_server: Server | None
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


class Connections:
    """All connections of one collector. Thread-safe. `close` ends them all."""

    def __init__(self, config: Config, clock: Clock) -> None:
        own = own_identity(config.state)
        self._config, self._clock = config, clock
        self._trust = trust.Trust(config.state, own)
        self._contact = Contact(config, own, self._trust, clock)
        idle = config.limits.idle
        self._links: Pool[OpenLink] = Pool(self._open_link, clock, idle, self._one_more_unused)
        self._agents: Pool[OpenAgent] = Pool(self._open_agent, clock, idle, self._one_more_unused)
        self._ways = Ways(
            config.runtime, config.state / "known_hosts", config.limits.connect,
            self._links.use, self._agents.use, self._make_room_at,
        )  # fmt: skip
        # The last relay on the way that was opened last, by host.
        self._used: dict[str, str] = {}
        # The stamp of the pin that the agent was opened with, by host.
        self._pinned: dict[str, tuple[int, int, int]] = {}
        self._changed = threading.Condition()
        self._room = threading.Condition()
        self._tunnels = 0
        # Counts what became unused or was closed: who looked for such and found none knows whether it looked too early.
        self._unused = 0
        self._closed = False
        self._sweeper: threading.Thread | None = None

    @contextlib.contextmanager
    def agent(self, host: Host, *, now: bool = False) -> Iterator[AgentClient]:
        """An open connection with the agent of `host`, shared with whoever else uses it.

        While the host is backed off its last error is raised again at once, unless `now`. A ConnectError that passes
        through the block ends the connection; the next use makes it anew. So does a pin that another process wrote.
        """
        pinned = self._pinned.get(host.name)
        if pinned is not None and pinned != self._trust.stamp(host.name):
            self._pinned.pop(host.name, None)
            self._agents.forget(host.name)
        with located(host), self._agents.use(host, now=now) as agent:
            yield agent.client

    @contextlib.contextmanager
    def link(self, host: Host, *, now: bool = False) -> Iterator[None]:
        """An open connection with the SSH server of `host`, kept for whoever needs it within the block."""
        with self._links.use(host, now=now):
            yield

    def backoff(self, name: str) -> Backoff | None:
        """The failures in a row of the host of that name; None if the last connection came about."""
        return self._agents.backoff(name)

    def passes(self, host: Host) -> tuple[str, ...]:
        """The names of the hosts that the way to `host` leads through: as it is open, else as it would be tried."""
        relay = next((relay for relay in host.via if relay.name == self._used.get(host.name)), None)
        through: list[str] = []
        for hop in host.via[:1] if relay is None else (relay,):
            through += [*self.passes(hop), hop.name]
        jump = host.ssh.jump
        while jump is not None:
            through.append(jump.name)
            jump = jump.ssh.jump
        return tuple(through)

    def open_names(self) -> list[str]:
        """The hosts with whose agents a connection is open."""
        return self._agents.open_names()

    @contextlib.contextmanager
    def endpoint(self, host: Host, relay: Host | None = None) -> Iterator[Endpoint]:
        """A way to the agent's port, for other programs; ends with the block. Raises ConnectError.

        Through `relay`, if one is given, else through the first one that works.
        """
        with ExitStack() as stack:

            def open_through(relay: Host | None) -> Endpoint:
                return self._ways.route(host, relay, stack, now=True)[0].endpoint

            with located(host, relay):
                endpoint = open_through(relay) if relay else self._first_that_works(host, open_through)
            yield endpoint

    def credentials(self, host: Host) -> tuple[Path, Path, Path, str]:
        """For other programs: files of our certificate, our key, the host's pin, and the name in that pin."""
        pinned = self._trust.pinned(host.name)
        if pinned is None:
            raise AgentKeyUnknown(f"{host.name}: no key is pinned yet", f"run `pyrsyncbackup host trust {host.name}`")
        directory, pin = self._config.state / "identity", self._config.state / "pins" / f"{host.name}.pem"
        name = identity.certificate_name(pinned)
        return directory / identity.CERTIFICATE_FILE, directory / identity.KEY_FILE, pin, name

    def inspect(self, host: Host) -> Inspection:
        """What the host shows now, trusted or not. Raises ConnectError if not even its SSH server answers.

        The agent is asked only through an SSH server whose key is trusted.
        """
        server, ssh_key, pinned = None, None, self._trust.pinned(host.name)
        if host.transport in ("sshtunnel", "openssh"):
            with located(host):
                server, ssh_key = self._ways.shown_host_key(host)
            try:
                self._ways.known_hosts(host).check(host.name, server, ssh_key)
            except (HostKeyUnknown, HostKeyChanged) as error:
                return Inspection(server, ssh_key, False, pinned_certificate=pinned, problem=error)
        shown: bytes | None = None

        def ask(relay: Host | None) -> Inspection:
            nonlocal shown
            last = relay.name if relay else ""
            with ExitStack() as stack:
                route, _ = self._ways.route(host, relay, stack, now=True)
                shown = self._contact.shown(host, route, last)
                info = self._contact.ask(host, route, shown)
                proven = self._trust.proven(host.name, shown, info.proof, last)
                return Inspection(server, ssh_key, True, shown, pinned, proven, info)

        try:
            with located(host):
                return self._first_that_works(host, ask)
        except ConnectError as error:
            return Inspection(server, ssh_key, True, shown, pinned, problem=error)

    def host_key(self, host: Host) -> HostKey:
        """The key that the host's SSH server shows now. Raises HostKeyUnknown or HostKeyChanged for a wrong one."""
        with located(host):
            server, key = self._ways.shown_host_key(host)
            self._ways.known_hosts(host).check(host.name, server, key)
            return key

    def trust_ssh_key(self, host: Host, server: Server, key: HostKey, *, replace: bool = False) -> None:
        """From now on `key` is right for the SSH server of `host`. Raises HostKeyChanged without `replace`."""
        self._ways.known_hosts(host).trust(host.name, server, key, replace=replace)
        self.forget(host.name)

    def pin(self, host: Host, certificate_pem: bytes, *, replace: bool = False) -> None:
        """From now on this certificate is right for the host's agent. Raises AgentKeyChanged without `replace`."""
        self._trust.pin(host.name, certificate_pem, replace=replace)
        self.forget(host.name)

    def is_pinned(self, host: Host) -> bool:
        """Whether a key of its agent is pinned."""
        return self._trust.pinned(host.name) is not None

    def changed(self, host: Host, pinned: bytes, shown: bytes) -> BackupError:
        """The refusal of another key than the pinned one."""
        return self._trust.changed(host.name, pinned, shown)

    def sweep(self) -> float | None:
        """Close what was idle for `limits.idle`; return the seconds until the next, None if nothing is open."""
        pauses = [pause for pool in (self._agents, self._links) if (pause := pool.sweep()) is not None]
        return min(pauses, default=None)

    def close(self) -> None:
        """End all connections, also those in use, and the thread that closes idle ones."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        with self._room:
            self._room.notify_all()
        self._agents.close()
        self._links.close()
        if self._sweeper is not None:
            self._sweeper.join()

    def _open_agent(self, host: Host, now: bool) -> OpenAgent:
        def through(relay: Host | None) -> OpenAgent:
            with ExitStack() as stack:
                route, below = self._ways.route(host, relay, stack, now=now)
                total = 1 if below is None else below.hops if relay is None else below.hops + 1
                try:
                    client = self._contact.client(host, route, relay.name if relay else "")
                except ConnectError as error:
                    error.at(total)
                    raise
                stack.callback(client.close)
                self._used[host.name] = relay.name if relay else ""
                return OpenAgent(client, route, total, below, stack.pop_all())

        before = self._trust.stamp(host.name)
        agent = self._first_that_works(host, through)
        # The first contact has just pinned it.
        if (stamp := before or self._trust.stamp(host.name)) is not None:
            self._pinned[host.name] = stamp
        self._start_sweeper()
        return agent

    def _first_that_works(self, host: Host, work: Callable[[Host | None], T]) -> T:
        """Do `work` with the relays that lead to `host` in turn until it succeeds; without one where there is none."""
        errors: list[ConnectError] = []
        for relay in host.via or (None,):
            if len(host.via) < 2:
                return work(relay)
            try:
                with located(host, relay):
                    return work(relay)
            except ConnectError as error:
                errors.append(error)
                cause, hint = printable(error.cause), printable(error.hint)
                logs.get().warning("way failed", host=host.name, cause=cause, next=hint)
        raise _none_works(host, errors)

    def _open_link(self, host: Host, _: bool) -> OpenLink:
        if host.transport == "openssh":
            return self._ways.link(host)
        self._make_room(host)
        try:
            link = self._ways.link(host)
        except BaseException:
            self._one_tunnel_less()
            raise
        link.rest.callback(self._one_tunnel_less)
        return link

    def _make_room(self, host: Host) -> None:
        """Wait until one more tunnel may be open, closing the one that is idle for longest."""
        deadline = self._clock.monotonic() + self._config.limits.connect
        while True:
            with self._room:
                if self._tunnels < self._config.limits.tunnels:
                    self._tunnels += 1
                    return
                seen = self._unused
            # An idle agent first: it may be the only one that uses its tunnel.
            if self._agents.close_idle(_needs_tunnel) | self._links.close_idle(_is_tunnel):
                continue
            with self._room:
                left = deadline - self._clock.monotonic()
                if self._closed:
                    raise ConnectionLost(f"{host.name}: the collector is stopping", "start it again")
                if self._unused == seen and (left <= 0 or not self._room.wait(left)):
                    raise ConnectError(
                        f"{host.name}: all {self._tunnels} tunnels are in use", "raise `limits.tunnels`, or wait"
                    )

    def _make_room_at(self, relay: Host) -> bool:
        """Close the connection behind this relay that is idle for longest; whether there was one."""
        return self._agents.close_idle(lambda host: bool(host.via) and self._used.get(host.name) == relay.name)

    def _one_tunnel_less(self) -> None:
        with self._room:
            self._tunnels -= 1
        self._one_more_unused()

    def _one_more_unused(self) -> None:
        with self._room:
            self._unused += 1
            self._room.notify_all()

    def forget(self, name: str) -> None:
        """What a host was opened with has changed, or it is none: the next use begins anew."""
        self._agents.forget(name)
        self._links.forget(name)

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


def _none_works(host: Host, errors: list[ConnectError]) -> ConnectError:
    """One error for all ways that failed: of the kind of one that may pass, if there is one."""
    chief = next((error for error in errors if error.retryable), errors[0])
    ways = "; ".join(error.cause.removeprefix(f"{host.name}: ") for error in errors)
    error = chief.anew(f"{host.name}: none of its {len(errors)} ways works: {ways}")
    error.located, error.plain = host.name, ""
    return error


def _is_tunnel(host: Host) -> bool:
    return host.transport != "openssh"


def _needs_tunnel(host: Host) -> bool:
    """Whether the way to its agent begins with a tunnel of sshtunnel's."""
    return any(_needs_tunnel(relay) for relay in host.via) if host.via else host.transport == "sshtunnel"
