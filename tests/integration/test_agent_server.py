"""A real agent as a server: whom it lets in, how many at a time, how it starts and stops."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pyrsyncbackup import identity
from pyrsyncbackup.v1 import agent_pb2 as pb
from pyrsyncbackup.v1 import relay_pb2, relay_pb2_grpc

from tests.support.agent import RunningAgent
from tests.support.waiting import until


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("one")
    agent = RunningAgent(tmp_path / "agent")
    agent.module("data", tmp_path / "data")
    with agent:
        yield agent


def code(agent: RunningAgent, client: identity.Identity) -> grpc.StatusCode:
    """Status of one call on a new connection."""
    with agent.stub(client) as stub:
        try:
            stub.GetInfo(pb.GetInfoRequest(), timeout=60)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_only_accepted_certificates_are_let_in(agent: RunningAgent, tmp_path: Path) -> None:
    stranger = identity.load_or_create(tmp_path / "stranger", "collector")
    assert code(agent, stranger) == grpc.StatusCode.UNAVAILABLE
    agent.trust("stranger", stranger.certificate_pem)
    assert code(agent, stranger) == grpc.StatusCode.OK
    agent.distrust("stranger")
    assert code(agent, stranger) == grpc.StatusCode.UNAVAILABLE
    assert code(agent, agent.collector) == grpc.StatusCode.OK


def test_an_agent_that_trusts_nobody_starts_and_lets_nobody_in(tmp_path: Path) -> None:
    agent = RunningAgent(tmp_path / "agent")
    agent.distrust()
    with agent:
        assert code(agent, agent.collector) == grpc.StatusCode.UNAVAILABLE


def test_a_removed_certificate_is_refused_at_the_next_call_and_its_streams_end(agent: RunningAgent) -> None:
    with agent.session("data") as session:
        watch = session.stub.WatchModules(pb.WatchModulesRequest())
        assert next(watch).generation
        agent.distrust()
        with pytest.raises(grpc.RpcError) as caught:
            session.stub.GetInfo(pb.GetInfoRequest())
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert caught.value.details().startswith("certificate")
        for stream in (watch, session.lease):
            with pytest.raises(grpc.RpcError):
                next(stream)


def test_streams_are_refused_while_workers_for_unary_calls_are_left(agent: RunningAgent) -> None:
    with agent.stub() as stub:
        streams = [stub.WatchModules(pb.WatchModulesRequest()) for _ in range(100)]
        codes = []
        for stream in streams:
            try:
                next(stream)
            except grpc.RpcError as error:
                codes.append(error.code())
        assert codes
        assert set(codes) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        # The streams stay open: who had to wait for one of them would wait until its deadline.
        assert stub.GetInfo(pb.GetInfoRequest(), timeout=30).name == "testhost"
        for stream in streams:
            stream.cancel()

        def served_again() -> bool:
            again = stub.WatchModules(pb.WatchModulesRequest())
            try:
                return bool(next(again).generation)
            except grpc.RpcError:
                return False
            finally:
                again.cancel()

        until(served_again)


def test_a_new_module_is_an_event(agent: RunningAgent, tmp_path: Path) -> None:
    with agent.stub() as stub:
        watch = stub.WatchModules(pb.WatchModulesRequest(), timeout=120)
        first = next(watch).generation
        agent.module("new", tmp_path / "data")
        assert next(watch).generation > first
        watch.cancel()


def test_health_and_reflection_answer_on_the_same_port(agent: RunningAgent) -> None:
    with agent.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "pyrsyncbackup.v1.AgentService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answer = next(reflection.ServerReflectionInfo(iter([request])))
        assert "pyrsyncbackup.v1.AgentService" in [item.name for item in answer.list_services_response.service]


def test_what_is_not_there_yet_says_so(agent: RunningAgent) -> None:
    with agent.channel() as channel:
        for call in (
            lambda: relay_pb2_grpc.RelayServiceStub(channel).ListPeers(relay_pb2.ListPeersRequest()),
            lambda: list(relay_pb2_grpc.RelayServiceStub(channel).Connect(iter([relay_pb2.ConnectRequest()]))),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
            assert "agent" in caught.value.details()


def test_bad_requests_are_refused_in_one_line(agent: RunningAgent) -> None:
    with agent.session("data") as session:
        for stream in (
            session.stub.ListEntries(iter([])),
            session.stub.ListEntries(
                iter([pb.ListEntriesRequest(session=session.token), pb.ListEntriesRequest(paths=[b"x"])])
            ),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                list(stream)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        for path in (b"", b"/etc", b"../etc", b"a\0b", b"x" * 40000, b"etc/shadow"):
            assert session.list(path)[0].error.kind == pb.ENTRY_ERROR_KIND_OUTSIDE
            assert session.hash(path)[0].error.kind == pb.ENTRY_ERROR_KIND_OUTSIDE


def test_systemd_is_told(tmp_path: Path) -> None:
    agent = RunningAgent(tmp_path / "agent")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(60)
        agent.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        with agent:
            assert channel.recv(100) == b"READY=1"
            os.kill(agent.pid, signal.SIGHUP)
            assert channel.recv(100).startswith(b"RELOADING=1")
            assert channel.recv(100) == b"READY=1"
            assert agent.stop() == 0
        assert channel.recv(100) == b"STOPPING=1"


def test_a_taken_port_is_one_clear_line(agent: RunningAgent, tmp_path: Path) -> None:
    second = RunningAgent(tmp_path / "second", listen=agent.address)
    with pytest.raises(AssertionError, match=f"error: cannot listen on {agent.address}"), second:
        pass
    assert "Traceback" not in second.log


def test_idle_it_is_small_and_takes_no_time(agent: RunningAgent, tmp_path: Path) -> None:
    # structlog loads rich where it finds it: here, for the collector, but not where only the agent is installed.
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text("import sys\nsys.modules['rich'] = None\n")
    agent.stop()
    agent.environment["PYTHONPATH"] = str(tmp_path / "path")
    agent.start()
    with agent.stub() as stub:
        stub.ListModules(pb.ListModulesRequest(with_fingerprints=True))
    memory = next(line for line in Path(f"/proc/{agent.pid}/status").read_text().splitlines() if "VmRSS" in line)
    assert int(memory.split()[1]) <= 48 * 1024

    def ticks() -> int:
        fields = Path(f"/proc/{agent.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def rests() -> bool:
        begun, until_then = ticks(), time.monotonic() + 3
        until(lambda: time.monotonic() > until_then)
        return ticks() - begun <= 1  # one tick is 10 ms

    # Not at once: it still clears up after the call.
    until(rests)
