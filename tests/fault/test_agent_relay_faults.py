"""A relay whose clients and peers misbehave: each failure has a message, and nothing of it stays."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from pyrsyncbackup.v1 import agent_pb2, agent_pb2_grpc
from pyrsyncbackup.v1 import relay_pb2 as pb

from tests.support import tcp
from tests.support.agent import RunningAgent
from tests.support.relayed import Relayed, footprint, memory
from tests.support.waiting import until

FULL = "connections are passed on, no more are allowed (max_connections)"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    with RunningAgent(tmp_path / "relay", relay=True) as agent:
        yield agent


def know(agent: RunningAgent, **peers: str) -> None:
    for name, address in peers.items():
        agent.peer(name, address)
    agent.reload()


def test_an_agent_that_is_no_relay_says_how_to_make_it_one(tmp_path: Path) -> None:
    with RunningAgent(tmp_path / "agent") as agent, agent.relay() as stub:
        agent.peer("web1", "127.0.0.1:1")
        message = "this agent has no relay mode; set [relay] enabled = true in its agent.toml"
        assert Relayed(stub, "web1").status() == (grpc.StatusCode.UNIMPLEMENTED, message)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ListPeers(pb.ListPeersRequest())
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, message)


def test_an_unknown_peer_is_answered_with_the_known_ones(agent: RunningAgent) -> None:
    with agent.relay() as stub:
        know(agent, web1="127.0.0.1:1", web2="127.0.0.1:1")
        assert Relayed(stub, "wbe1").status() == (
            grpc.StatusCode.NOT_FOUND,
            'no peer is called "wbe1" here; known are web1, web2',
        )
        know(agent, **{f"host{number:04}": "127.0.0.1:1" for number in range(300)})
        code, message = Relayed(stub, "x" * 10_000).status()
        assert code == grpc.StatusCode.NOT_FOUND
        assert message.endswith("host0023, host0024 and 277 more")
        assert len(message) < 1000


def test_a_stream_that_names_no_peer_is_refused(agent: RunningAgent) -> None:
    with agent.relay() as stub:
        for requests in ([], [pb.ConnectRequest(data=b"x")]):
            with pytest.raises(grpc.RpcError) as caught:
                list(stub.Connect(iter(requests)))
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "first message" in caught.value.details()


def test_a_peer_that_cannot_be_connected_to_is_told_with_its_address_and_the_reason(agent: RunningAgent) -> None:
    with agent.relay() as stub, tcp.swallowing() as swallows:
        know(agent, refuses="127.0.0.1:1", swallows=swallows, nowhere="host.invalid:9737")
        reasons = {
            "refuses": "could not connect to 127.0.0.1:1: connection refused",
            "nowhere": "could not connect to host.invalid:9737: the name host.invalid cannot be resolved",
            "swallows": f"could not connect to {swallows}: does not answer within 10 s",
        }
        for name, reason in reasons.items():
            assert Relayed(stub, name).status() == (grpc.StatusCode.FAILED_PRECONDITION, reason)


def test_a_client_that_goes_while_the_peer_is_dialled_is_not_waited_for(tmp_path: Path) -> None:
    with (
        RunningAgent(tmp_path / "relay", relay=1) as agent,
        agent.relay() as stub,
        tcp.server(tcp.echo) as echo,
        tcp.swallowing() as swallows,
    ):
        know(agent, swallows=swallows, echo=echo)
        assert Relayed(stub, "nobody").status()[0] == grpc.StatusCode.NOT_FOUND  # and so the client is connected
        files, dialled = footprint(agent.pid)[1], time.monotonic()
        waits = Relayed(stub, "swallows")
        until(lambda: footprint(agent.pid)[1] > files)
        assert not _works(Relayed(stub, "echo"))
        waits.cancel()
        until(lambda: _works(Relayed(stub, "echo")))
        assert time.monotonic() - dialled < 10, "so long is a peer dialled that nobody gave up"


def _works(connection: Relayed) -> bool:
    connection.send(b"x")
    connection.end()
    return connection.status()[0] == grpc.StatusCode.OK


def test_connections_above_the_limit_are_refused_and_take_nothing_from_sessions(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with (
        RunningAgent(tmp_path / "relay", relay=3) as agent,
        agent.relay() as stub,
        tcp.server(tcp.echo) as echo,
    ):
        agent.module("data", tmp_path / "data")
        know(agent, echo=echo)
        held = [Relayed(stub, "echo").stands() for _ in range(3)]
        assert Relayed(stub, "echo").status() == (grpc.StatusCode.RESOURCE_EXHAUSTED, f"3 {FULL}")
        with agent.session("data") as session:
            assert session.list()
        assert stub.ListPeers(pb.ListPeersRequest()).peers[0].answers
        held[0].end()
        assert held[0].status()[0] == grpc.StatusCode.OK
        assert Relayed(stub, "echo").stands()
        for connection in held:
            connection.cancel()


def test_among_ten_thousand_connections_at_once_other_calls_are_answered(tmp_path: Path) -> None:
    with (
        RunningAgent(tmp_path / "relay", relay=2) as agent,
        tcp.server(tcp.echo) as echo,
        agent.channel() as channel,
        agent.relay() as stub,
    ):
        know(agent, echo=echo)
        held = [Relayed(stub, "echo").stands() for _ in range(2)]
        ended, answered = threading.Event(), []

        def ask() -> None:
            info = agent_pb2_grpc.AgentServiceStub(channel)
            while not ended.is_set():
                answered.append(info.GetInfo(agent_pb2.GetInfoRequest(), timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        calls = [stub.Connect(iter([pb.ConnectRequest(peer="echo")])) for _ in range(10_000)]
        codes = Counter(call.code() for call in calls)
        ended.set()
        asking.join()
        # An agent that is held up for so long that 1,000 wait drops some, without a word of ours.
        assert set(codes) <= {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED}
        assert codes[grpc.StatusCode.RESOURCE_EXHAUSTED] > 1000
        assert len(answered) > 10
        for connection in held:
            connection.send(b"still there")
            assert connection.receive(11) == b"still there"
            connection.cancel()


def test_slow_ends_hold_little_of_the_agents_memory(agent: RunningAgent) -> None:
    piece = bytes(1 << 16)
    with agent.relay() as stub, tcp.server(tcp.flood) as floods, tcp.server(tcp.deaf) as takes_nothing:
        know(agent, floods=floods, deaf=takes_nothing)
        ended = threading.Event()

        def endless(name: str) -> Iterator[pb.ConnectRequest]:
            yield pb.ConnectRequest(peer=name)
            while not ended.is_set():
                yield pb.ConnectRequest(data=piece)

        calls = [stub.Connect(endless("deaf")) for _ in range(40)]
        calls += [Relayed(stub, "floods").call for _ in range(100)]
        for call in calls:
            call.initial_metadata()
        # What the ends take of it goes through buffers that are filled by then.
        seen = [0]

        def settled() -> bool:
            seen.append(memory(agent.pid))
            return len(seen) > 300 and max(seen[-100:]) - min(seen[-100:]) <= 2

        until(settled)
        assert max(seen) < 130  # measured: 104
        ended.set()
        for call in calls:
            call.cancel()
        until(lambda: memory(agent.pid) < 70)


def test_two_hundred_connections_that_move_a_little_need_under_a_hundred_megabytes(agent: RunningAgent) -> None:
    with agent.relay() as stub, tcp.server(tcp.echo) as echo:
        know(agent, echo=echo)
        connections = [Relayed(stub, "echo").stands() for _ in range(200)]
        for size in (1000, 20_000, 60_000):
            for connection in connections:
                connection.send(bytes(size))
            for connection in connections:
                connection.receive(size)
        assert memory(agent.pid) < 100
        for connection in connections:
            connection.cancel()


def test_a_peer_that_resets_is_told(agent: RunningAgent) -> None:
    with agent.relay() as stub, tcp.server(tcp.reset) as address:
        know(agent, resets=address)
        connection = Relayed(stub, "resets", b"a")
        assert connection.receive(1) == b"!"
        connection.send(b"b")
        assert connection.status() == (
            grpc.StatusCode.FAILED_PRECONDITION,
            f"the connection to {address} broke: connection reset",
        )


def test_a_removed_certificate_ends_its_connections(agent: RunningAgent) -> None:
    with agent.relay() as stub, tcp.server(tcp.echo) as echo:
        know(agent, echo=echo)
        connection = Relayed(stub, "echo", b"a")
        assert connection.receive(1) == b"a"
        agent.distrust()
        assert connection.status()[0] in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)
        assert Relayed(stub, "echo").status()[0] == grpc.StatusCode.PERMISSION_DENIED


CLIENT = """
import sys
from pathlib import Path
from pyrsyncbackup.v1 import relay_pb2 as pb
from tests.support.agent import RunningAgent
from tests.support.relayed import Relayed
agent = RunningAgent(Path(sys.argv[1]), relay=True)
with agent.relay() as stub:
    connections = [Relayed(stub, peer).stands() for peer in sys.argv[2:] for _ in range(5)]
    for connection in connections[:10]:
        for _ in range(100):
            connection.send(bytes(1 << 16))
    print("ready", flush=True)
    connections[0].rest()
