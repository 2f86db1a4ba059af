"""Leases of a real agent: what belongs to one ends with it, whatever ends it, and its `after` hooks always run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from pyrsyncbackup import identity
from pyrsyncbackup.v1 import agent_pb2 as pb

from tests.support.agent import RunningAgent
from tests.support.orphans import descendants
from tests.support.waiting import until

DETECT = '[detect]\ncommands = ["sh"]'
SAYS = "the hook ran in $PYRSYNCBACKUP_HOOK_DIR for $PYRSYNCBACKUP_MODULE"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a").write_text("one")
    return data


@pytest.fixture
def agent(tmp_path: Path, data: Path) -> Iterator[RunningAgent]:
    agent = RunningAgent(tmp_path / "agent")
    agent.module("data", data)
    agent.module("other", data)
    agent.module("third", data)
    with agent:
        yield agent


def hooked(agent: RunningAgent, data: Path, before: str = "true", timeout: int = 120) -> Path:
    """Give the module "hooked" two hooks; the `after` hook writes the file that is returned."""
    mark = agent.base / "after"
    agent.module(
        "hooked",
        data,
        before=[["sh", "-c", before]],
        after=[["sh", "-c", f"date >> {mark}"]],
        timeout=timeout,
        text=DETECT,
    )
    return mark


def refused(attempt: Callable[[], object]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        attempt()
    return caught.value


def test_one_lease_per_module(agent: RunningAgent) -> None:
    with agent.session("data"), agent.session("other"):
        with pytest.raises(grpc.RpcError) as caught, agent.session("data"):
            pass
        assert caught.value.code() == grpc.StatusCode.ABORTED
        with pytest.raises(grpc.RpcError) as caught, agent.session("third"):
            pass
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    with agent.session("data"), agent.session("third"):
        pass


def test_a_token_is_worth_nothing_without_its_lease_or_for_another_client(agent: RunningAgent, tmp_path: Path) -> None:
    other = identity.load_or_create(tmp_path / "other", "collector")
    agent.trust("other", other.certificate_pem)
    with agent.session("data") as session:
        with agent.stub(other) as stub:
            request = pb.ListEntriesRequest(session=session.token)
            error = refused(lambda: list(stub.ListEntries(iter([request]))))
            assert error.code() == grpc.StatusCode.PERMISSION_DENIED
        assert session.list()
        session.lease.cancel()
        # It hears of the end a moment later.
        error = refused(lambda: until(lambda: not session.list()))
        assert (error.code(), error.details()[:7]) == (grpc.StatusCode.PERMISSION_DENIED, "session")


def test_hooks_run_around_the_lease_and_what_they_write_is_listed(agent: RunningAgent, data: Path) -> None:
    hooks = agent.runtime_dir / "hooks" / "hooked"
    mark = hooked(agent, hooks, before=f'printf "{SAYS}" > "$PYRSYNCBACKUP_HOOK_DIR/dump"; pwd')
    with agent.stub() as stub:
        offered = stub.ListModules(pb.ListModulesRequest(with_fingerprints=True, names=["hooked"])).modules[0]
        assert offered.has_hooks
        assert not offered.HasField("fingerprint")
    with agent.session("hooked") as session:
        assert (hooks / "dump").read_text() == f"the hook ran in {hooks} for hooked"
        assert session.list()[-1].path == os.fsencode(hooks / "dump")[1:]
        assert not mark.exists()
    until(mark.exists)
    until(lambda: not hooks.exists())


def test_a_failed_hook_says_why_and_the_after_hooks_run(agent: RunningAgent, data: Path) -> None:
    mark = hooked(agent, data, before="seq 100; echo no space >&2; exit 3")
    with pytest.raises(grpc.RpcError) as caught, agent.session("hooked"):
        pass
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    lines = caught.value.details().split("\n")
    assert lines[0].startswith("hook failed: sh -c")
    assert lines[0].endswith("exit code 3")
    assert (len(lines), lines[1], lines[-1]) == (26, "77", "no space")
    until(mark.exists)


def test_a_hook_that_takes_too_long_is_ended_with_its_children(agent: RunningAgent, data: Path) -> None:
    mark = hooked(agent, data, before="trap '' TERM; setsid sleep 1000 & sleep 1000", timeout=3)
    with pytest.raises(grpc.RpcError) as caught, agent.session("hooked"):
        pass
    assert "longer than 3 s" in caught.value.details()
    until(mark.exists)
    until(lambda: not descendants(agent.pid))


def test_background_processes_of_hooks_live_as_long_as_the_lease(agent: RunningAgent, data: Path) -> None:
    hooked(agent, data, before="setsid sleep 1000 >/dev/null 2>&1 & sleep 1001 >/dev/null 2>&1 & true & true")
    with agent.session("hooked"):
        until(lambda: len(descendants(agent.pid)) >= 2)
    until(lambda: not descendants(agent.pid))


@pytest.mark.parametrize("before", ["true", "echo started; exec sleep 1000"])
def test_after_hooks_run_when_the_collector_is_killed(
    agent: RunningAgent, data: Path, tmp_path: Path, before: str
) -> None:
    started = tmp_path / "started"
    mark = hooked(agent, data, before=f"touch {started}; {before}")
    program = (
        "import sys, pathlib, time; from tests.support.agent import RunningAgent\n"
        "from pyrsyncbackup import identity\n"
        "class Attached(RunningAgent):\n"
        "    def __init__(self, base):\n"
        "        self.base = base; self.runtime_dir = base / 'run'\n"
        "        self.collector = identity.load_or_create(base / 'collector-identity', 'collector')\n"
        "with Attached(pathlib.Path(sys.argv[1])).session('hooked'):\n"
        "    time.sleep(1000)\n"
    )
    collector = subprocess.Popen([sys.executable, "-c", program, str(agent.base)])
    try:
        until(started.exists)
        assert not mark.exists()
    finally:
        collector.kill()
        collector.wait()
    until(mark.exists)
    until(lambda: not descendants(agent.pid))


def test_a_transfer_ends_with_its_lease_and_its_rsync_is_gone(agent: RunningAgent) -> None:
    with agent.session("data") as session:

        def requests() -> Iterator[pb.TransferRequest]:
            yield pb.TransferRequest(session=session.token, root=1)
            until(lambda: not session.lease.is_active())

        stream = session.stub.Transfer(requests())
        assert next(stream).data.startswith(b"@RSYNCD: ")
        until(lambda: len(descendants(agent.pid)) == 1)
        session.lease.cancel()
        error = refused(lambda: list(stream))
        assert error.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.PERMISSION_DENIED)
    until(lambda: not descendants(agent.pid))


def test_a_transfer_that_the_client_drops_leaves_no_rsync(agent: RunningAgent) -> None:
    with agent.session("data") as session:
        requests = iter([pb.TransferRequest(session=session.token, root=1)])
        stream = session.stub.Transfer(requests)
        next(stream)
        stream.cancel()
        until(lambda: not descendants(agent.pid))
        assert session.list()


def test_sigterm_ends_sessions_after_the_grace_and_runs_after_hooks(agent: RunningAgent, data: Path) -> None:
    mark = hooked(agent, data, before="setsid sleep 1000 >/dev/null 2>&1 &")
    with agent.session("hooked") as session:
        left = until(lambda: descendants(agent.pid))
        os.kill(agent.pid, signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as caught:
            next(session.lease)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert agent.stop() == 0
    assert mark.exists()
    assert not [pid for pid in left if Path(f"/proc/{pid}").exists()]


def test_sigterm_refuses_new_sessions_and_lets_running_ones_end(agent: RunningAgent) -> None:
    agent.stop()
    agent.grace = 60.0  # nothing here takes as long
    agent.start()
    with agent.session("data") as session:
        os.kill(agent.pid, signal.SIGTERM)
        until(lambda: "stopping" in agent.log)

        def refused_now() -> bool:
            opening = session.stub.OpenModule(pb.OpenModuleRequest(name="other"))
            try:
                next(opening)
            except grpc.RpcError as error:
                return error.code() == grpc.StatusCode.UNAVAILABLE
            opening.cancel()  # it came before the word of the log was deed
            return False

        until(refused_now)
        assert session.list()
    assert agent.stop() == 0
