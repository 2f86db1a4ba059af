"""The watch over chores, with real threads: signs of life, silence, and what cannot be ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.clock import Clock, SystemClock
from pyrsyncbackup_collector.config import Config, CopyConfig
from pyrsyncbackup_collector.copies.report import Round
from pyrsyncbackup_collector.daemon import apart, chores, copying
from pyrsyncbackup_collector.daemon.chore import Work
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.daemon.upkeep import Upkeep
from pyrsyncbackup_collector.daemon.vigil import Vigil
from pyrsyncbackup_collector.errors import BackupError, ChoreOverdue, ConnectError, StoreError
from pyrsyncbackup_collector.pull.cancel import Cancel

from tests.support.fleet import make_config
from tests.support.waiting import until


class Desk:
    """What a chore works with, as far as these tests need it."""

    def __init__(self, catalog: Catalog, clock: Clock | None = None) -> None:
        self.catalog, self.clock = catalog, clock or SystemClock()
        self.hanging: dict[str, BackupError] = {}


class Hand(SystemClock):
    """A clock that a test moves: no busy machine makes a silence. `looks` counts how often the watch looked at it."""

    def __init__(self) -> None:
        self.time, self.looks = 0.0, 0

    def monotonic(self) -> float:
        self.looks += threading.current_thread().name.startswith("vigil")
        return self.time


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Catalog.create(tmp_path / "catalog.sqlite", "store") as made:
        yield Desk(made)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return make_config(tmp_path, chore="1s")


def offer(monkeypatch: pytest.MonkeyPatch, chore: Any) -> None:
    monkeypatch.setitem(cast(dict[str, Any], chores.CHORES), "prune", chore)


def do(desk: Desk, config: Config, **more: Any) -> chores.Finished:
    return chores.do("prune", cast(Parts, desk), config, {}, Cancel(), trigger="command", **more)


def test_work_that_gives_no_sign_is_asked_to_end_and_says_why(
    desk: Desk, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chore(work: Work, _: Mapping[str, Any]) -> dict[str, Any]:
        asked = threading.Event()
        with work.cancel.ends(asked.set):
            asked.wait()
        raise ConnectError("what broke because of that")

    offer(monkeypatch, chore)
    done = do(desk, config)
    assert isinstance(done.error, ChoreOverdue)
    assert done.error.cause == "prune: no sign of life for 1 s (`limits.chore`)"
    assert done.error.retryable
    run = desk.catalog.run(done.run)
    assert run is not None
    assert run.failure is not None
    assert (run.outcome, run.failure.type) == ("failed", "ChoreOverdue")


@pytest.mark.parametrize("sign", ["check", "tell", "wait"])
def test_signs_of_life_keep_work_going_beyond_the_limit(
    desk: Desk, config: Config, monkeypatch: pytest.MonkeyPatch, sign: str
) -> None:
    clock = Hand()
    desk = Desk(desk.catalog, clock)

    def chore(work: Work, _: Mapping[str, Any]) -> dict[str, Any]:
        for _ in range(4):
            looks = clock.looks
            clock.time += 0.7
            if sign == "wait":
                work.cancel.wait(0.01)
            elif sign == "check":
                work.cancel.check()
            else:
                work.tell("working", 0, 0)
            until(lambda: clock.looks > looks, what="the watch to look")  # noqa: B023
        return {"done": 1}

    offer(monkeypatch, chore)
    assert do(desk, config).outcome == "complete"


def test_to_look_whether_to_stop_while_waiting_for_another_is_no_sign(tmp_path: Path) -> None:
    vigil = Vigil("it", 1.0, SystemClock(), lambda _: None)
    until(lambda: _looked(vigil), what="it to be ended")
    vigil.close()


def _looked(vigil: Vigil) -> bool:
    try:
        vigil.look()
    except ChoreOverdue:
        return True
    return False


class Stuck:
    """A chore that nothing ends, as one that waits for a file system, until `free`."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.begun = 0

    def __call__(self, work: Work, options: Mapping[str, Any]) -> dict[str, Any]:
        self.begun += 1
        self.free.wait()
        return {"done": 1}


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stuck]:
    made = Stuck()
    offer(monkeypatch, made)
    yield made
    made.free.set()


def test_what_nothing_can_end_is_recorded_while_it_hangs_and_again_if_it_ends(
    desk: Desk, config: Config, stuck: Stuck
) -> None:
    told: list[BackupError] = []
    ended: list[chores.Finished] = []
    work = threading.Thread(target=lambda: ended.append(do(desk, config, given_up=told.append, grace=0.1)))
    work.start()
    until(lambda: told, what="it to be given up")
    assert isinstance(told[0], StoreError)
    (run,) = desk.catalog.runs(kind="prune")
    assert (run.outcome, work.is_alive()) == ("failed", True)
    stuck.free.set()
    work.join(60)
    assert [done.outcome for done in ended] == ["complete"]
    (run,) = desk.catalog.runs(kind="prune")
    assert (run.outcome, run.failure) == ("complete", None)


