"""A store as its users see it: commits, listings, entries."""

from __future__ import annotations

import hashlib
import os
import random
import stat
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from pyrsyncbackup_collector.entry import DIRECTORY, Entry, order, text_or_bytes
from pyrsyncbackup_collector.errors import StoreBusy, StoreDamaged, StoreError, StoreMissing
from pyrsyncbackup_collector.store.snapshot import Change, Facts, Problem, Snapshot, Totals
from pyrsyncbackup_collector.store.store import Store

from tests.support.estate import Content, Estate

TIME = 1_790_000_000.25


def file(path: bytes, content: bytes = b"x", **more: object) -> Entry:
    text, raw = text_or_bytes(path)
    return Entry(
        path_text=text,
        path_b64=raw,
        mode=0o644,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        mtime_s=-5,
        mtime_ns=123456789,
        **more,  # type: ignore[arg-type]
    )


def directory(path: bytes) -> Entry:
    text, raw = text_or_bytes(path)
    return Entry(path_text=text, path_b64=raw, type=DIRECTORY, mode=0o755)


def tree(files: int, *, content: bytes = b"x") -> list[Entry]:
    entries = [directory(b"etc"), directory(b"etc/d")]
    entries += [file(b"etc/d/%06d\n\xff" % number, content) for number in range(files)]
    return entries


def added(entries: list[Entry]) -> list[Change]:
    return [Change(entry.path, entry) for entry in entries]


