"""What goes wrong at a relay, or is done by one that was taken over, as the collector tells it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from pyrsyncbackup import identity
from pyrsyncbackup.v1 import relay_pb2
from pyrsyncbackup_collector import errors
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.config.model import Config
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.transport.connections import Connections
from pyrsyncbackup_collector.transport.invitations import invite, own_identity

from tests.support.agent import RunningAgent
from tests.support.fleet import direct_host, introduce, make_config, pin, relayed_host
from tests.support.hostile_relay import CONNECTED, HostileRelay, message, relaying
from tests.support.plain_agent import PlainAgent, serving
from tests.support.tcp import closed_port
from tests.support.waiting import until

BEHIND = "web1: hop 2 of 2: "
LOOK = "look at its agent's log"
NO_TLS = "what listens on the agent's port does not speak TLS 1.3 as an agent does"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    with RunningAgent(tmp_path_factory.mktemp("relay"), name="bastion", relay=True) as relay:
        yield relay


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    with RunningAgent(tmp_path_factory.mktemp("agent"), name="leaf") as agent:
        yield agent


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> str:
    """How long an answer is waited for: briefly only where none comes."""
    silent = request.node.callspec.params.get("nonsense") in SILENT if hasattr(request.node, "callspec") else False
    return "4s" if silent else "60s"


@pytest.fixture
def config(tmp_path: Path, relay: RunningAgent, agent: RunningAgent, connect: str) -> Config:
    config = make_config(tmp_path / "c", connect=connect)
    introduce(config, relay, "bastion")
    introduce(config, agent)
    return config


@pytest.fixture
def connections(config: Config) -> Iterator[Connections]:
    with contextlib.closing(Connections(config, SystemClock())) as connections:
        yield connections


@pytest.fixture
def behind(relay: RunningAgent) -> Iterator[Host]:
    """web1 as the real relay's peer; `offer` says where that is."""
    yield relayed_host(direct_host(relay.port, "bastion"), "web1")
    for file in relay.peers_dir.iterdir():
        file.unlink()
    relay.reload()


def offer(relay: RunningAgent, address: str, name: str = "web1") -> None:
    relay.peer(name, address)
    relay.reload()


@pytest.fixture
def hostile(tmp_path: Path, config: Config) -> Iterator[HostileRelay]:
    relay = HostileRelay(tmp_path / "hostile")
    with relaying(relay, [own_identity(config.state).certificate_pem]):
        pin(config, "evil", relay.identity.certificate_pem)
        yield relay


def via(relay: HostileRelay, name: str = "web1") -> Host:
    return relayed_host(direct_host(relay.port, "evil"), name, name)


def failure(connections: Connections, host: Host) -> tuple[type[errors.BackupError], str, str, bool]:
    with pytest.raises(errors.BackupError) as caught, connections.agent(host, now=True):
        pass
    error = caught.value
    assert isinstance(error, errors.ConnectError)
    return type(error), error.cause, error.hint, error.retryable


# Honest relays with nothing behind them


def test_a_peer_that_is_not_offered(connections: Connections, relay: RunningAgent, behind: Host) -> None:
    offer(relay, "127.0.0.1:9", "db1")
    assert failure(connections, behind) == (
        errors.RelayRefused,
        BEHIND + 'relay bastion: no peer is called "web1" here; known are db1',
        "name it in the relay's agent.toml, or correct `peer`",
        False,
    )


def test_a_peer_that_refuses(connections: Connections, relay: RunningAgent, behind: Host) -> None:
    address = f"127.0.0.1:{closed_port()}"
    offer(relay, address)
    assert failure(connections, behind) == (
        errors.PeerUnreachable,
        BEHIND + f"relay bastion could not connect to {address}: connection refused",
        "is the agent running there, and does it listen on that address?",
        True,
    )


@pytest.mark.parametrize("connect", ["4s"])
def test_a_peer_that_swallows_everything(connections: Connections, relay: RunningAgent, behind: Host) -> None:
    with socket.socket() as full, socket.socket() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting.connect(full.getsockname())  # all that it takes
        offer(relay, f"127.0.0.1:{full.getsockname()[1]}")
        assert failure(connections, behind) == (
            errors.PeerUnreachable,
            BEHIND + "relay bastion said nothing of web1 for 4 s",
            LOOK,
            True,
        )