def test_who_asked_is_answered_and_no_other_of_that_name_begins_while_it_hangs(
    desk: Desk, config: Config, stuck: Stuck
) -> None:
    keeper = Upkeep(cast(Parts, desk), config, grace=0.1)
    first, second = (desk.catalog.request("", "", {}, kind="prune") for _ in range(2))
    for request in (first, second):
        until(lambda: (keeper.poll(), answer(desk, request))[1], what="the answer")  # noqa: B023
        assert answer(desk, request)["error"]["type"] == "ChoreOverdue"
    assert stuck.begun == 1
    stuck.free.set()
    assert keeper.joined(60)
    assert answer(desk, first)["error"]["type"] == "ChoreOverdue"
    third = desk.catalog.request("", "", {}, kind="prune")
    until(lambda: (keeper.poll(), answer(desk, third))[1], what="the answer")
    assert answer(desk, third) == {"document": {"done": 1}, "error": None}


def answer(desk: Desk, request: int) -> Any:
    view = desk.catalog.request_view(request)
    return view.result if view is not None and view.done is not None else None


def copying_of(tmp_path: Path, *names: str, chore: str = "1s") -> Config:
    copies = tuple(CopyConfig(name=name, to=str(tmp_path / name)) for name in names)
    return replace(make_config(tmp_path, chore=chore), copies=copies)


def be_patient_with_all_but(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine any thread may begin late."""

    def vigil(what: str, silence: float, clock: Any, given_up: Any, grace: float) -> Vigil:
        if what != f"copy {name}":
            silence = grace = 3600.0
        return Vigil(what, silence, clock, given_up, grace)

    monkeypatch.setattr(apart, "Vigil", vigil)


def test_a_copy_that_gives_no_sign_keeps_no_other_from_its_turn_and_comes_last_the_next_time(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def round_(work: Work, copy: CopyConfig, *_: object) -> Round:
        tried.append(copy.name)
        if copy.name == "good":
            return Round()
        asked = threading.Event()
        with work.cancel.ends(asked.set):
            asked.wait()
        work.cancel.check()
        raise AssertionError("it was ended")

    monkeypatch.setattr(copying, "_round", round_)
    be_patient_with_all_but("silent", monkeypatch)
    config = copying_of(tmp_path, "silent", "good")
    for _ in range(2):
        done = chores.do("replicate", cast(Parts, desk), config, {}, Cancel(), trigger="schedule")
        assert done.outcome == "partial"
        assert [failed["cause"] for failed in done.document["failed"]] == [
            "copy silent: no sign of life for 1 s (`limits.chore`)"
        ]
    assert tried == ["silent", "good", "good", "silent"]
    views = {view.name: view.failure for view in desk.catalog.copies()}
    assert views["good"] is None
    assert views["silent"] is not None


def test_a_copy_that_nothing_can_end_is_left_alone_until_it_has_ended_and_the_others_go_on(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    tried: list[str] = []
    threads: list[threading.Thread] = []

    def round_(work: Work, copy: CopyConfig, *_: object) -> Round:
        tried.append(copy.name)
        if copy.name == "dead":
            threads.append(threading.current_thread())
            free.wait()
        return Round()

    monkeypatch.setattr(copying, "_round", round_)
    be_patient_with_all_but("dead", monkeypatch)

    def replicate(chore: str = "1s", grace: float = 0.1) -> chores.Finished:
        config = copying_of(tmp_path, "dead", "good", chore=chore)
        return chores.do("replicate", cast(Parts, desk), config, {}, Cancel(), trigger="schedule", grace=grace)

    try:
        causes = [done["cause"] for _ in range(2) for done in replicate().document["failed"]]
        silence = "copy dead: no sign of life for 1 s (`limits.chore`)"
        assert causes == [silence, f"{silence}; it hangs still"]
        assert sorted(tried) == ["dead", "good", "good"]
        assert [run.outcome for run in desk.catalog.runs(kind="replicate")] == ["partial", "partial"]
    finally:
        free.set()
    threads[0].join(60)
    assert replicate("1h", 600.0).outcome == "complete"
    assert sorted(tried) == ["dead", "dead", "good", "good", "good"]


def test_a_request_to_stop_reaches_the_copy_that_is_being_made(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel, tried = Cancel(), []

    def round_(work: Work, copy: CopyConfig, *_: object) -> Round:
        tried.append(copy.name)
        cancel.set()
        work.cancel.wait(600)
        raise AssertionError("it was asked to stop")

    monkeypatch.setattr(copying, "_round", round_)
    config = copying_of(tmp_path, "one", "other", chore="1h")
    done = chores.do("replicate", cast(Parts, desk), config, {}, cancel, trigger="schedule")
    assert (done.outcome, len(tried)) == ("cancelled", 1)
