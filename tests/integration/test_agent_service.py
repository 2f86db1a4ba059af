"""A real agent process, asked over real mutual TLS."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from pyrsyncbackup import identity
from pyrsyncbackup.v1 import agent_pb2 as pb

from tests.support.agent import RunningAgent


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("service") / "data"
    (data / "conf.d").mkdir(parents=True)
    (data / "a.conf").write_text("one")
    (data / "conf.d" / "b.conf").write_text("two")
    (data / "skip.log").write_text("three")
    (data / "link").symlink_to("a.conf")
    return data


@pytest.fixture(scope="module")
def agent(data: Path) -> Iterator[RunningAgent]:
    agent = RunningAgent(data.parent / "agent")
    agent.module("data", data, exclude=["*.log"])
    agent.module("gone", data.parent / "gone")
    with agent:
        yield agent


def paths(entries: list[pb.Entry], below: Path) -> list[str]:
    start = str(below)[1:]
    names = [os.fsdecode(entry.path) for entry in entries]
    return [name[len(start) + 1 :] for name in names if name.startswith(start) and name != start]


def test_it_says_who_it_is_and_proves_the_invitation(agent: RunningAgent) -> None:
    with agent.stub() as stub:
        info = stub.GetInfo(pb.GetInfoRequest())
        assert (info.name, info.protocol_min, info.protocol_max, info.proof) == ("testhost", 1, 1, b"")
        assert info.rsync_version
        secret = identity.new_secret()
        agent.trust("collector", agent.collector.certificate_pem, secret)
        ours, theirs = agent.collector.certificate_pem, agent.certificate_pem
        expected = identity.proof(secret, identity.certificate_der(theirs), identity.certificate_der(ours))
        assert stub.GetInfo(pb.GetInfoRequest()).proof == expected


def test_a_listing_shows_what_the_module_holds_and_its_fingerprint_is_that_of_the_check(
    agent: RunningAgent, data: Path
) -> None:
    with agent.session("data") as session:
        entries, fingerprint = session.list_all()
        assert paths(entries, data) == ["a.conf", "conf.d", "conf.d/b.conf", "link"]
        assert [entry.root for entry in entries[:-5]] == [0] * (len(data.parts) - 2)
        checked = session.stub.ListModules(pb.ListModulesRequest(with_fingerprints=True, names=["data"])).modules[0]
        assert checked.fingerprint.digest == fingerprint.digest
        assert checked.fingerprint.entries == fingerprint.entries == len(entries)
        by_path = {entry.path: entry for entry in entries}
        again = session.list(*by_path)
        assert again == entries
        digest = session.hash(os.fsencode(data / "a.conf")[1:])[0]
        assert digest.sha256 == hashlib.sha256(b"one").digest()
        assert digest.token == by_path[digest.path].token


def test_modules_are_listed_with_their_state(agent: RunningAgent) -> None:
    with agent.stub() as stub:
        modules = {module.name: module for module in stub.ListModules(pb.ListModulesRequest()).modules}
    assert modules["data"].state == pb.MODULE_STATE_READY
    assert modules["gone"].state == pb.MODULE_STATE_ABSENT
    assert modules["gone"].reason


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("nothing", grpc.StatusCode.NOT_FOUND, "data"),
        ("gone", grpc.StatusCode.FAILED_PRECONDITION, "module absent: "),
    ],
)
def test_a_module_that_cannot_be_opened_is_refused_with_the_reason(
    agent: RunningAgent, name: str, code: grpc.StatusCode, says: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught, agent.session(name):
        pass
    assert caught.value.code() == code
    assert says in caught.value.details()
