"""A disk that is full, read-only or not there is said in one line, and what was stored stays."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.entry import DIRECTORY, Entry
from pyrsyncbackup_collector.errors import StoreFull, StoreMissing, StoreReadOnly
from pyrsyncbackup_collector.store.snapshot import Change, Snapshot
from pyrsyncbackup_collector.store.store import Store

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB with a store on it."""
    place = tmp_path / "disk"
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", place)
    try:
        Store.create(place / "store")
        yield place / "store"
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def commit(store: Store, number: int, previous: Snapshot | None = None) -> Snapshot:
    entries = [Entry(path_text="etc", type=DIRECTORY)]
    entries += [Entry(path_text=f"etc/{n:06}", sha256=f"{n * 7919:064x}", size=n) for n in range(number)]
    changes = [Change(e.path, e) for e in entries]
    return store.commit("web1", "etc", time=1.79e9, state="complete", changes=changes, previous=previous)


def fill(path: Path, leave: int) -> None:
    free = os.statvfs(path)
    (path / "filler").write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - leave)))


@needs_root
def test_a_full_store_fails_clearly_and_goes_on_when_there_is_room(small: Path, tmp_path: Path) -> None:
    with Store.open(small, lock=True) as store:
        first = commit(store, 50)
        for size in (900_000, 3_000_000):
            (tmp_path / "big").write_bytes(os.urandom(size))
            fill(small.parent, 100_000)
            with (tmp_path / "big").open("rb", buffering=0) as file, pytest.raises(StoreFull, match="No space left"):
                store.objects.ingest(file.fileno(), 1 << 30)
        assert list(small.rglob(".tmp-*")) == []
        for leave in range(0, 60_000, 4096):  # the space ends at another step each time
            fill(small.parent, leave)
            before = store.newest("web1", "etc")
            fault = None
            try:
                commit(store, 400)
            except StoreFull as full:
                fault = full
            if fault:
                assert "make room" in fault.hint
                assert store.newest("web1", "etc") == before
                assert list(small.rglob(".tmp-*")) == []
            (small.parent / "filler").unlink()
            assert store.verify_log("web1", "etc") == []
        assert list(store.entries(first, verify=True))
        assert store.reconcile().faults == []
        assert commit(store, 3).sequence > 1


@needs_root
def test_a_read_only_store_can_be_read_and_says_that_it_cannot_be_written(small: Path, tmp_path: Path) -> None:
    with Store.open(small, lock=True) as store:
        first = commit(store, 5)
    mount("-o", "remount,ro", small.parent)
    with Store.open(small) as reader:
        assert len(list(reader.entries(first, verify=True))) == 6
    with pytest.raises(StoreReadOnly, match="Read-only file system"):
        Store.open(small, lock=True)
    mount("-o", "remount,rw", small.parent)
    with Store.open(small, lock=True) as store:
        mount("-o", "remount,ro", small.parent)
        (tmp_path / "f").write_bytes(b"x")
        with (tmp_path / "f").open("rb", buffering=0) as file, pytest.raises(StoreReadOnly):
            store.objects.ingest(file.fileno(), 10)
        with pytest.raises(StoreReadOnly):
            commit(store, 1)
        with pytest.raises(StoreReadOnly):
            store.incoming("run-1")
        mount("-o", "remount,rw", small.parent)


@needs_root
def test_a_store_that_is_not_mounted_is_never_made_in_the_mount_point(small: Path) -> None:
    with Store.open(small, lock=True) as store:
        first = commit(store, 5)
    subprocess.run(["umount", small.parent], check=True)
    try:
        with pytest.raises(StoreMissing, match="is its file system mounted"):
            Store.open(small, lock=True)
        assert list(small.parent.iterdir()) == []
    finally:
        mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", small.parent)
    assert first.sequence == 1


def test_a_store_that_goes_away_is_said_to_be_missing(tmp_path: Path) -> None:
    Store.create(tmp_path / "store")
    with Store.open(tmp_path / "store", lock=True) as store:
        first = commit(store, 5)
        (tmp_path / "store").rename(tmp_path / "gone")
        for call in (
            lambda: store.snapshots("web1", "etc"),
            lambda: store.objects.sync(),
            lambda: commit(store, 1, first),
            lambda: list(store.modules()),
            lambda: store.incoming("run-1"),
        ):
            with pytest.raises(StoreMissing, match="mounted"):
                call()