def test_an_agent_that_is_no_relay(connections: Connections, agent: RunningAgent, config: Config) -> None:
    pin(config, "leaf", agent.certificate_pem)
    assert failure(connections, relayed_host(direct_host(agent.port, "leaf"), "web1")) == (
        errors.RelayRefused,
        BEHIND + "leaf is no relay: this agent has no relay mode; set [relay] enabled = true in its agent.toml",
        "set `enabled = true` below `[relay]` in its agent.toml, and restart it",
        False,
    )


def test_an_agent_behind_a_relay_that_does_not_trust_us(
    connections: Connections, relay: RunningAgent, behind: Host, tmp_path: Path
) -> None:
    own = identity.load_or_create(tmp_path / "other")
    with serving(PlainAgent(own), [identity.create()[1]]) as other:
        offer(relay, other.address)
        assert failure(connections, behind) == (
            errors.AgentRefused,
            BEHIND + f"the agent ({own.fingerprint}) does not trust this collector",
            "on the host, run `pyrsyncbackup-agent accept` with the output of "
            "`pyrsyncbackup invitation web1 --via bastion`",
            False,
        )


def test_a_relay_that_does_not_trust_us(connections: Connections, tmp_path: Path) -> None:
    own = identity.load_or_create(tmp_path / "other")
    with serving(PlainAgent(own), [identity.create()[1]]) as other:
        relay = direct_host(int(other.address.rpartition(":")[2]), "bastion9")
        assert failure(connections, relayed_host(relay, "web1")) == (
            errors.AgentRefused,
            f"web1: hop 1 of 2: bastion9: the agent ({own.fingerprint}) does not trust this collector",
            "on the host, run `pyrsyncbackup-agent accept` with the output of `pyrsyncbackup invitation`",
            False,
        )


# Relays that send nonsense


def no_tls(peer, requests, context):
    context.send_initial_metadata(CONNECTED)
    yield message(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n")


def no_message(peer, requests, context):
    context.send_initial_metadata(CONNECTED)
    yield b"\xff\xff\xff\xff"


def ends_at_once(peer, requests, context):
    context.send_initial_metadata(CONNECTED)
    return
    yield


def ends_without_a_word(peer, requests, context):
    return
    yield


def says_nothing(peer, requests, context):
    ended = threading.Event()
    context.add_callback(ended.set)
    ended.wait(60)
    return
    yield


def connected_and_silent(peer, requests, context):
    context.send_initial_metadata(CONNECTED)
    yield from says_nothing(peer, requests, context)


def floods(peer, requests, context):
    context.send_initial_metadata(CONNECTED)
    while context.is_active():
        yield message(b"\0" * 65536)


def fails(peer, requests, context):
    raise RuntimeError("\x1b[2Jsomething broke")


WRONG_ADDRESS = "correct the address of web1 in the agent.toml of evil"
NONSENSE = {
    no_tls: (errors.AgentUnreachable, NO_TLS, WRONG_ADDRESS, True),
    no_message: (
        errors.RelayRefused,
        "relay evil misbehaves: the agent sent an answer that cannot be read",
        LOOK,
        False,
    ),
    ends_at_once: (errors.AgentUnreachable, NO_TLS, WRONG_ADDRESS, True),
    ends_without_a_word: (errors.AgentUnreachable, NO_TLS, WRONG_ADDRESS, True),
    says_nothing: (errors.PeerUnreachable, "relay evil said nothing of web1 for 4 s", LOOK, True),
    connected_and_silent: (
        errors.AgentUnreachable,
        "the agent's port accepts connections and says nothing",
        "look at the agent's log on the host",
        True,
    ),
    floods: (errors.AgentUnreachable, NO_TLS, WRONG_ADDRESS, True),
    fails: (
        errors.RelayRefused,
        "relay evil misbehaves: the agent failed: Exception iterating responses: \\x1b[2Jsomething broke",
        LOOK,
        False,
    ),
}


SILENT = (says_nothing, connected_and_silent)


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda nonsense: nonsense.__name__)
def test_nonsense_is_told_as_such(
    connections: Connections, hostile: HostileRelay, agent: RunningAgent, config: Config, nonsense, pinned: bool
) -> None:
    hostile.connect = nonsense
    if pinned:
        pin(config, "web1", agent.certificate_pem)
    kind, cause, hint, retryable = NONSENSE[nonsense]
    assert failure(connections, via(hostile)) == (kind, BEHIND + cause, hint, retryable)
    assert list(config.runtime.iterdir()) == []
    # Others behind it are not harmed.
    hostile.connect, hostile.peers = hostile.pass_on, {"web2": agent.address}
    pin(config, "web2", agent.certificate_pem)
    with connections.agent(via(hostile, "web2"), now=True) as client:
        assert client.info().name == "leaf"


