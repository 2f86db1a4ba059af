"""Ways over several hops, with real relays and real SSH servers on this machine: shared, kept, given up, made anew."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pyrsyncbackup_collector import errors
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.config.model import Config
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.transport import pool
from pyrsyncbackup_collector.transport.connections import Connections

from tests.support.agent import RunningAgent
from tests.support.fleet import direct_host, introduce, make_config, pin, relayed_host, ssh_host
from tests.support.sshd import Sshd, running
from tests.support.still_clock import StillClock
from tests.support.tcp import closed_port
from tests.support.waiting import until

HOSTS = [f"host{number}" for number in range(10)]


@dataclass
class Site:
    """A bastion behind an SSH server, a second relay behind it, and one agent behind both that goes by many names."""

    sshd: Sshd
    bastion: RunningAgent
    inner: RunningAgent
    agent: RunningAgent

    def know(self, config: Config) -> None:
        """Trust between all of them and the collector."""
        introduce(config, self.bastion, "bastion", "bastion2")
        introduce(config, self.inner, "inner")
        introduce(config, self.agent, *HOSTS)

    @property
    def bastion_host(self) -> Host:
        return ssh_host(self.sshd, self.bastion.port, "bastion")

    def hosts(self) -> list[Host]:
        """Behind both relays."""
        inner = relayed_host(self.bastion_host, "inner", "inner")
        return [relayed_host(inner, name, name) for name in HOSTS]

    def near_hosts(self) -> list[Host]:
        """Behind the bastion alone."""
        return [relayed_host(self.bastion_host, name, name) for name in HOSTS]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with (
        running(folder / "sshd") as sshd,
        RunningAgent(folder / "agent", name="leaf") as agent,
        RunningAgent(folder / "inner", name="inner", relay=True) as inner,
        RunningAgent(folder / "bastion", name="bastion", relay=True) as bastion,
    ):
        for relay in (inner, bastion):
            for name in HOSTS:
                relay.peer(name, agent.address)
        bastion.peer("inner", inner.address)
        inner.reload()
        bastion.reload()
        yield Site(sshd, bastion, inner, agent)


@pytest.fixture
def config(tmp_path: Path, site: Site) -> Config:
    config = make_config(tmp_path / "c")
    site.know(config)
    return config


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def connections(config: Config, clock: StillClock) -> Iterator[Connections]:
    with contextlib.closing(Connections(config, clock)) as connections:
        yield connections


def use(connections: Connections, host: Host) -> str:
    with connections.agent(host, now=True) as client:
        return client.info().name


def failure(connections: Connections, host: Host) -> errors.ConnectError:
    with pytest.raises(errors.ConnectError) as caught, connections.agent(host, now=True):
        pass
    return caught.value


# Shared


def test_hosts_behind_two_relays_share_one_ssh_login(site: Site, connections: Connections) -> None:
    logins, tcp = site.sshd.logins, site.sshd.connections
    for host in site.hosts():
        assert use(connections, host) == "leaf"
    until(lambda: site.sshd.logins > logins)
    assert (site.sshd.logins - logins, site.sshd.connections - tcp) == (1, 1)
    assert sorted(connections.open_names()) == sorted([*HOSTS, "inner", "bastion"])


def test_a_peer_that_fails_ends_nothing_that_others_share(site: Site, connections: Connections) -> None:
    inner = relayed_host(site.bastion_host, "inner", "inner")
    good = site.hosts()[0]
    use(connections, good)
    logins = site.sshd.logins
    with connections.agent(inner) as before:
        pass
    for _ in range(3):
        assert type(failure(connections, relayed_host(inner, "nobody", "nobody"))) is errors.RelayRefused
    with connections.agent(inner) as after:
        assert after is before
    assert use(connections, good) == "leaf"
    assert site.sshd.logins == logins


def test_what_others_rest_upon_is_kept_and_closed_when_it_was_idle(
    site: Site, connections: Connections, clock: StillClock
) -> None:
    first, second = site.near_hosts()[:2]
    with connections.agent(first):
        use(connections, second)
        clock.time += 1000
        connections.sweep()
        assert sorted(connections.open_names()) == ["bastion", "host0"]
        assert site.sshd.sessions
    clock.time += 121
    connections.sweep()
    assert connections.open_names() == ["bastion"]
    clock.time += 121
    connections.sweep()
    assert connections.open_names() == []
    assert site.sshd.sessions
    # The SSH connection was used until now.
    clock.time += 121
    assert connections.sweep() is None
    until(lambda: not site.sshd.sessions)
    assert use(connections, first) == "leaf"


def test_a_relay_that_lost_its_connection_is_opened_anew_for_all_behind_it(
    site: Site, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "FIRST_PAUSE", 0.0)
    first, second = site.hosts()[:2]
    use(connections, first)
    use(connections, second)
    logins = site.sshd.logins
    with pytest.raises(errors.ConnectionLost) as caught, connections.agent(first) as client:  # noqa: PT012
        site.sshd.cut()
        until(lambda: not site.sshd.sessions)
        client.info()
    assert str(caught.value) == "host0: hop 1 of 3: bastion: the SSH connection was cut (it is made anew)"
    assert use(connections, second) == "leaf"
    assert use(connections, first) == "leaf"
    assert site.sshd.logins == logins + 1


# Alternatives


def test_the_second_relay_is_used_when_the_first_fails_and_the_first_again_later(
    site: Site, config: Config, connections: Connections, tmp_path: Path, clock: StillClock
) -> None:
    with RunningAgent(tmp_path / "one", name="one", relay=True, listen=f"127.0.0.1:{closed_port()}") as one:
        introduce(config, one, "one")
        one.peer("host0", site.agent.address)
        one.reload()
        first, second = direct_host(one.port, "one"), direct_host(site.bastion.port, "bastion2")
        host = replace(relayed_host(first, "host0", "host0"), via=(first, second))
        assert connections.passes(host) == ("one",)
        assert use(connections, host) == "leaf"
        assert sorted(connections.open_names()) == ["host0", "one"]
        assert connections.passes(host) == ("one",)

        one.stop()
        with contextlib.suppress(errors.ConnectionLost):  # unless it was noticed already
            use(connections, host)
        assert use(connections, host) == "leaf"
        assert "bastion2" in connections.open_names()
        assert connections.passes(host) == ("bastion2",)

        # What stands is used, whatever would be tried first; opened anew it is the first one again.
        one.start()
        assert use(connections, host) == "leaf"
        assert connections.passes(host) == ("bastion2",)
        clock.time += 121
        connections.sweep()
        assert use(connections, host) == "leaf"
        assert connections.passes(host) == ("one",)


def test_when_no_relay_works_each_is_told(site: Site, config: Config, connections: Connections) -> None:
    gone, other = direct_host(closed_port(), "gone"), direct_host(site.bastion.port, "bastion2")
    pin(config, "gone", site.bastion.certificate_pem)
    host = replace(relayed_host(gone, "nobody", "host0"), via=(gone, other))
    error = failure(connections, host)
    assert type(error) is errors.HostUnreachable
    assert error.cause == (
        "host0: none of its 2 ways works: "
        f"hop 1 of 2: 127.0.0.1:{gone.agent_port} refuses connections; "
        f'hop 2 of 2: relay bastion2: no peer is called "nobody" here; known are {", ".join([*HOSTS, "inner"])}'
    )
    assert error.hint == "is the agent running there, on that port?"
    # And so it is for whoever is behind that host.
    behind = relayed_host(host, "x", "x")
    assert failure(connections, behind).cause == f"x: hop 1 of 3: {error.cause}"


# Which hop


def test_each_hop_that_fails_is_told_with_its_number(
    site: Site, config: Config, connections: Connections, tmp_path: Path
) -> None:
    closed = closed_port()
    bad_ssh = replace(site.bastion_host, name="bastion3", ssh=replace(site.bastion_host.ssh, port=closed))
    inner = relayed_host(site.bastion_host, "inner", "inner")
    lost = relayed_host(site.bastion_host, "lost", "lost")
    told = [
        failure(connections, relayed_host(relayed_host(bad_ssh, "inner", "inner3"), "host0", "host0")),
        failure(connections, relayed_host(lost, "host0", "host0")),
        failure(connections, relayed_host(inner, "lost", "host0")),
    ]
    known = ", ".join(HOSTS)
    assert [error.cause for error in told] == [
        f"host0: hop 1 of 3: bastion3: 127.0.0.1:{closed} refuses connections",
        f'host0: hop 2 of 3: relay bastion: no peer is called "lost" here; known are {known}, inner',
        f'host0: hop 3 of 3: relay inner: no peer is called "lost" here; known are {known}',
    ]
    assert [error.hop for error in told] == [1, 2, 3]
    assert told[2].hint == "name it in the relay's agent.toml, or correct `peer`"


def test_a_relay_that_is_backed_off_is_told_for_each_host_behind_it(site: Site, connections: Connections) -> None:
    gone = direct_host(closed_port(), "gone")
    one, two = (failure(connections, relayed_host(gone, name, name)) for name in ("web1", "web2"))
    assert one.cause.removeprefix("web1") == two.cause.removeprefix("web2")
    assert two.located == "web2"


# Jump hosts


@pytest.fixture
def jumps(tmp_path: Path) -> Iterator[list[Sshd]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(running(tmp_path / f"sshd{number}")) for number in range(3)]


def jumping(sshds: list[Sshd], port: int, name: str) -> Host:
    """A host behind the last server, which is reached through those before it."""
    host: Host | None = None
    for number, sshd in enumerate(sshds, start=1):
        last = number == len(sshds)
        made = ssh_host(sshd, port, name if last else f"jump{number}")
        host = replace(made, ssh=replace(made.ssh, jump=host))
    assert host is not None
    return host


def test_jump_hosts_lead_to_an_ssh_server_two_deep_and_are_shared(
    site: Site, connections: Connections, jumps: list[Sshd], clock: StillClock
) -> None:
    one, two = (jumping(jumps, site.agent.port, name) for name in ("host0", "host1"))
    assert use(connections, one) == "leaf"
    assert use(connections, two) == "leaf"
    until(lambda: jumps[2].logins == 2)
    assert [sshd.logins for sshd in jumps] == [1, 1, 2]
    assert connections.passes(one) == ("jump2", "jump1")
    for _ in range(4):
        clock.time += 121
        connections.sweep()
    until(lambda: not any(sshd.sessions for sshd in jumps))


def test_the_jump_host_that_fails_is_told(
    site: Site, connections: Connections, jumps: list[Sshd], clock: StillClock
) -> None:
    host = jumping(jumps, site.agent.port, "host0")
    jumps[2].kill()
    third = failure(connections, host)
    jumps[1].kill()
    while type(second := failure(connections, host)) is errors.ConnectionLost:  # until it is noticed
        assert second.cause == "host0: hop 2 of 3: jump2: the SSH connection was cut"
    jumps[1].options = ["AllowTcpForwarding no"]
    jumps[1].start()
    clock.time += 60  # jump2 waits until it is tried again
    forbidden = failure(connections, replace(host, name="host1"))
    assert [type(error) for error in (third, second, forbidden)] == [
        errors.HostUnreachable,
        errors.HostUnreachable,
        errors.SshRefused,
    ]
    silent = "its SSH server could not connect to 127.0.0.1:{}: Connect failed"
    assert third.cause == f"host0: hop 3 of 3: jump2: {silent.format(jumps[2].port)}"
    assert second.cause == f"host0: hop 2 of 3: jump1: {silent.format(jumps[1].port)}"
    assert forbidden.cause.startswith("host1: hop 3 of 3: jump2: the SSH server forbids ")


# Many at a time


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_many_threads_share_two_relays_and_nothing_is_left_of_it(site: Site, config: Config) -> None:
    def round_trip(connections: Connections) -> None:
        with ThreadPoolExecutor(40) as threads:
            names = threads.map(lambda number: use(connections, site.hosts()[number % 10]), range(200))
            assert set(names) == {"leaf"}

    with contextlib.closing(Connections(config, SystemClock())) as first:
        use(first, site.hosts()[0])  # what libraries open once
    descriptors, threads, logins = count_descriptors(), set(threading.enumerate()), site.sshd.logins
    with contextlib.closing(Connections(config, SystemClock())) as connections:
        round_trip(connections)
        assert len(connections.open_names()) == 12
    assert site.sshd.logins == logins + 1
    until(lambda: count_descriptors() <= descriptors, what="descriptors to be closed")
    until(lambda: not set(threading.enumerate()) - threads, what=f"the end of {set(threading.enumerate()) - threads}")
    assert list(config.runtime.iterdir()) == []


def test_connections_that_fail_under_load_leave_nothing(site: Site, config: Config) -> None:
    inner = relayed_host(site.bastion_host, "inner", "inner")
    with contextlib.closing(Connections(config, SystemClock())) as first:
        use(first, site.hosts()[0])
    descriptors, threads = count_descriptors(), set(threading.enumerate())
    with contextlib.closing(Connections(config, SystemClock())) as connections, ThreadPoolExecutor(20) as pool_:
        failed = pool_.map(lambda n: failure(connections, relayed_host(inner, f"no{n}", f"no{n}")), range(40))
        assert {type(error) for error in failed} == {errors.RelayRefused}
    until(lambda: count_descriptors() <= descriptors, what="descriptors to be closed")
    until(lambda: not set(threading.enumerate()) - threads, what="the end of all threads")
    assert list(config.runtime.iterdir()) == []


def test_closing_ends_openings_that_hang_and_whoever_waits_for_them(tmp_path: Path, site: Site) -> None:
    config = make_config(tmp_path / "hang", connect="8s")
    pin(config, "dead", site.agent.certificate_pem)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        dead = direct_host(silent.getsockname()[1], "dead")
        connections = Connections(config, SystemClock())
        failed: list[errors.BackupError] = []

        def attempt() -> None:
            try:
                use(connections, relayed_host(dead, "x", "x"))
            except errors.BackupError as error:
                failed.append(error)

        threads = [threading.Thread(target=attempt) for _ in range(8)]
        for thread in threads:
            thread.start()
        silent.accept()[0].close()  # one is opening
        closing = threading.Thread(target=connections.close)
        closing.start()
        closing.join(60)
        assert not closing.is_alive()
        for thread in threads:
            thread.join(60)
        assert len(failed) == 8
        stopped = [error for error in failed if "the collector is stopping" in error.cause]
        # Who was opening tells why it failed; nobody tried again after that.
        assert len(stopped) >= 7
        assert {type(error) for error in stopped} == {errors.ConnectionLost}


# A relay that is full


@pytest.fixture
def narrow(tmp_path: Path, site: Site, config: Config) -> Iterator[Host]:
    """A relay that passes on one connection at a time."""
    with RunningAgent(tmp_path / "narrow", name="narrow", relay=1) as relay:
        introduce(config, relay, "narrow")
        for name in HOSTS[:3]:
            relay.peer(name, site.agent.address)
        relay.reload()
        yield direct_host(relay.port, "narrow")


def test_a_full_relay_gets_room_by_closing_what_is_idle_behind_it(
    connections: Connections, narrow: Host, site: Site
) -> None:
    hosts = [relayed_host(narrow, name, name) for name in HOSTS[:3]]
    use(connections, site.near_hosts()[5])
    for host in (*hosts, *hosts):
        assert use(connections, host) == "leaf"
    # Nothing else was closed.
    assert sorted(connections.open_names()) == ["bastion", "host2", "host5", "narrow"]


def test_a_full_relay_is_told_when_all_behind_it_are_in_use(connections: Connections, narrow: Host) -> None:
    first, second = (relayed_host(narrow, name, name) for name in HOSTS[:2])
    with connections.agent(first):
        error = failure(connections, second)
        assert type(error) is errors.RelayBusy
        assert error.retryable
        assert error.cause == (
            "host1: hop 2 of 2: relay narrow is full: 1 connections are passed on, no more are allowed "
            "(max_connections)"
        )
        assert error.hint == "raise `max_connections` below `[relay]` in its agent.toml, or wait"
    assert use(connections, second) == "leaf"


def test_the_three_connections_of_a_first_contact_fit_through_a_relay_of_one(
    connections: Connections, narrow: Host, site: Site, config: Config
) -> None:
    (config.state / "pins" / "host0.pem").unlink()
    error = failure(connections, relayed_host(narrow, "host0", "host0"))
    assert type(error) is errors.AgentKeyUnknown
    assert "did not prove" in error.cause


# Tunnels


def test_who_waits_for_a_tunnel_gets_the_first_that_nobody_uses_any_more(site: Site, tmp_path: Path) -> None:
    config = make_config(tmp_path / "one", tunnels=1)
    introduce(config, site.agent, "host0", "host1")
    first, second = (ssh_host(site.sshd, site.agent.port, name) for name in HOSTS[:2])
    with contextlib.closing(Connections(config, SystemClock())) as connections, ThreadPoolExecutor(1) as threads:
        with connections.agent(first):
            waiting = threads.submit(use, connections, second)
            until(lambda: connections._agents._places.get("host1"))  # it is on its way
            assert not waiting.done()
        assert waiting.result(60) == "leaf"
        assert connections.open_names() == ["host1"]
