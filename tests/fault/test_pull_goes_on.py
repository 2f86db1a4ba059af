"""Sessions that are cut again and again: a pull goes on from what it has, in one run, or gives up for a reason."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.config import Policy
from pyrsyncbackup_collector.daemon import attempts, work
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.errors import ConnectionLost
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.report import Progress
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.transport import pool
from pyrsyncbackup_collector.transport.connections import Connections

from tests.support import sshd
from tests.support.agent import RunningAgent
from tests.support.fleet import direct_host, introduce, make_config, relayed_host, ssh_host
from tests.support.sandboxes import chosen

RATE = 12_000_000
MB = 1_000_000


class Scene:
    """A host whose tree is `top`, and the parts of a collector that pulls it; `received` counts rsync's bytes."""

    def __init__(self, base: Path, stack: ExitStack) -> None:
        self.top = base / "srv"
        self.top.mkdir()
        self.agent = stack.enter_context(RunningAgent(base / "agent"))
        self.agent.module("srv", self.top)
        self.config = make_config(base / "c", idle="1h")
        introduce(self.config, self.agent, "web1")
        Store.create(self.config.store)
        self.store = stack.enter_context(Store.open(self.config.store, lock=True))
        self.catalog = stack.enter_context(Catalog.create(self.config.catalog, self.store.id))
        clock = SystemClock()
        self.connections = Connections(self.config, clock)
        stack.callback(self.connections.close)
        self.parts = Parts(self.store, self.catalog, self.connections, chosen(), clock)
        self.received = 0

    def pull(self, host, cancel: Cancel | None = None, watch: Callable[[Progress], None] = lambda _: None):
        """One run; `watch` is told of every piece that arrives."""
        last: dict[int, tuple[Progress, int]] = {}

        def told(progress: Progress) -> None:
            # Each attempt counts from 0 in an object of its own.
            before = last.get(id(progress), (progress, 0))[1]
            last[id(progress)] = progress, progress.bytes_received
            self.received += progress.bytes_received - before
            watch(progress)

        policy = Policy(check=900, pull=86400, bwlimit=RATE)
        order = work.PullOrder(host, "srv", policy, self.config.limits, "command")
        return work.pull(self.parts, order, cancel or Cancel(), watch=told)

    def stored(self) -> dict[str, bytes]:
        """Contents of the newest snapshot by file name."""
        newest = self.store.newest("web1", "srv")
        assert newest is not None
        found = {}
        for entry in self.store.entries(newest, verify=True):
            if entry.type == "file":
                with self.store.objects.open_entry(entry) as source:
                    found[os.fsdecode(entry.path.rpartition(b"/")[2])] = source.read()
        return found

    def on_host(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.top.iterdir()}

    def nothing_is_left(self) -> bool:
        return not list((self.store.path / "incoming").iterdir())


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(pool, "FIRST_PAUSE", 0.02)
    with ExitStack() as stack:
        yield Scene(tmp_path, stack)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[sshd.Sshd]:
    with sshd.running(tmp_path / "sshd") as server:
        yield server


class Cutter:
    """Cuts the SSH sessions whenever `every` more bytes have arrived, at most `most` times."""

    def __init__(self, server: sshd.Sshd, scene: Scene, every: int, most: int = 1000) -> None:
        self.server, self.scene, self.every, self.most = server, scene, every, most
        self.cuts, self._next = 0, every

    def __call__(self, _: Progress) -> None:
        if self.scene.received >= self._next and self.cuts < self.most:
            self.cuts += 1
            self.server.cut()
            self._next = self.scene.received + self.every


def test_many_files_arrive_in_one_run_however_often_the_session_is_cut(scene: Scene, server: sshd.Sshd) -> None:
    for number in range(60):
        (scene.top / f"{number:02}").write_bytes(os.urandom(200_000))
    cutter = Cutter(server, scene, 2 * MB)
    ended = scene.pull(ssh_host(server, scene.agent.port), watch=cutter)
    assert (ended.outcome, ended.error) == ("complete", None)
    assert cutter.cuts >= 3
    assert scene.stored() == scene.on_host()
    # Of each attempt no more than what was on the way comes twice.
    assert scene.received < 12 * MB + cutter.cuts * 1.5 * MB
    assert [run.outcome for run in scene.catalog.runs("web1", "srv")] == ["complete"]
    assert len(scene.store.snapshots("web1", "srv")) == 1
    assert scene.nothing_is_left()


