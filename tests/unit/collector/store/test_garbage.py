"""Collecting garbage over a real store and catalog: what goes, what stays, and when."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.catalog.rebuild import rebuild
from pyrsyncbackup_collector.errors import Cancelled, StoreReadOnly
from pyrsyncbackup_collector.pull.ledger import StoredObject
from pyrsyncbackup_collector.store.garbage import BATCH, Collector, Pace, unknown_files
from pyrsyncbackup_collector.store.readers import still_read

from tests.support.estate import Content, Estate
from tests.support.still_clock import StillClock
from tests.support.waiting import until

DAY = 86400.0


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def estate(tmp_path: Path, clock: StillClock) -> Iterator[Estate]:
    made = Estate(tmp_path, clock)
    yield made
    made.close()


def has(estate: Estate, data: bytes) -> bool:
    """Whether the content is there: row and file, or neither."""
    there = estate.store.objects.place(digest(data)).exists()
    assert there == (digest(data) in estate.catalog.known([digest(data)]))
    return there


def two_versions(estate: Estate) -> None:
    estate.pull("web1", "etc", {b"etc/a": Content(b"old"), b"etc/b": Content(b"both")})
    estate.pull("web1", "etc", {b"etc/a": Content(b"new")})


def age(estate: Estate, clock: StillClock, days: float = 1.0) -> None:
    """Let a collection see what is unnamed, and its day pass."""
    estate.collect()
    clock.time += days * DAY


def test_what_no_snapshot_names_goes_a_day_after_it_was_seen(estate: Estate, clock: StillClock) -> None:
    two_versions(estate)
    age(estate, clock)
    assert estate.collect().objects == 0
    estate.prune("web1", "etc", 1)
    assert estate.collect().objects == 0
    clock.time += DAY - 1
    assert estate.collect().objects == 0
    clock.time += 1
    freed = estate.store.objects.stored_size(digest(b"old"))
    collected = estate.collect()
    assert (collected.objects, collected.bytes) == (1, freed)
    assert [has(estate, data) for data in (b"old", b"both", b"new")] == [False, True, True]
    assert estate.catalog.space().objects == 2


def test_what_was_written_today_waits_although_nothing_ever_named_it(estate: Estate, clock: StillClock) -> None:
    """A pull that was cut off goes on with it."""
    estate.collect()
    clock.time += 2 * DAY
    run = estate.catalog.run_begin("web1", "etc")
    estate.catalog.record_objects(run, "web1", [estate._object(Content(b"sent"), True)])
    estate.catalog.unpin(run)
    for passed in (0.0, DAY / 2):
        clock.time += passed
        assert estate.collect().objects == 0
    clock.time += DAY
    assert estate.collect().objects == 1
    assert not has(estate, b"sent")


@pytest.mark.parametrize("again", ["named", "claimed", "known", "sent"])
def test_what_is_used_again_loses_its_mark(estate: Estate, clock: StillClock, again: str) -> None:
    two_versions(estate)
    estate.prune("web1", "etc", 1)
    age(estate, clock, 0.9)
    old = digest(b"old")
    if again == "named":
        estate.pull("web1", "etc", {b"etc/c": Content(b"old")})
    elif again == "claimed":
        assert estate.catalog.pin_claimable("p", "web1", [(old, True)], share=True)
    elif again == "known":
        assert estate.catalog.pin_known("p", [old])
    else:
        estate.catalog.record_objects("p", "web1", [StoredObject(old, 3, 12, True)])
    estate.catalog.unpin("p")
    clock.time += 0.9 * DAY
    assert estate.collect().objects == 0
    clock.time += DAY
    assert estate.collect().objects == (0 if again == "named" else 1)
    assert has(estate, b"old") == (again == "named")


def test_what_a_pull_pins_stays_however_old_it_is(estate: Estate, clock: StillClock) -> None:
    two_versions(estate)
    estate.prune("web1", "etc", 1)
    age(estate, clock)
    estate.catalog.pin("p", [digest(b"old")])
    clock.time += 4000 * DAY
    assert estate.collect().objects == 0
    assert estate.catalog.unnamed(DAY)[0].pinned
    estate.catalog.unpin("p")
    assert estate.collect().objects == 1


def test_a_base_alone_keeps_no_object_alive(estate: Estate, clock: StillClock) -> None:
    estate.pull("web1", "etc", {b"etc/%d" % n: Content(b"%d" % n) for n in range(40)})
    second = estate.pull("web1", "etc", {b"etc/0": Content(b"changed")})
    estate.prune("web1", "etc", 1)
    assert second.base is not None
    assert list((estate.store.path / "manifests/web1/etc").glob("*.full.zst"))
    age(estate, clock)
    assert estate.collect().objects == 1
    assert not has(estate, b"0")
    assert len([entry for entry in estate.store.entries(second) if entry.sha256]) == 40


def test_what_a_reader_of_a_pruned_snapshot_needs_is_live(estate: Estate) -> None:
    first = estate.pull("web1", "etc", {b"etc/%d" % n: Content(b"%d" % n) for n in range(40)})
    estate.pull("web1", "etc", {b"etc/0": Content(b"changed")})
    estate.prune("web1", "etc", 1)
    assert set(still_read(estate.store)) == set()
    with estate.store.reading(first):
        assert set(still_read(estate.store)) == {digest(b"%d" % n) for n in range(40)}


@pytest.mark.parametrize("years", [10, -10])
def test_a_clock_that_jumps_costs_nothing_that_is_named(estate: Estate, clock: StillClock, years: int) -> None:
    two_versions(estate)
    estate.prune("web1", "etc", 1)
    estate.collect()
    clock.time += years * 365 * DAY
    estate.collect()
    assert has(estate, b"new")
    assert has(estate, b"both")
    clock.time += DAY
    assert estate.collect().objects == (0 if years > 0 else 1)
    assert not has(estate, b"old")


def test_a_mark_of_this_collection_is_never_old_enough_for_it(
    estate: Estate, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock jumps ten years ahead in the middle of it."""
    two_versions(estate)
    estate.prune("web1", "etc", 1)
    due = estate.catalog.due

    def later(before: float, limit: int) -> object:
        clock.time += 3650 * DAY
        return due(before, limit)

    monkeypatch.setattr(estate.catalog, "due", later)
    assert estate.collect().objects == 0
    assert has(estate, b"old")


