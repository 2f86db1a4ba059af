"""What names what: contents, lists of chunks, chunks."""

from __future__ import annotations

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.errors import CatalogError
from pyrsyncbackup_collector.store.garbage import PARTS

from tests.support.snapshots import change, digest, memory, snapshot, stored
from tests.support.still_clock import StillClock

DAY = 86400.0


def record(catalog: Catalog, *names: str) -> None:
    catalog.record_objects("p", "web1", [stored(name) for name in names])
    catalog.unpin("p")


def in_chunks(catalog: Catalog, whole: str, list_: str, *chunks: str) -> None:
    """Say of a recorded content that it lies in chunks, which are recorded too."""
    with catalog._database.writing() as raw:
        raw.execute("UPDATE objects SET chunks = ?, stored_size = 0 WHERE sha256 = ?", (blob(list_), blob(whole)))
        raw.execute("INSERT INTO lists VALUES (?, ?)", (blob(whole), blob(list_)))
        raw.executemany("INSERT OR IGNORE INTO chunks VALUES (?, ?)", [(blob(list_), blob(each)) for each in chunks])


def blob(name: str) -> bytes:
    return bytes.fromhex(digest(name))


def name_it(catalog: Catalog, *names: str) -> None:
    """One snapshot that names these contents."""
    one = snapshot(1)
    changes = [change(f"etc/{name}".encode(), name) for name in names]
    catalog.commit("r", one, changes, memory(1), previous=0)


def collect(catalog: Catalog, clock: StillClock) -> set[str]:
    """What a collection drops after a day, in rounds until there is no more."""
    for part in range(PARTS):
        catalog.mark_unnamed(part)
    clock.time += DAY
    dropped: set[str] = set()
    while due := [each.sha256 for each in catalog.due(clock.time - DAY, 100)]:
        dropped |= {each.sha256 for each in catalog.drop(due, clock.time - DAY)}
    return dropped


def test_chunks_die_with_the_last_content_that_lies_in_them(catalog: Catalog, clock: StillClock) -> None:
    record(catalog, "big1", "big2", "list1", "list2", "c1", "c2", "c3")
    in_chunks(catalog, "big1", "list1", "c1", "c2")
    in_chunks(catalog, "big2", "list2", "c2", "c3")
    name_it(catalog, "big2")
    assert collect(catalog, clock) == {digest(name) for name in ("big1", "list1", "c1")}
    left = catalog.known([digest(name) for name in ("big2", "list2", "c2", "c3")])
    assert len(left) == 4
    assert collect(catalog, clock) == set()


def test_a_list_of_two_contents_stays_while_one_is_left(catalog: Catalog, clock: StillClock) -> None:
    record(catalog, "big1", "big2", "list", "c1")
    in_chunks(catalog, "big1", "list", "c1")
    in_chunks(catalog, "big2", "list", "c1")
    name_it(catalog, "big1")
    assert collect(catalog, clock) == {digest("big2")}
    assert collect(catalog, clock) == set()


def test_all_lists_of_a_content_stay_while_it_is_named(catalog: Catalog, clock: StillClock) -> None:
    record(catalog, "big", "list1", "list2", "c1", "c2")
    in_chunks(catalog, "big", "list1", "c1")
    in_chunks(catalog, "big", "list2", "c2")
    name_it(catalog, "big")
    assert collect(catalog, clock) == set()
    catalog.drop_snapshots("web1", "nginx", [1])
    assert len(collect(catalog, clock)) == 5


def test_a_list_stays_while_a_snapshot_names_its_content_though_that_has_no_row(
    catalog: Catalog, clock: StillClock
) -> None:
    record(catalog, "big", "list", "c1")
    in_chunks(catalog, "big", "list", "c1")
    name_it(catalog, "big")
    assert catalog.damage_found(digest("big"), "rotten", "a test", lambda: True)
    assert collect(catalog, clock) == set()
    catalog.drop_snapshots("web1", "nginx", [1])
    assert collect(catalog, clock) == {digest("list"), digest("c1")}


def test_a_chunk_that_is_a_content_of_its_own_stays(catalog: Catalog, clock: StillClock) -> None:
    record(catalog, "big", "list", "c1", "c2")
    in_chunks(catalog, "big", "list", "c1", "c2")
    name_it(catalog, "c1")
    assert collect(catalog, clock) == {digest(name) for name in ("big", "list", "c2")}


def test_a_pin_on_a_content_keeps_its_chunks(catalog: Catalog, clock: StillClock) -> None:
    record(catalog, "big", "list", "c1")
    in_chunks(catalog, "big", "list", "c1")
    catalog.pin("q", [digest("big")])
    assert collect(catalog, clock) == set()
    catalog.unpin("q")
    assert len(collect(catalog, clock)) == 3


def test_what_nothing_names_is_told_by_the_day_since_when(catalog: Catalog, clock: StillClock) -> None:
    record(catalog, "a", "b")
    for part in range(PARTS):
        catalog.mark_unnamed(part)
    clock.time += 3 * DAY
    record(catalog, "c")
    told = [(each.since, each.objects, each.due) for each in catalog.unnamed(DAY)]
    assert told == [(clock.time - 3 * DAY, 2, True), (clock.time, 1, False)]


def test_a_mark_from_before_the_clock_was_set_back_says_nothing(catalog: Catalog, clock: StillClock) -> None:
    clock.time += 3650 * DAY
    record(catalog, "a")
    for part in range(PARTS):
        catalog.mark_unnamed(part)
    clock.time -= 3650 * DAY
    assert collect(catalog, clock) == {digest("a")}


def test_a_durable_transaction_stands_alone(catalog: Catalog) -> None:
    with pytest.raises(CatalogError), catalog._database.writing(), catalog._database.writing(durable=True):
        pass
    with catalog._database.writing(durable=True) as raw:
        assert raw.execute("PRAGMA synchronous").fetchone() == (2,)
    assert catalog._database.raw.execute("PRAGMA synchronous").fetchone() == (1,)