def test_one_large_file_arrives_over_more_cuts_than_attempts_in_vain_are_made(scene: Scene, server: sshd.Sshd) -> None:
    (scene.top / "large").write_bytes(os.urandom(40 * MB))
    cutter = Cutter(server, scene, 4 * MB)
    ended = scene.pull(ssh_host(server, scene.agent.port), watch=cutter)
    assert (ended.outcome, ended.error) == ("complete", None)
    assert cutter.cuts > attempts.FRUITLESS
    assert scene.stored() == scene.on_host()
    assert scene.received < 40 * MB + cutter.cuts * 2 * MB
    assert scene.nothing_is_left()


def test_a_large_file_that_changed_goes_on_too(scene: Scene, server: sshd.Sshd) -> None:
    host = ssh_host(server, scene.agent.port)
    old = os.urandom(16 * MB)
    (scene.top / "large").write_bytes(old)
    assert scene.pull(host).outcome == "complete"
    # The first three quarters are new, the rest is found in the old version.
    (scene.top / "large").write_bytes(os.urandom(12 * MB) + old[12 * MB :])
    scene.received = 0
    cutter = Cutter(server, scene, 3 * MB)
    ended = scene.pull(host, watch=cutter)
    assert (ended.outcome, ended.error) == ("complete", None)
    assert cutter.cuts >= 2
    assert scene.stored() == scene.on_host()
    assert scene.received < 12 * MB + cutter.cuts * 2 * MB
    assert scene.nothing_is_left()


@pytest.mark.parametrize("old", [False, True])
def test_cuts_that_let_nothing_through_end_the_run(scene: Scene, server: sshd.Sshd, old: bool) -> None:
    host = ssh_host(server, scene.agent.port)
    (scene.top / "large").write_bytes(os.urandom(8 * MB))
    if old:
        assert scene.pull(host).outcome == "complete"
        (scene.top / "large").write_bytes(os.urandom(8 * MB))
    cutter = Cutter(server, scene, 1)
    ended = scene.pull(host, watch=cutter)
    assert ended.outcome == "failed"
    assert type(ended.error) is ConnectionLost
    assert ended.error.cause == "web1: the SSH connection was cut"
    assert cutter.cuts <= attempts.FRUITLESS + 3
    assert scene.nothing_is_left()
    assert len(scene.store.snapshots("web1", "srv")) == int(old)
    # The next run is not harmed by it.
    assert scene.pull(host).outcome == "complete"
    assert scene.stored() == scene.on_host()


def test_a_host_that_is_away_from_the_start_fails_at_once(scene: Scene, server: sshd.Sshd) -> None:
    scene.agent.stop()
    ended = scene.pull(ssh_host(server, 9))
    assert ended.outcome == "failed"
    assert ended.error is not None
    assert ended.error.cause.startswith("web1: the agent's port 9 does not answer behind SSH")


def test_who_stops_the_pull_in_a_pause_is_answered_at_once(
    scene: Scene, server: sshd.Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 3600.0)
    (scene.top / "large").write_bytes(os.urandom(8 * MB))
    cancel = Cancel()
    waiting = threading.Event()
    monkeypatch.setattr(cancel, "wait", lambda seconds: (waiting.set(), Cancel.wait(cancel, seconds)))
    stopper = threading.Thread(target=lambda: (waiting.wait(60), cancel.set()))
    stopper.start()
    ended = scene.pull(ssh_host(server, scene.agent.port), cancel, Cutter(server, scene, 2 * MB))
    stopper.join()
    assert waiting.is_set()
    assert ended.outcome == "cancelled"
    assert scene.nothing_is_left()


def test_a_relay_that_dies_in_the_middle_and_comes_back_costs_no_run(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        (scene.top / f"{number:02}").write_bytes(os.urandom(200_000))
    with RunningAgent(tmp_path / "relay", name="bastion", relay=True) as relay:
        introduce(scene.config, relay, "bastion")
        relay.peer("web1", scene.agent.address)
        relay.reload()
        relay.config.write_text(relay.config.read_text().replace("127.0.0.1:0", relay.address))
        host = relayed_host(direct_host(relay.port, "bastion"), "web1")
        back: list[threading.Thread] = []
        cancel = Cancel()
        # However long the start of a process takes here, the pauses are longer.
        monkeypatch.setattr(cancel, "wait", lambda _: back[0].join())

        def kill_once(_: Progress) -> None:
            if scene.received > 2 * MB and not back:
                relay.stop(signal.SIGKILL)
                back.append(threading.Thread(target=relay.start))
                back[0].start()

        ended = scene.pull(host, cancel, watch=kill_once)
        back[0].join()
    assert (ended.outcome, ended.error) == ("complete", None)
    assert scene.stored() == scene.on_host()
    assert scene.received < 8 * MB + 2 * MB
    assert [run.outcome for run in scene.catalog.runs("web1", "srv")] == ["complete"]
    assert scene.nothing_is_left()
    assert "Traceback" not in scene.agent.log