def commit(store: Store, changes: list[Change], previous: Snapshot | None = None, **more: object) -> Snapshot:
    arguments = {"time": TIME, "state": "complete", **more}
    return store.commit("web1", "etc", changes=changes, previous=previous, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Store.create(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def store(path: Path):
    with Store.open(path, lock=True) as opened:
        yield opened


def test_a_new_store_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Store.create(tmp_path / "a" / "store")
        with Store.open(tmp_path / "a" / "store", lock=True) as store:
            commit(store, added(tree(3)))
    finally:
        os.umask(before)
    for place in [tmp_path / "a" / "store", *(tmp_path / "a" / "store").rglob("*")]:
        assert stat.S_IMODE(place.stat().st_mode) & 0o077 == 0, place


def test_a_store_is_never_made_by_opening(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match=r"no store at .*mounted"):
        Store.open(tmp_path, lock=True)
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_not_made_over_something_else(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is a store already"):
        Store.create(path)
    (tmp_path / "x").write_text("")
    with pytest.raises(StoreError, match="not empty"):
        Store.create(tmp_path)


def test_an_unknown_format_version_is_refused(path: Path) -> None:
    (path / "format.json").write_text('{"format":"pyrsyncbackup-store","version":2,"id":"x"}')
    with pytest.raises(StoreError, match="has format pyrsyncbackup-store 2"):
        Store.open(path)
    (path / "format.json").write_text("")
    with pytest.raises(StoreDamaged, match="cannot be read"):
        Store.open(path)


def test_a_second_collector_is_refused_and_told_of_the_first(path: Path, store: Store) -> None:
    with pytest.raises(StoreBusy, match=rf"in use by process {os.getpid()} on .* since 2.*:"):
        Store.open(path, lock=True)
    with Store.open(path) as reader:
        assert reader.id == store.id
        with pytest.raises(StoreBusy, match="opened for reading"):
            commit(reader, [])


def test_a_first_snapshot_is_full_and_comes_back_as_it_was(store: Store) -> None:
    entries = tree(2500)
    problem = Problem(b"etc/\xff", "denied", "Permission denied")
    facts = Facts("All of etc", (b"etc",), ((b"e\xff", b"etc"),), ("*.bak",), ("*.conf",), (problem,))
    snapshot = commit(store, added(entries), facts=facts)
    assert snapshot.name == "000001-2026-09-21T141320Z"
    assert (snapshot.sequence, snapshot.time, snapshot.base) == (1, TIME, None)
    assert snapshot.totals == Totals(entries=2502, files=2500, size=2500)
    assert list(store.entries(snapshot, verify=True)) == entries
    assert store.facts(snapshot) == facts
    assert store.snapshots("web1", "etc") == [snapshot]
    assert store.newest("web1", "etc") == snapshot
    assert list(store.modules()) == [("web1", "etc")]
    manifest = store.path / "manifests/web1/etc/000001-2026-09-21T141320Z.full.zst"
    assert hashlib.sha256(manifest.read_bytes()).hexdigest() == snapshot.digest
    lines = subprocess.run(["zstd", "-dc", manifest], capture_output=True, check=True).stdout
    assert lines.count(b"\n") == 2503
    assert store.verify_log("web1", "etc") == []


def test_small_changes_make_deltas_to_the_one_full_manifest(store: Store) -> None:
    entries = tree(40)
    first = commit(store, added(entries))
    new, gone = file(b"etc/d/000001~"), entries[7].path
    second = commit(store, [Change(new.path, new), Change(gone, None)], first)
    assert second.base == first.name
    third = commit(store, [Change(new.path, None), Change(gone, entries[7])], second)
    assert third.base == first.name
    assert third.totals == first.totals
    assert list(store.entries(third, verify=True)) == entries
    assert list(store.changes(third)) == []  # what was changed back is no difference to the base
    expected = sorted([*(e for e in entries if e.path != gone), new], key=lambda e: order(e.path))
    assert list(store.entries(second)) == expected
    assert [s.sequence for s in store.snapshots("web1", "etc")] == [1, 2, 3]


def test_a_delta_that_grows_over_a_quarter_gives_way_to_a_full_manifest(store: Store) -> None:
    entries = tree(38)
    snapshot = commit(store, added(entries))
    bases = []
    for number in range(2, 20):
        entries[number] = file(entries[number].path, b"new")
        snapshot = commit(store, [Change(entries[number].path, entries[number])], snapshot)
        bases.append(snapshot.base)
        assert list(store.entries(snapshot)) == entries
    assert bases.index(None) == 10
    assert snapshot.base == "000012-2026-09-21T141320Z"


def test_any_series_of_changes_comes_back(store: Store) -> None:
    chance = random.Random(7)
    state: dict[bytes, Entry] = {entry.path: entry for entry in tree(60)}
    snapshot = commit(store, added(list(state.values())))
    for _ in range(25):
        changes: dict[bytes, Entry | None] = {}
        for _ in range(chance.randrange(12)):
            path = b"etc/d/%06d\n\xff" % chance.randrange(80)
            changes[path] = None if path in state and chance.random() < 0.5 else file(path, chance.randbytes(3))
        for path, entry in changes.items():
            if entry is None:
                state.pop(path, None)
            else:
                state[path] = entry
        ordered = [Change(path, changes[path]) for path in sorted(changes, key=order)]
        snapshot = commit(store, ordered, snapshot)
        assert list(store.entries(snapshot)) == sorted(state.values(), key=lambda e: order(e.path))
        assert snapshot.totals.entries == len(state)


def test_names_follow_the_sequence_when_times_repeat_or_run_backwards(store: Store) -> None:
    snapshot = commit(store, added(tree(1)))
    again = commit(store, [], snapshot)
    earlier = commit(store, [], again, time=TIME - 3600 * 24 * 4000, state="partial")
    found = store.snapshots("web1", "etc")
    assert [s.sequence for s in found] == [1, 2, 3]
    assert found[0].name[7:] == found[1].name[7:] == "2026-09-21T141320Z"
    assert store.newest("web1", "etc") == earlier
    assert earlier.state == "partial"


def test_only_the_newest_snapshot_can_be_followed(store: Store) -> None:
    first = commit(store, added(tree(1)))
    commit(store, [], first)
    with pytest.raises(StoreError, match="not the newest snapshot"):
        commit(store, [], first)


@pytest.mark.parametrize(
    ("entries", "cause"),
    [
        ([file(b"b"), file(b"a")], "not in order"),
        ([file(b"a"), file(b"a")], "not in order"),
        ([file(b"a"), file(b"a/b")], "parent is no directory"),
        ([file(b"a/b")], "parent is no directory"),
        ([directory(b"a"), file(b"a/..")], "impossible path"),
        ([file(b"")], "not in order"),
        ([file(b"/a")], "parent is no directory|impossible path|not in order"),
        ([file(b"n" * 256)], "impossible path"),
        ([Entry(path_text="a", sha256="z" * 64)], "not a digest"),
        ([Entry(path_text="a", type="door")], "unknown type"),
    ],
)
def test_what_is_no_sound_snapshot_is_not_committed(store: Store, entries: list[Entry], cause: str) -> None:
    with pytest.raises(StoreError, match=f"not committed: .*({cause})"):
        commit(store, added(entries))
    assert store.snapshots("web1", "etc") == []
    assert sorted(p.name for p in (store.path / "manifests/web1/etc").iterdir()) == []


def test_names_that_lead_out_of_the_store_are_refused(store: Store) -> None:
    for host, module in (("..", "etc"), ("web1", "../x"), ("Web", "etc"), ("", "etc"), ("web1", "a/b")):
        with pytest.raises(StoreError, match="not a name"):
            store.snapshots(host, module)
    for pull in ("..", "a/b", ""):
        with pytest.raises(StoreError, match="not an id"):
            store.incoming(pull)


def test_incoming_is_private_and_goes_whatever_a_transfer_left(store: Store) -> None:
    incoming = store.incoming("run-1")
    assert stat.S_IMODE(incoming.stat().st_mode) == 0o700
    (incoming / "a").mkdir()
    (incoming / "a/f").write_text("")
    (incoming / "a").chmod(0o000)
    (incoming / "l").symlink_to("/")
    store.discard_incoming("run-1")
    assert not incoming.exists()
    store.discard_incoming("run-1")


@pytest.mark.parametrize("head", ["kept", "gone"])
def test_a_log_that_was_cut_or_removed_gets_its_manifests_back_with_the_next_commit(tmp_path, head):
    with closing(Estate(tmp_path)) as estate:
        for number in range(3):
            estate.pull("web1", "etc", {b"etc/a": Content(b"%d" % number)})
        before = estate.store.recorded("web1", "etc")
        log = estate.store.path / "manifests/web1/etc/log.jsonl"
        if head == "kept":
            log.write_bytes(log.read_bytes().splitlines(keepends=True)[0])
        else:
            log.unlink()
            log.with_name("log.head.json").unlink()
        changes = [Change(b"etc", Entry(path_text="etc", type=DIRECTORY))]
        snapshot = estate.store.commit(
            "web1", "etc", time=1_790_000_000, state="complete", changes=changes, previous=None, after=3
        )
        assert [one.sequence for one in estate.store.recorded("web1", "etc")] == [1, 2, 3, snapshot.sequence]
        assert estate.store.recorded("web1", "etc")[:3] == before
        assert estate.store.verify_log("web1", "etc") == []
        content = estate.store.log("web1", "etc").read()
        assert [line.op for line in content.lines].count("accept") == 1
        assert content.lost_lines(0)


def test_nothing_is_pruned_by_a_log_that_does_not_fit(tmp_path):
    with closing(Estate(tmp_path)) as estate:
        for number in range(3):
            estate.pull("web1", "etc", {b"etc/a": Content(b"%d" % number)})
        estate.store.pin("web1", "etc", 1, "for ever")
        log = estate.store.path / "manifests/web1/etc/log.jsonl"
        log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:3]))
        with pytest.raises(StoreDamaged, match="nothing is removed: the log does not fit: the log has 3 lines"):
            estate.store.prune("web1", "etc", {1: "by a test"})
        assert len(estate.store.recorded("web1", "etc")) == 3