def test_a_status_that_no_relay_gives_stays_short_and_paints_no_terminal(
    connections: Connections, hostile: HostileRelay
) -> None:
    words = "\x1b[31mgo away" + "x" * 2_000
    hostile.connect = lambda peer, requests, context: context.abort(grpc.StatusCode.DATA_LOSS, words)
    kind, cause, hint, _ = failure(connections, via(hostile))
    assert (kind, hint) == (errors.RelayRefused, LOOK)
    assert cause.startswith(BEHIND + "relay evil misbehaves: ")
    assert "\x1b" not in cause


def test_what_is_offered_by_a_hostile_relay_is_looked_at_twice(connections: Connections, hostile: HostileRelay) -> None:
    names = ["../../etc", "WEB", "", "a" * 64, "web2", "web2", "\x1b[2J"]
    peers = [relay_pb2.Peer(name=name, title="\x1b[2Jt" * 200, reason="r\n" * 500, connect_us=10**18) for name in names]
    hostile.list = lambda: relay_pb2.ListPeersResponse(peers=peers).SerializeToString()
    with connections.agent(direct_host(hostile.port, "evil")) as client:
        (peer,) = client.relay.peers(5)
        hostile.list = lambda: b"\xff\xff\xff"
        with pytest.raises(errors.RelayRefused, match="relay evil misbehaves: the agent sent an answer") as caught:
            client.relay.peers(5)
    assert peer.name == "web2"
    assert "\x1b" not in peer.title
    assert "\n" not in peer.reason
    assert len(peer.title) < 1000
    assert caught.value.hint == LOOK


def test_a_message_that_is_too_large_is_not_taken_for_a_full_relay(
    connections: Connections, hostile: HostileRelay
) -> None:
    hostile.list = lambda: bytes(5 << 20)
    with (
        connections.agent(direct_host(hostile.port, "evil")) as client,
        pytest.raises(errors.RelayRefused, match="relay evil misbehaves: the agent sent a message that is too large"),
    ):
        client.relay.peers(5)


def test_a_slow_relay_is_waited_for(
    connections: Connections, hostile: HostileRelay, agent: RunningAgent, config: Config
) -> None:
    def slow(peer, requests, context):
        for data in hostile.pass_on(peer, requests, context):
            for start in range(0, len(data), 700):
                threading.Event().wait(0.02)
                yield message(payload(data)[start : start + 700])

    def payload(data: bytes) -> bytes:
        return relay_pb2.ConnectResponse.FromString(data).data

    hostile.connect, hostile.peers = slow, {"web1": agent.address}
    pin(config, "web1", agent.certificate_pem)
    with connections.agent(via(hostile)) as client:
        assert client.info().name == "leaf"


def test_a_relay_that_cuts_in_the_middle_costs_one_connection(
    connections: Connections, hostile: HostileRelay, agent: RunningAgent, config: Config
) -> None:
    cut = threading.Event()

    def cutting(peer, requests, context):
        for data in hostile.pass_on(peer, requests, context):
            yield data
            if cut.is_set():
                return

    hostile.connect, hostile.peers = cutting, {"web1": agent.address}
    pin(config, "web1", agent.certificate_pem)
    with pytest.raises(errors.ConnectionLost) as caught, connections.agent(via(hostile)) as client:  # noqa: PT012
        cut.set()
        client.modules()
        client.modules()
    assert caught.value.cause.startswith(BEHIND)
    assert caught.value.retryable
    cut.clear()
    with connections.agent(via(hostile), now=True) as client:
        assert client.info().name == "leaf"
    assert "evil" in connections.open_names()


# Relays that lead astray


def test_a_pinned_host_is_not_exchanged_for_another(
    connections: Connections, relay: RunningAgent, behind: Host, agent: RunningAgent, config: Config
) -> None:
    old = identity.create()[1]
    pin(config, "web1", old)
    pin(config, "db1", agent.certificate_pem)
    offer(relay, agent.address)
    shown = identity.fingerprint(agent.certificate_pem)
    assert failure(connections, behind) == (
        errors.AgentKeyChanged,
        BEHIND + f"THE AGENT'S KEY HAS CHANGED: pinned is {identity.fingerprint(old)}, it now shows {shown}, "
        "the key of db1",
        "the way leads to db1: correct the address of web1, here or in the agent.toml of its relay",
        False,
    )