def lose_rows(estate: Estate) -> None:
    with estate.catalog._database.writing() as raw:
        raw.execute("DELETE FROM objects WHERE sha256 = ?", (bytes.fromhex(digest(b"stray")),))


def stray(estate: Estate, clock: StillClock, old: float) -> Path:
    """A file without a row, written so long ago."""
    estate._object(Content(b"stray"), True)
    place = estate.store.objects.place(digest(b"stray"))
    os.utime(place, (clock.time - old, clock.time - old))
    return place


def test_a_file_without_a_row_goes_when_it_is_old(estate: Estate, clock: StillClock) -> None:
    place = stray(estate, clock, 0)
    assert estate.collect().files == 0
    clock.time += DAY
    assert unknown_files(estate.store.objects, estate.catalog, clock.time - DAY) == (1, place.stat().st_size)
    assert estate.collect().files == 1
    assert not place.exists()


def test_a_rebuilt_catalog_takes_no_file_for_a_stray_before_its_day(estate: Estate, clock: StillClock) -> None:
    place = stray(estate, clock, 10 * DAY)
    estate.pull("web1", "etc", {b"etc/a": Content(b"a")})
    estate.catalog.close()
    estate.catalog = rebuild(estate.catalog_path, estate.store, clock=clock).catalog
    assert unknown_files(estate.store.objects, estate.catalog, clock.time - DAY) == (0, 0)
    assert estate.collect().files == 0
    clock.time += DAY - 1
    assert estate.collect().files == 0
    clock.time += 1
    assert estate.collect().files == 1
    assert not place.exists()
    assert has(estate, b"a")


@pytest.mark.parametrize("named_by", ["a version", "a pin"])
def test_a_file_without_a_row_that_something_names_stays(estate: Estate, clock: StillClock, named_by: str) -> None:
    estate.collect()
    place = stray(estate, clock, 10 * DAY)
    if named_by == "a version":
        estate.pull("web1", "etc", {b"etc/a": Content(b"stray")})
        lose_rows(estate)
    else:
        estate.catalog.pin("p", [digest(b"stray")])
    clock.time += 10 * DAY
    assert estate.collect().files == 0
    assert place.exists()


def test_foreign_files_are_counted_and_left_alone(estate: Estate, clock: StillClock) -> None:
    estate.collect()
    shard = estate.store.path / "objects/ab"
    for name in ("notes.txt", "ABCDEF", "a" * 61, "a" * 63):
        (shard / name).touch()
        os.utime(shard / name, (0, 0))
    clock.time += 10 * DAY
    collected = estate.collect()
    assert (collected.files, collected.foreign) == (0, 4)
    assert len(list(shard.iterdir())) == 4


def test_who_sent_what_is_gone_is_forgotten(estate: Estate, clock: StillClock) -> None:
    two_versions(estate)
    estate.prune("web1", "etc", 1)
    age(estate, clock)
    estate.collect()
    with estate.catalog._database.reading() as raw:
        left = {row[0].hex() for row in raw.execute("SELECT sha256 FROM sent")}
    assert left == {digest(b"new"), digest(b"both")}


