"""The chore "gc": when it may, and what it says."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.daemon import chores, garbage
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.entry import DIRECTORY, Entry
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.store.snapshot import Change
from pyrsyncbackup_collector.store.store import Store

from tests.support.estate import Content, Estate
from tests.support.fleet import make_config
from tests.support.still_clock import StillClock

DAY = 86400.0


@dataclass(frozen=True)
class Desk:
    """What the chore works with."""

    store: Store
    catalog: Catalog
    clock: StillClock


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def estate(tmp_path: Path, clock: StillClock) -> Iterator[Estate]:
    made = Estate(tmp_path, clock)
    clock.time += DAY
    made.pull("web1", "etc", {b"etc/a": Content(b"a")})
    made.pull("web1", "etc", {b"etc/a": Content(b"b")})
    made.prune("web1", "etc", 1)
    yield made
    made.close()


def do(estate: Estate, tmp_path: Path, cancel: Cancel | None = None, **options: Any) -> chores.Finished:
    parts = cast(Parts, Desk(estate.store, estate.catalog, cast(StillClock, estate.clock)))
    return chores.do("gc", parts, make_config(tmp_path), options, cancel or Cancel(), trigger="command")


def test_it_removes_what_is_due_and_says_what_waits(estate: Estate, tmp_path: Path, clock: StillClock) -> None:
    done = do(estate, tmp_path, rate=0)
    assert (done.outcome, done.document["objects"], done.document["waiting_objects"]) == ("complete", 0, 1)
    clock.time += DAY
    done = do(estate, tmp_path, rate=0)
    assert (done.document["objects"], done.document["waiting_objects"]) == (1, 0)
    run = estate.catalog.run(done.run)
    assert run is not None
    assert run.counters["objects"] == 1
    assert estate.store.reserve.path.stat().st_size > 0


def test_it_refuses_while_the_catalog_lacks_a_snapshot(
    estate: Estate, tmp_path: Path, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(estate, tmp_path, rate=0)
    estate.pull("web1", "etc", {b"etc/c": Content(b"c")}, recorded=False)
    clock.time += 10 * DAY
    monkeypatch.setattr(garbage, "SETTLE", 0.0)
    done = do(estate, tmp_path, rate=0)
    assert done.outcome == "failed"
    assert type(done.error).__name__ == "CatalogMismatch"
    assert "lacks snapshot 000003" in str(done.error)
    assert estate.catalog.space().objects == 3
    estate.catalog.catch_up(estate.store, "web1", "etc")
    assert do(estate, tmp_path, rate=0).document["objects"] == 1


def test_it_can_be_stopped(estate: Estate, tmp_path: Path, clock: StillClock) -> None:
    cancel = Cancel()
    cancel.set()
    assert do(estate, tmp_path, cancel, rate=0).outcome == "cancelled"
    assert estate.catalog.space().objects == 2


def test_what_a_reader_of_a_pruned_snapshot_needs_stays_while_it_reads(
    estate: Estate, tmp_path: Path, clock: StillClock
) -> None:
    first = estate.pull("web2", "etc", {b"etc/%d" % n: Content(b"%d" % n) for n in range(30)})
    estate.pull("web2", "etc", {b"etc/0": Content(b"other")})
    estate.prune("web2", "etc", 1)
    do(estate, tmp_path, rate=0)
    clock.time += DAY
    with estate.store.reading(first):
        # Only that of the other host.
        assert do(estate, tmp_path, rate=0).document["objects"] == 1
        for entry in estate.store.entries(replace(first)):
            assert not entry.sha256 or estate.store.objects.read_entry(entry)
    assert do(estate, tmp_path, rate=0).document["objects"] == 1


def test_what_only_a_lost_manifest_named_stays(estate: Estate, tmp_path: Path, clock: StillClock) -> None:
    lost = estate.pull("web2", "etc", {b"etc/only": Content(b"only here"), b"etc/a": Content(b"b")})
    next((estate.store.path / "manifests/web2/etc").glob(f"{lost.name}.*")).unlink()
    estate.pull("web3", "etc", {b"etc/x": Content(b"x")})
    shutil.rmtree(estate.store.path / "manifests/web3")
    for _ in range(3):
        assert estate.catalog.check_against(estate.store) == []
        done = do(estate, tmp_path, rate=0)
        assert (done.outcome, done.error) == ("complete", None)
        clock.time += 2 * DAY
    # Of all that was pulled the content of the pruned snapshot alone went.
    assert estate.catalog.space().objects == 3
    for content in (b"b", b"only here", b"x"):
        assert estate.store.objects.stored_size(hashlib.sha256(content).hexdigest())


def test_it_refuses_while_the_store_has_another_snapshot_of_the_same_number(
    estate: Estate, tmp_path: Path, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = estate.pull("web2", "etc", {b"etc/a": Content(b"one")})
    shutil.rmtree(estate.store.path / "manifests/web2")
    changes = [Change(b"etc", Entry(path_text="etc", type=DIRECTORY))]
    estate.store.commit("web2", "etc", time=first.time, state="complete", changes=changes, previous=None)
    monkeypatch.setattr(garbage, "SETTLE", 0.0)
    done = do(estate, tmp_path, rate=0)
    assert f"snapshot {first.name} of web2/etc is another one in the store" in str(done.error)