def test_a_relay_cannot_pose_as_its_peer(
    connections: Connections, relay: RunningAgent, behind: Host, config: Config
) -> None:
    """It leads to itself, and knows the secret of the fleet."""
    relay.trust("ours", own_identity(config.state).certificate_pem, invite(config.state).secret)
    offer(relay, relay.address)
    shown = identity.fingerprint(relay.certificate_pem)
    kind, cause, hint, retryable = failure(connections, behind)
    assert (kind, retryable) == (errors.AgentKeyUnknown, False)
    assert cause == (
        BEHIND + f"the agent's key {shown} is not trusted yet: it has the fleet's invitation, whose secret relay "
        "bastion may have as well"
    )
    assert hint == (
        "compare it with `pyrsyncbackup-agent identity` on the host, then run "
        f"`pyrsyncbackup host trust web1 --fingerprint {shown}`"
    )
    seen = connections.inspect(behind)
    assert (seen.agent_fingerprint, seen.proven, seen.agent_trusted) == (shown, False, False)
    # Also not by somebody's word.
    assert seen.agent_certificate is not None
    with pytest.raises(errors.AgentKeyUnknown) as caught:
        connections.pin(behind, seen.agent_certificate)
    assert caught.value.cause == f"web1: the agent there is that of bastion: it shows the key {shown}"
    assert caught.value.hint == (
        "two names for one agent: remove one of the two hosts; if bastion is gone, remove its pin "
        f"{config.state}/pins/bastion.pem; of a cloned machine, remove the clone's identity directory"
    )


@pytest.mark.parametrize(
    ("invited", "proves"),
    [
        ({}, False),
        ({"host": "web1"}, True),
        ({"host": "web2"}, False),
        ({"via": "bastion"}, True),
        ({"via": "x"}, False),
    ],
    ids=["fleet", "itself", "another", "via", "another relay"],
)
def test_what_an_invitation_proves_behind_a_relay(
    connections: Connections, relay: RunningAgent, behind: Host, config: Config, tmp_path: Path, invited, proves: bool
) -> None:
    invitation = invite(config.state, **invited)
    own = identity.load_or_create(tmp_path / "invited")
    with serving(PlainAgent(own, invitation.secret), [invitation.certificate_pem]) as agent:
        offer(relay, agent.address)
        assert connections.inspect(behind).proven is proves
        if proves:
            with connections.agent(behind) as client:
                assert client.info().name == "plain"
        else:
            assert failure(connections, behind)[0] is errors.AgentKeyUnknown
    assert (config.state / "pins" / "web1.pem").exists() is proves


def test_an_unpinned_name_that_leads_to_a_host_with_another_name_is_refused(
    connections: Connections, relay: RunningAgent, behind: Host, config: Config, tmp_path: Path
) -> None:
    invitation = invite(config.state, via="bastion")
    own = identity.load_or_create(tmp_path / "invited")
    with serving(PlainAgent(own, invitation.secret), [invitation.certificate_pem]) as agent:
        offer(relay, agent.address)
        offer(relay, agent.address, "web2")
        with connections.agent(behind):
            pass
        second = relayed_host(behind.via[0], "web2", "web2")
        kind, cause, hint, retryable = failure(connections, second)
    assert (kind, retryable) == (errors.AgentKeyUnknown, False)
    assert cause == f"web2: hop 2 of 2: the agent there is that of web1: it shows the key {own.fingerprint}"
    assert hint.startswith("two names for one agent: remove one of the two hosts; if web1 is gone, ")


def test_two_names_that_are_met_at_one_moment_are_not_both_pinned(
    connections: Connections, relay: RunningAgent, behind: Host, config: Config, tmp_path: Path
) -> None:
    invitation = invite(config.state, via="bastion")
    own = identity.load_or_create(tmp_path / "invited")
    names = [f"n{number}" for number in range(8)]
    with serving(PlainAgent(own, invitation.secret), [invitation.certificate_pem]) as agent:
        for name in names:
            relay.peer(name, agent.address)
        relay.reload()

        def meet(name: str) -> None:
            host = relayed_host(behind.via[0], name, name)
            with contextlib.suppress(errors.AgentKeyUnknown), connections.agent(host):
                pass

        threads = [threading.Thread(target=meet, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    pins = sorted(path.stem for path in (config.state / "pins").glob("n*.pem"))
    assert len(pins) == 1
    until(lambda: len(os.listdir(config.runtime)) <= 1)
