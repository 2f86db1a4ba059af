"""Chores and upkeep, with a real catalog and threads: what is asked for is done once, recorded, and can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.config.calendar import pull_time
from pyrsyncbackup_collector.daemon import chores, upkeep
from pyrsyncbackup_collector.daemon.chore import Work
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.daemon.upkeep import Upkeep
from pyrsyncbackup_collector.errors import BackupError, Cancelled, StoreFull, UsageError
from pyrsyncbackup_collector.pull.cancel import Cancel

from tests.support.fleet import make_config
from tests.support.still_clock import StillClock
from tests.support.waiting import until


@dataclass(frozen=True)
class Desk:
    """What a chore works with, as far as these tests need it."""

    catalog: Catalog
    clock: StillClock


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    clock = StillClock()
    with Catalog.create(tmp_path / "catalog.sqlite", "store", clock=clock) as made:
        yield Desk(made, clock)


def do(desk: Desk, tmp_path: Path, **options: Any) -> chores.Finished:
    parts = cast(Parts, desk)
    return chores.do("probe", parts, make_config(tmp_path), options, Cancel(), trigger="command")


@pytest.mark.parametrize(("problems", "outcome"), [(0, "complete"), (2, "partial")])
def test_what_a_chore_returns_is_recorded(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problems: int, outcome: str
) -> None:
    def probe(work: Work, options: Mapping[str, Any]) -> dict[str, Any]:
        work.tell("counting", 3, 5)
        return {"count": options["count"], "problems": problems, "names": ["a"]}

    monkeypatch.setitem(cast(dict[str, Any], chores.CHORES), "probe", probe)
    done = do(desk, tmp_path, count=7)
    assert (done.outcome, done.document["count"], done.error) == (outcome, 7, None)
    run = desk.catalog.run(done.run)
    assert run is not None
    assert (run.kind, run.trigger, run.outcome, run.phase) == ("probe", "command", outcome, "counting")
    assert run.counters == {"count": 7, "problems": problems}


@pytest.mark.parametrize(
    ("fault", "outcome", "kind"),
    [
        (StoreFull("no space", "make room"), "failed", "StoreFull"),
        (Cancelled("stopped"), "cancelled", "Cancelled"),
        (KeyboardInterrupt(), "cancelled", "Cancelled"),
        (ZeroDivisionError("by zero"), "failed", "BackupError"),
    ],
)
def test_a_chore_that_fails_is_recorded_and_raises_nothing(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException, outcome: str, kind: str
) -> None:
    def probe(_: Work, __: Mapping[str, Any]) -> dict[str, Any]:
        raise fault

    monkeypatch.setitem(cast(dict[str, Any], chores.CHORES), "probe", probe)
    done = do(desk, tmp_path)
    assert (done.outcome, type(done.error).__name__) == (outcome, kind)
    run = desk.catalog.run(done.run)
    assert run is not None
    assert run.outcome == outcome
    assert run.end is not None


def test_an_unknown_chore_is_refused(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not know how to probe"):
        do(desk, tmp_path)


class Probe:
    """A chore that waits until it may go on, or is stopped."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = 0
        self.asked: list[Mapping[str, Any]] = []

    def __call__(self, work: Work, options: Mapping[str, Any]) -> dict[str, Any]:
        self.begun += 1
        self.asked.append(options)
        with work.cancel.ends(self.go.set):
            self.go.wait()
        work.cancel.check()
        return {"done": 1}


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    made = Probe()
    monkeypatch.setitem(cast(dict[str, Any], chores.CHORES), "prune", made)
    return made


def done(desk: Desk, request: int) -> bool:
    view = desk.catalog.request_view(request)
    return view is not None and view.done is not None


def test_requests_for_one_chore_are_done_one_after_the_other(desk: Desk, tmp_path: Path, probe: Probe) -> None:
    keeper = Upkeep(cast(Parts, desk), make_config(tmp_path))
    first, second = (desk.catalog.request("", "", {"number": number}, kind="prune") for number in (1, 2))
    keeper.poll()
    until(lambda: probe.begun == 1, what="the first to begin")
    keeper.poll()
    view = desk.catalog.request_view(second)
    assert view is not None
    assert view.taken is None
    probe.go.set()
    until(lambda: done(desk, first), what="the first to end")
    until(lambda: (keeper.poll(), done(desk, second))[1], what="the second to end")
    assert [options["number"] for options in probe.asked] == [1, 2]
    view = desk.catalog.request_view(first)
    assert view is not None
    assert view.result == {"document": {"done": 1}, "error": None}
    assert len(view.runs) == 1


