"""A real agent in relay mode: bytes of real TCP connections, and the list of peers."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from pyrsyncbackup import identity
from pyrsyncbackup.v1 import agent_pb2, agent_pb2_grpc, relay_pb2_grpc
from pyrsyncbackup.v1 import relay_pb2 as pb

from tests.support import relayed, tcp
from tests.support.agent import RunningAgent
from tests.support.relayed import Relayed

PIECE = 60_000
SIZE = 50_000_000


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    with RunningAgent(tmp_path / "relay", relay=True) as agent:
        yield agent


def test_bytes_arrive_intact_in_both_directions_at_the_same_time(agent: RunningAgent) -> None:
    block = random.Random(1).randbytes(SIZE)
    with tcp.server(tcp.echo) as address, agent.relay() as stub:
        agent.peer("echo", address)
        agent.reload()
        connection = Relayed(stub, "echo", block[:PIECE])
        for at in range(PIECE, SIZE, PIECE):
            connection.send(block[at : at + PIECE])
        connection.end()
        digest = hashlib.sha256()
        for message in connection.call:
            digest.update(message.data)
        assert digest.digest() == hashlib.sha256(block).digest()
        assert connection.call.code() == grpc.StatusCode.OK


def test_the_client_knows_that_the_connection_stands_before_any_byte(agent: RunningAgent) -> None:
    accepted = threading.Event()

    def silent(connection: socket.socket) -> None:
        accepted.set()
        connection.recv(1)

    with tcp.server(silent) as address, agent.relay() as stub:
        agent.peer("silent", address)
        agent.reload()
        connection = Relayed(stub, "silent").stands()
        assert accepted.wait(60)
        connection.end()
        assert connection.status() == (grpc.StatusCode.OK, "")


def test_a_client_that_sends_no_more_still_gets_the_answer(agent: RunningAgent) -> None:
    def answers_at_the_end(connection: socket.socket) -> None:
        size = 0
        while data := connection.recv(1 << 16):
            size += len(data)
        connection.sendall(b"%d bytes" % size)

    with tcp.server(answers_at_the_end) as address, agent.relay() as stub:
        agent.peer("counts", address)
        agent.reload()
        connection = Relayed(stub, "counts", b"12345")
        connection.end()
        assert connection.rest() == b"5 bytes"


def test_the_rpc_ends_when_the_peer_has_said_all(agent: RunningAgent) -> None:
    with tcp.server(lambda connection: connection.sendall(b"bye")) as address, agent.relay() as stub:
        agent.peer("short", address)
        agent.reload()
        connection = Relayed(stub, "short")
        assert connection.rest() == b"bye"
        assert connection.call.code() == grpc.StatusCode.OK
        connection.end()


def test_another_agent_is_reached_through_two_relays_with_tls_from_end_to_end(tmp_path: Path) -> None:
    with (
        RunningAgent(tmp_path / "behind", name="behind") as behind,
        RunningAgent(tmp_path / "inner", name="inner", relay=True) as inner,
        RunningAgent(tmp_path / "outer", name="outer", relay=True) as outer,
    ):
        outer.peer("inner", inner.address)
        inner.peer("behind", behind.address)
        outer.reload()
        inner.reload()
        with (
            outer.relay() as first,
            relayed.pump(first, "inner") as to_inner,
            through(inner, to_inner) as channel,
            relayed.pump(relay_pb2_grpc.RelayServiceStub(channel), "behind") as to_behind,
            through(behind, to_behind) as last,
        ):
            info = agent_pb2_grpc.AgentServiceStub(last).GetInfo(agent_pb2.GetInfoRequest(), timeout=60)
            assert (info.name, info.relay) == ("behind", False)
            between = agent_pb2_grpc.AgentServiceStub(channel).GetInfo(agent_pb2.GetInfoRequest(), timeout=60)
            assert (between.name, between.relay) == ("inner", True)


def through(agent: RunningAgent, address: str) -> grpc.Channel:
    """A channel to `agent` by way of another address."""
    own = agent.collector
    credentials = grpc.ssl_channel_credentials(agent.certificate_pem, own.key_pem, own.certificate_pem)
    name = identity.certificate_name(agent.certificate_pem)
    return grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", name)])


def test_peers_are_listed_by_name_with_whether_they_answer_and_why_not(agent: RunningAgent) -> None:
    with tcp.server(tcp.echo) as answers, tcp.swallowing() as swallows, agent.relay() as stub:
        agent.peer("web1", answers, "the shop")
        agent.peer("db1", "127.0.0.1:1")
        agent.peer("cache", swallows)
        agent.peer("moved", "host.invalid:9737")
        agent.reload()
        peers = stub.ListPeers(pb.ListPeersRequest()).peers
        assert [(peer.name, peer.title, peer.answers, peer.reason) for peer in peers] == [
            ("cache", "", False, "does not answer within 3 s"),
            ("db1", "", False, "connection refused"),
            ("moved", "", False, "the name host.invalid cannot be resolved"),
            ("web1", "the shop", True, ""),
        ]
        assert [peer.connect_us > 0 for peer in peers] == [False, False, False, True]


def test_a_network_of_dead_peers_is_listed_well_within_half_a_minute(agent: RunningAgent) -> None:
    with tcp.swallowing() as swallows, agent.relay() as stub, agent.stub() as other:
        for number in range(100):
            agent.peer(f"host{number}", swallows)
        agent.reload()
        listing = stub.ListPeers.future(pb.ListPeersRequest(), timeout=30)
        assert other.GetInfo(agent_pb2.GetInfoRequest(), timeout=30).relay
        assert {peer.reason for peer in listing.result().peers} == {"does not answer within 3 s"}


def test_a_reload_brings_new_peers_and_leaves_connections_and_good_files_alone(agent: RunningAgent) -> None:
    with tcp.server(tcp.echo) as address, agent.relay() as stub:
        agent.peer("first", address)
        agent.reload()
        connection = Relayed(stub, "first", b"a").stands()
        (agent.peers_dir / "first.toml").unlink()
        (agent.peers_dir / "broken.toml").write_text("[[peer]]\nname = 3\n")
        agent.peer("second", address)
        agent.config.write_text(agent.config.read_text() + f'[[relay.peer]]\nname = "own"\naddress = "{address}"\n')
        agent.reload()
        assert [peer.name for peer in stub.ListPeers(pb.ListPeersRequest()).peers] == ["own", "second"]
        assert "broken.toml: peer[1].name: must be a text" in agent.log
        connection.send(b"b")
        assert connection.receive(2) == b"ab"
        connection.end()
        agent.config.write_text("broken")
        agent.reload()
        assert [peer.name for peer in stub.ListPeers(pb.ListPeersRequest()).peers] == ["own", "second"]
        assert "settings not read again" in agent.log
