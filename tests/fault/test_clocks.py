"""Clocks that lie: the collector's goes back, two snapshots in one second, a host's is years off."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.pull.report import Outcome
from pyrsyncbackup_collector.store import reference

from tests.support.agent import RunningAgent
from tests.support.puller import Puller
from tests.support.still_clock import StillClock

HOUR = 3600.0
YEARS = 10 * 365 * 86400


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "srv").mkdir()
    return tmp_path / "srv"


@pytest.fixture
def agent(tmp_path: Path, top: Path) -> Iterator[RunningAgent]:
    with RunningAgent(tmp_path / "agent") as running:
        running.module("srv", top)
        yield running


def test_snapshots_keep_their_order_and_their_names_whatever_the_clock_does(
    tmp_path: Path, agent: RunningAgent, top: Path
) -> None:
    clock = StillClock()
    start = clock.time
    moves = [0.0, 0.0, 0.4, -HOUR, -HOUR, -YEARS, YEARS, 0.0]
    with Puller(tmp_path / "collector", agent.collector, clock=clock) as puller:
        client = puller.client(agent.address, agent.certificate_pem)
        names: list[str] = []
        for number, move in enumerate(moves):
            clock.time = start + move
            (top / "file").write_text(f"version {number}")
            report = puller.pull(client, "srv")
            assert report.outcome is Outcome.COMPLETE
            assert report.snapshot is not None
            names.append(report.snapshot.name)
            assert report.snapshot.time == clock.time
            # The newest is the last one made; the comparison stood on the one before.
            newest = puller.store.newest("web1", "srv")
            assert newest is not None
            assert newest.name == names[-1]
            assert report.counts.modified == (number > 0)
        snapshots = puller.store.snapshots("web1", "srv")
        assert [one.name for one in snapshots] == names
        assert [one.sequence for one in snapshots] == list(range(1, len(moves) + 1))
        for number, one in enumerate(snapshots):
            texts = [puller.content(e) for e in puller.store.entries(one, verify=True) if e.path.endswith(b"/file")]
            assert texts == [b"version %d" % number]
        assert [one.name for one in puller.catalog.snapshots("web1", "srv")] == names
        latest = reference.resolve(reference.parse("web1/srv@latest"), snapshots, clock.time)
        assert latest.name == names[-1]
        for name in names:
            assert reference.resolve(reference.parse(f"web1/srv@{name}"), snapshots, clock.time).name == name
        assert puller.pull(client, "srv").outcome is Outcome.UNCHANGED
        client.close()
    with Puller(tmp_path / "collector", agent.collector) as puller:
        assert puller.store.reconcile().faults == []
        assert puller.catalog.check_against(puller.store) == []


@pytest.mark.parametrize("years", [-30, 30])
def test_files_of_a_host_whose_clock_is_years_off_are_found_when_they_change(
    tmp_path: Path, agent: RunningAgent, top: Path, years: int
) -> None:
    """Seen from the collector that is the same as a collector whose clock is off, and files dated so."""
    clock = StillClock()
    clock.time -= years * 365 * 86400
    when = int(clock.time) - years * 2 * 365 * 86400
    with Puller(tmp_path / "collector", agent.collector, clock=clock) as puller:
        client = puller.client(agent.address, agent.certificate_pem)
        for text in ("one", "two"):
            (top / "file").write_text(text)
            os.utime(top / "file", (when, when))
            assert puller.pull(client, "srv").outcome is Outcome.COMPLETE
            (entry,) = [e for path, e in puller.entries("srv").items() if path.endswith(b"/file")]
            assert (puller.content(entry), entry.mtime_s) == (text.encode(), when)
        assert puller.pull(client, "srv").outcome is Outcome.UNCHANGED
        client.close()
