"""Pruning in the store: line, then file; bases stay while they are needed; what is read or pinned stays."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyrsyncbackup_collector.entry import DIRECTORY, Entry
from pyrsyncbackup_collector.errors import NotFound, StoreBusy, StoreDamaged, StoreFull
from pyrsyncbackup_collector.store import reserve as reserves
from pyrsyncbackup_collector.store.prune import Pruned, with_room
from pyrsyncbackup_collector.store.reserve import PIECE, REMOVAL, SIZE, Reserve
from pyrsyncbackup_collector.store.snapshot import Change, Snapshot
from pyrsyncbackup_collector.store.store import Store

from tests.support.memory import MEMORY

ENTRIES = [Entry(path_text="etc", type=DIRECTORY), *(Entry(path_text=f"etc/{n:04}", size=n) for n in range(40))]


@contextmanager
def a_store(path: Path) -> Iterator[Store]:
    Store.create(path)
    with Store.open(path, lock=True) as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with a_store(tmp_path / "store") as opened:
        yield opened


def commit(store: Store, *, full: bool = False) -> Snapshot:
    """The first is a full manifest, the others are deltas, or full ones if wanted."""
    previous = store.newest("web1", "etc")
    number = previous.sequence if previous else 0
    changes = [Change(entry.path, entry) for entry in ENTRIES]
    if previous and not full:
        changes = [Change(b"etc/0007", Entry(path_text="etc/0007", size=1000 + number))]
    elif previous:
        changes = [Change(e.path, Entry(path_text=e.path_text, size=e.size + 9000 + number)) for e in ENTRIES[1:]]
    return store.commit("web1", "etc", time=1.79e9 + number, state="complete", changes=changes, previous=previous)


def files(store: Store) -> list[str]:
    return sorted(path.name[:6] for path in (store.path / "manifests" / "web1" / "etc").glob("*.zst"))


def listed(store: Store) -> list[int]:
    return [one.sequence for one in store.recorded("web1", "etc")]


def prune(store: Store, *sequences: int, **also: bool) -> Pruned:
    return store.prune("web1", "etc", dict.fromkeys(sequences, "no rule keeps it"), **also)


def test_a_pruned_snapshot_is_gone_and_its_line_says_why(store: Store) -> None:
    for _ in range(3):
        commit(store)
    done = prune(store, 2)
    assert ([one.sequence for one in done.removed], done.files) == ([2], 1)
    assert (listed(store), files(store)) == ([1, 3], ["000001", "000003"])
    line = store.log("web1", "etc").read().lines[-1]
    assert (line.op, line.sequence, line.reason) == ("prune", 2, "no rule keeps it")
    assert store.verify_log("web1", "etc") == []
    assert store.pruned("web1", "etc") == {2: done.removed[0].digest}
    assert len(list(store.entries(store.snapshots("web1", "etc")[1], verify=True))) == 41


def test_a_full_manifest_stays_as_a_file_while_a_kept_delta_needs_it(store: Store) -> None:
    for _ in range(3):
        commit(store)
    newest = commit(store, full=True)
    assert newest.base is None
    done = prune(store, 1, 2)
    assert list(done.kept_files.values()) == ["it is the base of 000003-2026-09-21T141322Z"]
    assert (listed(store), files(store)) == ([3, 4], ["000001", "000003", "000004"])
    assert len(list(store.entries(store.snapshots("web1", "etc")[0], verify=True))) == 41
    done = prune(store, 3)
    assert done.files == 2
    assert (listed(store), files(store)) == ([4], ["000004"])


def test_a_second_time_does_nothing(store: Store) -> None:
    commit(store)
    commit(store)
    prune(store, 1)
    lines = len(store.log("web1", "etc").read().lines)
    done = prune(store, 1)
    assert (done.removed, done.locked, done.pinned) == ([], [], [])
    assert len(store.log("web1", "etc").read().lines) == lines


def test_what_somebody_reads_stays_until_the_next_time(store: Store) -> None:
    for _ in range(3):
        commit(store)
    reader = Store.open(store.path)
    with reader.reading(store.snapshots("web1", "etc")[1]):
        done = prune(store, 1, 2)
        # The full one is the base of what is read.
        assert [one.sequence for one in done.locked] == [1, 2]
        assert listed(store) == [1, 2, 3]
    assert [one.sequence for one in prune(store, 1, 2).removed] == [1, 2]
    reader.close()


def test_a_base_that_somebody_reads_stays_as_a_file(store: Store) -> None:
    for _ in range(2):
        commit(store)
    commit(store, full=True)
    prune(store, 1)
    path = next((store.path / "manifests" / "web1" / "etc").glob("000001-*"))
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert list(prune(store, 2).kept_files.values()) == ["somebody reads it"]
    assert store.sweep("web1", "etc").files == 1
    assert files(store) == ["000003"]


def test_pinned_ones_stay_unless_it_is_said(store: Store) -> None:
    for _ in range(3):
        commit(store)
    store.pin("web1", "etc", 1, "before")
    store.pin("web1", "etc", 1, "for the audit")
    assert store.pins("web1", "etc") == {1: "for the audit"}
    assert [one.sequence for one in prune(store, 1, 2).pinned] == [1]
    assert listed(store) == [1, 3]
    store.unpin("web1", "etc", 1)
    assert store.pins("web1", "etc") == {}
    store.pin("web1", "etc", 1, "")
    assert [one.sequence for one in prune(store, 1, pinned_too=True).removed] == [1]
    assert store.pins("web1", "etc") == {}
    assert store.verify_log("web1", "etc") == []


def test_only_what_is_there_is_pinned_and_only_what_is_pinned_unpinned(store: Store) -> None:
    commit(store)
    with pytest.raises(NotFound, match="web1/etc has no snapshot 7"):
        store.pin("web1", "etc", 7, "")
    with pytest.raises(NotFound, match="snapshot 1 of web1/etc is not pinned"):
        store.unpin("web1", "etc", 1)
    with pytest.raises(NotFound, match="the store has no module web1/other"):
        store.pin("web1", "other", 1, "")


def test_pruning_needs_the_lock(store: Store) -> None:
    commit(store)
    with Store.open(store.path) as reader, pytest.raises(StoreBusy):
        prune(reader, 1)


def test_numbers_are_never_given_again(store: Store) -> None:
    commit(store)
    commit(store)
    prune(store, 1, 2)
    assert (listed(store), files(store)) == ([], [])
    assert commit(store).sequence == 3


def test_while_a_kept_delta_cannot_be_read_no_full_manifest_before_it_goes(store: Store) -> None:
    for _ in range(2):
        commit(store)
    commit(store, full=True)
    delta = next((store.path / "manifests" / "web1" / "etc").glob("000002-*"))
    whole = delta.read_bytes()
    delta.write_bytes(whole[:10])
    done = prune(store, 1)
    assert list(done.kept_files.values()) == ["000002-2026-09-21T141321Z cannot be read and may need it"]
    assert files(store) == ["000001", "000002", "000003"]
    delta.write_bytes(whole)
    assert len(list(store.entries(store.snapshots("web1", "etc")[0], verify=True))) == 41


def test_a_truncated_manifest_that_is_to_go_goes(store: Store) -> None:
    for _ in range(3):
        commit(store)
    next((store.path / "manifests" / "web1" / "etc").glob("000002-*")).write_bytes(b"")
    assert [one.sequence for one in prune(store, 2).removed] == [2]
    assert listed(store) == [1, 3]


@pytest.mark.parametrize("number", [1, 2])
def test_whether_a_snapshot_can_be_read_is_found_out_with_its_base(store: Store, number: int) -> None:
    commit(store)
    newest = commit(store)
    store.check_files(newest)
    next((store.path / "manifests" / "web1" / "etc").glob(f"{number:06d}-*")).write_bytes(b"x")
    with pytest.raises(StoreDamaged, match="is not the file that the log names"):
        store.check_files(newest)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sets(st.integers(1, 10), max_size=4)), min_size=1, max_size=10))
def test_whatever_is_pruned_what_is_listed_can_be_read_and_nothing_else_lies_about(
    rounds: list[tuple[bool, set[int]]],
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory, a_store(Path(directory) / "store") as store:
        for number, (full, going) in enumerate(rounds, 1):
            commit(store, full=full)
            prune(store, *(one for one in going if one != number))
            snapshots = store.snapshots("web1", "etc")
            for snapshot in snapshots:
                assert len(list(store.entries(snapshot, verify=True))) == 41
            needed = {one.name[:6] for one in snapshots} | {one.base[:6] for one in snapshots if one.base}
            assert set(files(store)) == needed
        assert store.verify_log("web1", "etc") == []


# Room that was set aside


def test_the_reserve_is_filled_spent_in_pieces_and_filled_again(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path)
    assert not reserve.spend()
    reserve.fill()
    assert reserve.path.stat().st_blocks * 512 >= SIZE
    assert reserve.spend()
    assert reserve.path.stat().st_size == SIZE - PIECE
    while reserve.spend():
        pass
    assert reserve.path.stat().st_blocks == 0
    reserve.fill()
    assert reserve.path.stat().st_size == SIZE


def test_a_reserve_that_cannot_be_had_is_none(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "not there")
    reserve.fill()
    reserve.lend(reserve.path.parent, REMOVAL)
    assert not reserve.spend()


def test_what_does_not_fit_is_tried_again_with_room_until_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserves, "SIZE", 3 * PIECE)
    reserve = Reserve(tmp_path)
    reserve.fill()
    tries = 0

    def write() -> str:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StoreFull("no space")
        return "written"

    assert with_room(reserve, write) == "written"
    assert reserve.path.stat().st_size == PIECE

    def never() -> None:
        raise StoreFull("no space")

    with pytest.raises(StoreFull):
        with_room(reserve, never)
    assert reserve.path.stat().st_size == 0
