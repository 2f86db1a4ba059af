"""A tree committed to a real store and restored from it, as any user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.store.objects import Ingested
from pyrsyncbackup_collector.store.reference import parse, resolve
from pyrsyncbackup_collector.store.restore import restore
from pyrsyncbackup_collector.store.restore_report import Reason
from pyrsyncbackup_collector.store.snapshot import Change, Snapshot
from pyrsyncbackup_collector.store.store import Store

from tests.support import tree

NOW = 1_790_000_000.0


class _Ingesting:
    """Puts contents into the store."""

    def __init__(self, store: Store, directory: Path) -> None:
        self._store = store
        self._file = directory / "content"

    def add(self, content: bytes) -> Ingested:
        self._file.write_bytes(content)
        with open(self._file, "rb") as file:
            return self._store.objects.ingest(file.fileno(), 1 << 30)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    Store.create(tmp_path / "store")
    with Store.open(tmp_path / "store", lock=True) as store:
        yield store


def _commit(store: Store, tmp_path: Path, source: Path, time: float) -> tuple[Snapshot, list[Entry]]:
    entries = list(tree.read(source, _Ingesting(store, tmp_path)))
    previous = store.newest("web1", "etc")
    before = {each.path for each in store.entries(previous)} if previous else set()
    changes = [Change(each.path, each) for each in entries]
    changes += [Change(path, None) for path in before - {each.path for each in entries}]
    changes.sort(key=lambda change: change.path.replace(b"/", b"\0"))
    snapshot = store.commit("web1", "etc", time=time, state="complete", changes=changes, previous=previous)
    return snapshot, entries


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "etc" / "empty").mkdir(parents=True)
    (source / "etc" / "small").write_text("small")
    (source / "etc" / "large").write_bytes(os.urandom(3_000_000))
    os.link(source / "etc" / "small", source / "etc" / "same")
    with open(source / "etc" / "sparse", "wb") as file:
        file.seek(50_000_000)
        file.write(b"end")
    (source / "etc" / "link").symlink_to("/")
    os.utime(source / "etc" / "small", ns=(0, -1))
    return source


def test_each_state_comes_back(store: Store, source: Path, tmp_path: Path) -> None:
    _, first = _commit(store, tmp_path, source, NOW - 86_400)
    (source / "etc" / "small").write_text("other")
    (source / "etc" / "large").unlink()
    _, second = _commit(store, tmp_path, source, NOW)

    for when, entries in {"1d": first, "latest": second}.items():
        snapshot = resolve(parse(f"web1/etc@{when}"), store.snapshots("web1", "etc"), NOW)
        with store.reading(snapshot):
            report = restore(store.entries(snapshot), store.objects, tmp_path / when)
        assert report.lines() == []
        restored = tmp_path / when
        assert tree.comparable(tree.read(restored, tree.Contents())) == tree.comparable(entries)
        assert (restored / "etc" / "sparse").stat().st_blocks * 512 < 1_000_000


def test_a_damaged_object_is_told_and_the_rest_comes_back(store: Store, source: Path, tmp_path: Path) -> None:
    snapshot, entries = _commit(store, tmp_path, source, NOW)
    digests = {each.path: each.sha256 for each in entries}
    large = store.objects.place(digests[b"etc/large"])
    large.chmod(0o600)
    large.write_bytes(large.read_bytes()[:-1000])
    store.objects.place(digests[b"etc/small"]).unlink()

    report = restore(store.entries(snapshot), store.objects, tmp_path / "restored")

    missing = {path: each.reason for each in report.shortfalls for path, _ in each.examples}
    assert missing == dict.fromkeys((b"etc/large", b"etc/same", b"etc/small"), Reason.DAMAGED)
    assert {path.name for path in (tmp_path / "restored" / "etc").iterdir()} == {"empty", "link", "sparse"}