"""


def test_a_client_that_is_killed_leaves_nothing_behind(agent: RunningAgent) -> None:
    with (
        tcp.server(tcp.echo) as echo,
        tcp.server(tcp.flood) as floods,
        tcp.server(tcp.deaf) as takes_nothing,
    ):
        know(agent, takes_nothing=takes_nothing, echo=echo, floods=floods)
        footprints = []
        for _ in range(3):  # the first round starts the workers, which stay
            command = [sys.executable, "-c", CLIENT, str(agent.base), "takes_nothing", "echo", "floods"]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
                assert client.stdout is not None
                assert client.stdout.readline() == b"ready\n"
                during = footprint(agent.pid)
                client.send_signal(signal.SIGKILL)
            until(lambda during=during: footprint(agent.pid)[1] <= during[1] - 15)
            until(lambda during=during: footprint(agent.pid)[0] <= during[0] - 15)
            footprints.append(footprint(agent.pid))
        # Each round has 15 connections. One that came before a worker was free again made one more.
        until(lambda: footprint(agent.pid)[0] <= footprints[0][0] + 10)
        until(lambda: footprint(agent.pid)[1] <= footprints[0][1])


def test_whichever_side_ends_nothing_is_left_behind(agent: RunningAgent) -> None:
    def hangs_up(connection: object) -> None:
        assert connection

    with agent.relay() as stub, tcp.server(tcp.echo) as echo, tcp.server(hangs_up) as short:
        know(agent, echo=echo, short=short, refuses="127.0.0.1:1")

        def round_of_connections() -> None:
            for name in ("short", "refuses"):
                for connection in [Relayed(stub, name) for _ in range(10)]:
                    connection.status()
                    connection.end()
            open_ones = [Relayed(stub, "echo").stands() for _ in range(20)]
            for connection in open_ones[:10]:
                connection.end()
                assert connection.status()[0] == grpc.StatusCode.OK
            for connection in open_ones[10:]:
                connection.cancel()

        stub.ListPeers(pb.ListPeersRequest())
        files = footprint(agent.pid)[1]
        for _ in range(3):
            round_of_connections()
            until(lambda: footprint(agent.pid)[1] <= files)
        # Workers stay for the next connections: as many as there were at a time, not as there were in all.
        until(lambda: footprint(agent.pid)[0] <= 45)