def many(estate: Estate, clock: StillClock, count: int) -> None:
    """So many objects that are due."""
    estate.pull("web1", "etc", {b"etc/%d" % n: Content(b"%d" % n) for n in range(count)})
    estate.pull("web1", "etc", dict.fromkeys((b"etc/%d" % n for n in range(count)), None))
    estate.prune("web1", "etc", 1)
    age(estate, clock)


def test_it_pauses_so_that_it_goes_no_faster_than_asked(estate: Estate, clock: StillClock) -> None:
    many(estate, clock, BATCH + 10)
    pauses: list[float] = []
    pace = Pace(100.0, clock, pauses.append)
    collected = Collector(estate.store.objects, estate.catalog, pace, DAY, lambda *_: None).run()
    assert collected.objects == BATCH + 10
    assert [pause for pause in pauses if pause] == [BATCH / 100, 10 / 100]


def test_it_can_be_stopped_and_goes_on(estate: Estate, clock: StillClock) -> None:
    many(estate, clock, BATCH + 10)

    def stop(seconds: float) -> None:
        if seconds:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        Collector(estate.store.objects, estate.catalog, Pace(1.0, clock, stop), DAY, lambda *_: None).run()
    assert estate.catalog.space().objects == 10
    assert estate.collect().objects == 10


def test_an_object_that_went_behind_our_back_is_no_fault(estate: Estate, clock: StillClock) -> None:
    many(estate, clock, 3)
    estate.store.objects.place(digest(b"1")).unlink()
    assert estate.collect().objects == 3
    assert estate.catalog.space().objects == 0


def test_a_writer_of_what_is_being_removed_comes_after_the_removal(
    estate: Estate, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is gone, the file not yet, and a pull brings the same content again: its file must stay."""
    two_versions(estate)
    estate.prune("web1", "etc", 1)
    age(estate, clock)
    remove = estate.store.objects.remove
    written = threading.Event()

    def write() -> None:
        known = estate.catalog.pin_known("p", [digest(b"old")])
        assert not known
        written.set()
        stored = estate._object(Content(b"old"), True)
        estate.catalog.record_objects("p", "web1", [stored])

    writer = threading.Thread(target=write)

    def slowly(digests: Iterator[str]) -> int:
        if not writer.ident:
            writer.start()
            assert written.wait(60)
            until(lambda: any(estate.store.objects.path.glob(".tmp-*")) or waits(estate))
        return remove(digests)

    monkeypatch.setattr(estate.store.objects, "remove", slowly)
    assert estate.collect().objects == 1
    writer.join(60)
    assert has(estate, b"old")


def waits(estate: Estate) -> bool:
    """Whether a writer stands before the closed gate, its draft ready."""
    return bool(list(estate.store.objects.path.glob("*/.tmp-*")))


@pytest.mark.parametrize("fault", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")])
def test_a_store_that_cannot_be_written_is_said_and_nothing_is_lost(
    estate: Estate, clock: StillClock, monkeypatch: pytest.MonkeyPatch, fault: OSError
) -> None:
    two_versions(estate)
    estate.prune("web1", "etc", 1)
    age(estate, clock)
    place = estate.store.objects.place(digest(b"old"))

    unlink = os.unlink

    def refuse(path: str | Path) -> None:
        if Path(path) == place:
            raise fault
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr("os.unlink", refuse)
        with pytest.raises(StoreReadOnly):
            estate.collect()
    assert place.exists()
    os.utime(place, (0, 0))
    clock.time += DAY
    assert estate.collect().files == 1
    assert not place.exists()


def crash(estate: Estate, name: str, after: bool) -> Callable[[], None]:
    """A process that ends before or after a call."""

    class Ended(BaseException):
        pass

    target = estate.store.objects if name == "remove" else estate.catalog
    original = getattr(target, name)

    def instead(*arguments: object) -> object:
        if after:
            original(*arguments)
        raise Ended

    setattr(target, name, instead)

    def run() -> None:
        with pytest.raises(Ended):
            estate.collect()
        delattr(target, name)

    return run


@pytest.mark.parametrize(("call", "after"), [("drop", False), ("drop", True), ("remove", False), ("remove", True)])
def test_a_collection_that_ends_in_the_middle_leaves_nothing_that_the_next_does_not_put_right(
    estate: Estate, clock: StillClock, call: str, after: bool
) -> None:
    two_versions(estate)
    estate.prune("web1", "etc", 1)
    age(estate, clock)
    crash(estate, call, after)()
    place = estate.store.objects.place(digest(b"old"))
    if place.exists():
        os.utime(place, (0, 0))
    clock.time += DAY
    estate.collect()
    assert not has(estate, b"old")
    assert has(estate, b"new")
    assert has(estate, b"both")
