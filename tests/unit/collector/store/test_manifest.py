"""Manifests that are not what we wrote are never believed."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from pyrsyncbackup_collector.entry import DIRECTORY, Entry
from pyrsyncbackup_collector.errors import NotFound, StoreDamaged
from pyrsyncbackup_collector.store import manifest
from pyrsyncbackup_collector.store.snapshot import Change, Snapshot
from pyrsyncbackup_collector.store.store import Store

ENTRIES = [
    Entry(path_text="etc", type=DIRECTORY),
    *(Entry(path_text=f"etc/{n}", xattrs={"user.a": b"\xff\0"}) for n in range(8)),
]


@pytest.fixture
def store(tmp_path: Path):
    Store.create(tmp_path / "store")
    with Store.open(tmp_path / "store", lock=True) as opened:
        yield opened


@pytest.fixture
def full(store: Store) -> Snapshot:
    return commit(store, [Change(e.path, e) for e in ENTRIES], None)


def commit(store: Store, changes: list[Change], previous: Snapshot | None) -> Snapshot:
    return store.commit("web1", "etc", time=1.79e9, state="complete", changes=changes, previous=previous)


def file_of(store: Store, snapshot: Snapshot) -> Path:
    kind = "delta" if snapshot.base else "full"
    return store.path / "manifests/web1/etc" / f"{snapshot.name}.{kind}.zst"


def rewrite(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    with path.open("rb") as file:
        text = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()
    path.write_bytes(zstandard.compress(b"".join(change(text.splitlines(keepends=True)))))


def header(**fields: object) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: [json.dumps({**json.loads(lines[0]), **fields}).encode() + b"\n", *lines[1:]]


DAMAGES: list[tuple[str, Callable[[list[bytes]], list[bytes]]]] = [
    ("no valid header", lambda lines: [b"hello\n", *lines]),
    ("no valid header", lambda lines: []),
    ("unknown format: 'pyrsyncbackup-manifest-9'", header(format="pyrsyncbackup-manifest-9")),
    ("unknown format", header(kind="half")),
    ("is a full and names", header(base={"name": "x", "digest": "y"})),
    ("is a delta and names None", header(kind="delta")),
    ("says that it is web2/etc 1", header(host="web2")),
    ("says that it is web1/etc 5", header(sequence=5)),
    ("has 9 entries, its header says 10", header(lines=10)),
    ("has 8 entries, its header says 9", lambda lines: lines[:-1]),
    ("not in order", lambda lines: [lines[0], lines[1], lines[3], lines[2], *lines[4:]]),
    ("parent is no directory", lambda lines: [lines[0], *lines[2:], lines[1]]),
    ("ends in the middle of a line", lambda lines: [*lines[:-1], lines[-1][:-1]]),
    ("near line", lambda lines: [*lines[:-1], b'{"path": 5}\n']),
    ("near line", lambda lines: [*lines[:-1], b"\xff\n"]),
    ("unknown type", lambda lines: [*lines[:-1], b'{"path":"etc/7","type":"door"}\n']),
    ("impossible path", lambda lines: [*lines[:-1], b'{"path":"etc/7\\u0000"}\n']),
    ("impossible path|not in order", lambda lines: [lines[0], b'{"path":"/x","type":"dir"}\n', *lines[2:]]),
    ("a line of over", lambda lines: [*lines[:-1], b'{"path":"' + b"x" * 9_000_000 + b'"}\n']),
]


@pytest.mark.parametrize(("cause", "change"), DAMAGES)
def test_a_manifest_that_does_not_fit_is_said_to_be_damaged(
    store: Store, full: Snapshot, cause: str, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    rewrite(file_of(store, full), change)
    with pytest.raises(StoreDamaged, match=cause):
        list(store.entries(full))
    with pytest.raises(StoreDamaged, match="its SHA-256 differs"):
        list(store.entries(full, verify=True))


@pytest.mark.parametrize(
    "how", [lambda d: b"", lambda d: d[:50], lambda d: d[:-30], lambda d: d + b"x", lambda d: b"x"]
)
def test_a_manifest_that_is_no_sound_zstd_is_said_to_be_damaged(
    store: Store, full: Snapshot, how: Callable[[bytes], bytes]
) -> None:
    path = file_of(store, full)
    path.write_bytes(how(path.read_bytes()))
    with pytest.raises(StoreDamaged, match=str(path)):
        list(store.entries(full))


@pytest.mark.parametrize(
    ("cause", "line"),
    [
        ("removes what its base does not have", b'{"path":"etc/55","removed":true}\n'),
        ("line 3: not in order", b'{"path":"etc/1","removed":true}\n'),
        ("line 3", b'{"removed":"yes"}\n'),
        ("parent is no directory", b'{"path":"etc/4/x"}\n'),
    ],
)
def test_a_delta_that_does_not_fit_is_said_to_be_damaged(store: Store, full: Snapshot, cause: str, line: bytes) -> None:
    delta = commit(store, [Change(b"etc/3", None)], full)
    assert delta.base
    rewrite(file_of(store, delta), lambda lines: [*header(lines=2)(lines), line])
    with pytest.raises(StoreDamaged, match=cause):
        list(store.entries(delta))


def test_a_name_that_looks_like_a_removal_is_a_name(store: Store, full: Snapshot) -> None:
    odd = Entry(path_text='etc/3,"removed":true}')
    delta = commit(store, [Change(odd.path, odd)], full)
    assert odd in list(store.entries(delta))


def test_a_manifest_that_is_read_is_locked_with_its_base(store: Store, full: Snapshot) -> None:
    delta = commit(store, [Change(b"etc/3", None)], full)

    def can_be_pruned(snapshot: Snapshot) -> bool:
        with file_of(store, snapshot).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    entries = store.entries(delta)
    next(entries)
    assert not can_be_pruned(delta)
    assert not can_be_pruned(full)
    entries.close()
    with store.reading(delta):
        assert not can_be_pruned(delta)
        assert not can_be_pruned(full)
        with pytest.raises(FileNotFoundError):  # what goes wrong outside the store stays what it is
            os.stat("/nowhere/at/all")
    assert can_be_pruned(delta)
    assert can_be_pruned(full)


def test_a_pruned_manifest_is_not_found(store: Store, full: Snapshot) -> None:
    file_of(store, full).unlink()
    with pytest.raises(NotFound, match="is gone"):
        list(store.entries(full))


@pytest.mark.parametrize("time", [-0.5, -1e9, 0.0, 1.79e9 + 0.123456, 4e9 + 0.999999999, 1.7e9 - 1e-7])
def test_times_come_back_as_they_were(time: float) -> None:
    seconds, nanoseconds = manifest.split_time(time)
    assert 0 <= nanoseconds < 10**9
    assert seconds + nanoseconds / 1e9 == pytest.approx(time, abs=1e-6)
    if abs(time) > 1e9:
        assert seconds + nanoseconds / 1e9 == time