def test_a_withdrawn_request_stops_its_chore(desk: Desk, tmp_path: Path, probe: Probe) -> None:
    keeper = Upkeep(cast(Parts, desk), make_config(tmp_path))
    request = desk.catalog.request("", "", {}, kind="prune")
    keeper.poll()
    until(lambda: probe.begun == 1, what="it to begin")
    desk.catalog.request_cancel(request)
    keeper.poll()
    until(lambda: done(desk, request), what="it to end")
    view = desk.catalog.request_view(request)
    assert view is not None
    assert view.result["error"]["type"] == "Cancelled"


def test_the_rota_begins_what_is_due_and_waits_for_its_time(desk: Desk, tmp_path: Path, probe: Probe) -> None:
    probe.go.set()
    keeper = Upkeep(cast(Parts, desk), make_config(tmp_path))
    keeper.poll()
    assert not desk.catalog.runs(kind="prune")
    for count in (1, 2):
        desk.clock.time += 86400 if count > 1 else upkeep.FIRST
        until(lambda: (keeper.poll(), len(ended(desk)))[1] == count, what="it to run")  # noqa: B023
        assert keeper.joined(60)
        desk.clock.time += 3600
        keeper.poll()
        assert probe.begun == count
    assert {run.trigger for run in ended(desk)} == {"schedule"}


def test_a_chore_of_one_host_that_somebody_asks_for_each_hour_does_not_put_off_that_of_all(
    desk: Desk, tmp_path: Path, probe: Probe
) -> None:
    probe.go.set()
    keeper = Upkeep(cast(Parts, desk), make_config(tmp_path))
    for _ in range(30):
        request = desk.catalog.request("", "", {"host": "web1"}, kind="prune")
        until(lambda: (keeper.poll(), done(desk, request))[1], what="it to end")  # noqa: B023
        assert keeper.joined(60)
        desk.clock.time += 3600
        keeper.poll()
        assert keeper.joined(60)
    assert [run.trigger for run in ended(desk)].count("schedule") == 2


@pytest.mark.parametrize("jump", [10 * 86400.0, 10 * 365 * 86400.0])
def test_a_run_by_a_clock_that_was_ahead_does_not_put_off_those_that_follow(
    desk: Desk, tmp_path: Path, probe: Probe, jump: float
) -> None:
    probe.go.set()
    begin = desk.clock.time
    # It is ahead at the second, and right again at the third; this clock is the monotonic one too.
    for count, moment in enumerate((0.0, jump, 86400.0, 2 * 86400.0), 1):
        desk.clock.time = begin + moment
        keeper = Upkeep(cast(Parts, desk), make_config(tmp_path))
        desk.clock.time += upkeep.FIRST
        until(lambda: (keeper.poll(), len(ended(desk)))[1] == count, what="it to run")  # noqa: B023
    assert probe.begun == 4


@pytest.mark.parametrize("often", ["1w", "monthly on 1 at 03:00"])
@pytest.mark.parametrize("fault", [StoreFull("no space", "make room"), Cancelled("the daemon ends")])
def test_a_chore_that_failed_or_was_cut_short_is_tried_again_within_an_hour(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, often: str, fault: BackupError
) -> None:
    faults: list[BackupError] = [fault]

    def chore(work: Work, options: Mapping[str, Any]) -> dict[str, Any]:
        if faults:
            raise faults.pop()
        return {}

    monkeypatch.setitem(cast(dict[str, Any], chores.CHORES), "prune", chore)
    made = make_config(tmp_path)
    upkeep_ = made.upkeep.model_copy(update={"prune": pull_time(often)})
    keeper = Upkeep(cast(Parts, desk), replace(made, upkeep=upkeep_))
    desk.catalog.run_end(desk.catalog.run_begin("", "", kind="prune", trigger="schedule"), "complete")
    desk.clock.time += 40 * 86400
    keeper.poll()
    assert keeper.joined(60)
    assert len(ended(desk)) == 2
    desk.clock.time += upkeep.AGAIN - 60
    keeper.poll()
    assert len(ended(desk)) == 2
    desk.clock.time += 60
    keeper.poll()
    assert keeper.joined(60)
    assert len(ended(desk)) == 3
    desk.clock.time += 2 * upkeep.AGAIN
    keeper.poll()
    assert keeper.joined(60)
    assert ended(desk)[0].outcome == "complete"
    assert len(ended(desk)) == 3


def ended(desk: Desk) -> list[Any]:
    return [run for run in desk.catalog.runs(kind="prune") if run.end is not None]


def test_stopping_ends_what_runs(desk: Desk, tmp_path: Path, probe: Probe) -> None:
    keeper = Upkeep(cast(Parts, desk), make_config(tmp_path))
    desk.catalog.request("", "", {}, kind="prune")
    keeper.poll()
    until(lambda: probe.begun == 1, what="it to begin")
    keeper.stop()
    assert keeper.joined(60)
    assert [run.outcome for run in desk.catalog.runs(kind="prune")] == ["cancelled"]
