"""What hangs for ever: each phase of a pull ends by its limit, named and recorded, and other hosts go on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pyrsyncbackup.v1 import agent_pb2 as pb
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.views import RunView
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.config import Policy
from pyrsyncbackup_collector.config.model import Config, Limits
from pyrsyncbackup_collector.daemon import work
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.errors import AnswerOverdue, BackupError, CommitOverdue, PullOverdue
from pyrsyncbackup_collector.fleet import Host
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.report import Progress
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.transport.connections import Connections
from pyrsyncbackup_collector.transport.invitations import own_identity

from tests.support.agent import RunningAgent
from tests.support.fleet import direct_host, introduce, make_config, pin
from tests.support.frozen import Frozen, frozen
from tests.support.hostile_agent import HostileAgent
from tests.support.plain_agent import serving
from tests.support.sandboxes import chosen
from tests.support.waiting import until

# For a pull that shall come to its end, however long that takes here.
PATIENT = Limits()


class Scene:
    """The parts of a collector, its store in `store`, everything else beside it."""

    def __init__(self, base: Path, stack: ExitStack, store: Path, **limits: str) -> None:
        self.base, self.stack = base, stack
        made = make_config(base / "c", idle="1h", **limits)
        self.config = Config(**{**vars(made), "store": store})
        Store.create(store)
        self.store = stack.enter_context(Store.open(store, lock=True))
        (base / "c").mkdir(exist_ok=True)
        self.catalog = stack.enter_context(Catalog.create(self.config.catalog, self.store.id))
        connections = Connections(self.config, SystemClock())
        stack.callback(connections.close)
        self.parts = Parts(self.store, self.catalog, connections, chosen(), SystemClock())

    def agent(self, name: str, content: bytes = b"content") -> HostileAgent:
        """An agent with one file, which a test bends; the address is its port."""
        agent = HostileAgent(self.base / name, {b"file": content})
        own = own_identity(self.config.state)
        self.stack.enter_context(serving(agent, [own.certificate_pem]))
        pin(self.config, name, agent.identity.certificate_pem)
        return agent

    def pull(
        self,
        agent: HostileAgent,
        watch: Callable[[Progress], None] = lambda _: None,
        grace: float = 30,
        limits: Limits | None = None,
    ) -> work.Ended:
        host = direct_host(int(agent.address.rpartition(":")[2]), agent_name(agent))
        order = work.PullOrder(host, "data", Policy(), limits or self.config.limits, "command")
        return work.pull(self.parts, order, Cancel(), watch=watch, grace=grace)

    def run(self, host: str) -> RunView:
        (found,) = self.catalog.runs(host=host, module="data", limit=1)
        return found


def agent_name(agent: HostileAgent) -> str:
    return agent.served.parent.name


class Drops:
    """One after another, a tenth of a second between them, until `over`."""

    def __init__(self, make: Callable[[int], object], over: threading.Event) -> None:
        self.make, self.over = make, over

    def __iter__(self) -> Iterator[object]:
        number = 0
        while not self.over.wait(0.1):
            yield self.make(number)
            number += 1


@pytest.fixture
def over() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def make(tmp_path: Path, stack: ExitStack, **limits: str) -> Scene:
    return Scene(tmp_path, stack, tmp_path / "c" / "store", **limits)


def told(error: BackupError | None, kind: type[BackupError], words: str) -> None:
    assert type(error) is kind
    assert words in error.cause
    assert error.retryable


def test_an_agent_that_lists_one_entry_after_another_for_ever_is_given_up(
    tmp_path: Path, over: threading.Event
) -> None:
    with ExitStack() as stack:
        scene = make(tmp_path, stack, list="1s")
        agent = scene.agent("slow")

        def entry(number: int) -> pb.ListEntriesResponse:
            return pb.ListEntriesResponse(entries=agent.honest()[:2] if number == 0 else [])

        agent.listing = Drops(entry, over)
        ended = scene.pull(agent)
        told(ended.error, PullOverdue, "slow/data: listing did not end within 1 s (`limits.list`)")
        assert scene.run("slow").outcome == "failed"
        over.set()


def test_an_agent_that_sends_a_byte_now_and_then_is_given_up_and_another_host_goes_on(
    tmp_path: Path, over: threading.Event
) -> None:
    with ExitStack() as stack:
        scene = make(tmp_path, stack, transfer="2s")
        agent, other = scene.agent("slow"), scene.agent("other")
        # What rsync's daemon begins with, in pieces of a byte.
        greeting = b"@RSYNCD: 31.0 sha512 sha256 sha1 md5 md4\n" * 1000
        agent.sender = lambda _: iter(Drops(lambda n: pb.TransferResponse(data=greeting[n : n + 1]), over))
        slow: list[work.Ended] = []
        thread = threading.Thread(target=lambda: slow.append(scene.pull(agent)))
        thread.start()
        assert scene.pull(other, limits=PATIENT).outcome == "complete"
        thread.join(60)
        told(slow[0].error, PullOverdue, "slow/data: the transfer did not end within 2 s (`limits.transfer`)")
        assert scene.run("slow").outcome == "failed"
        over.set()
        # The next one, of an honest agent, begins where nothing was left.
        agent.sender = None
        assert scene.pull(agent, limits=PATIENT).outcome == "complete"


def test_a_stopped_agent_ends_a_check_and_a_transfer_by_their_limits(tmp_path: Path) -> None:
    top = tmp_path / "srv"
    top.mkdir()
    (top / "file").write_bytes(os.urandom(8_000_000))
    with ExitStack() as stack:
        scene = make(tmp_path, stack, check="5s", transfer="1s")
        agent = stack.enter_context(RunningAgent(tmp_path / "agent"))
        agent.module("srv", top)
        introduce(scene.config, agent, "web1")
        host = direct_host(agent.port)
        stopped = []

        def stop(progress: Progress) -> None:
            if progress.bytes_received and not stopped:
                stopped.append(agent.process.pid)
                agent.process.send_signal(signal.SIGSTOP)

        order = work.PullOrder(host, "srv", Policy(bwlimit=4_000_000), scene.config.limits, "command")
        try:
            ended = work.pull(scene.parts, order, Cancel(), watch=stop)
            told(ended.error, PullOverdue, "(`limits.transfer`)")
            agent.process.send_signal(signal.SIGCONT)
            until(lambda: answers(scene, host), what="an answer")
            agent.process.send_signal(signal.SIGSTOP)
            with pytest.raises(AnswerOverdue, match=r"web1: the agent did not answer within 5 s \(`limits\.check`\)"):
                work.check_host(scene.parts, host, None)
        finally:
            agent.process.send_signal(signal.SIGCONT)


def answers(scene: Scene, host: Host) -> bool:
    """Whether a check comes to its end within its limit."""
    with contextlib.suppress(AnswerOverdue):
        work.check_host(scene.parts, host, None)
        return True
    return False


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Frozen]:
    with frozen(tmp_path) as made:
        yield made


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
@pytest.mark.parametrize(
    ("phase", "kind", "words"),
    [
        ("commit", CommitOverdue, "web1/data: the commit did not end within 1 s (`limits.commit`)"),
        ("transfer", PullOverdue, "web1/data: the transfer did not end within 1 s (`limits.transfer`)"),
    ],
)
def test_a_store_that_does_not_answer_is_told_while_it_hangs_and_stops_no_other_host(
    tmp_path: Path, disk: Frozen, phase: str, kind: type[BackupError], words: str
) -> None:
    with ExitStack() as stack:
        scene = Scene(tmp_path, stack, disk.place / "store", **{phase: "1s"})
        agent, other = scene.agent("web1"), scene.agent("other")
        stack.callback(disk.thaw)
        ended: list[work.Ended] = []

        def freeze(progress: Progress) -> None:
            if progress.phase == phase and not disk.is_frozen and not ended:
                disk.freeze()

        def pull() -> None:
            ended.append(scene.pull(agent, freeze, grace=0.5))

        thread = threading.Thread(target=pull, daemon=True)
        thread.start()
        until(lambda: scene.catalog.runs(host="web1", limit=1) and scene.run("web1").outcome, what="the run to end")
        hanging = scene.run("web1")
        assert hanging.outcome == "failed"
        assert hanging.failure is not None
        assert (hanging.failure.type, hanging.failure.retryable) == (kind.__name__, True)
        assert words in hanging.failure.cause
        # It still hangs, and a check of another host does not.
        assert thread.is_alive()
        port = int(other.address.rpartition(":")[2])
        assert work.check_host(scene.parts, direct_host(port, "other"), None).discovery.ready
        disk.thaw()
        thread.join(60)
        assert not thread.is_alive()
        # A commit that came to its end is a snapshot, and the run says so; what did not is a failure.
        done = scene.store.newest("web1", "data")
        assert scene.run("web1").outcome == ("complete" if done else "failed")
        assert scene.pull(other, limits=PATIENT).outcome == "complete"
        assert scene.pull(agent, limits=PATIENT).outcome == ("unchanged" if done else "complete")
        with contextlib.suppress(FileNotFoundError):
            assert list((scene.store.path / "incoming").iterdir()) == []
