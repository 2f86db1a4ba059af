"""Which snapshots a mount has, beside prunes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.errors import NotFound, StoreDamaged
from pyrsyncbackup_collector.mount.snapshots import Snapshots
from pyrsyncbackup_collector.store import layout

from tests.support.estate import Content, Estate


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    made = Estate(tmp_path)
    for number in range(2):
        made.pull("web1", "etc", {b"etc/a": Content(b"%d" % number)})
    yield made
    made.close()


def test_one_that_was_pruned_since_it_was_listed_is_not_there(estate: Estate) -> None:
    snapshots = Snapshots(estate.store, SystemClock())
    first, second = snapshots.of_module("web1", "etc")
    estate.prune("web1", "etc", 1)
    with pytest.raises(NotFound):
        snapshots.open("web1", "etc", first)
    assert list(snapshots.of_module("web1", "etc")) == [second]
    assert len(snapshots.open("web1", "etc", second).index) == 2
    snapshots.close()


def test_one_whose_manifest_is_damaged_is_told_as_damaged(estate: Estate) -> None:
    snapshots = Snapshots(estate.store, SystemClock())
    first, _ = snapshots.of_module("web1", "etc")
    for manifest in layout.module_directory(estate.store.path, "web1", "etc").glob("000001-*"):
        manifest.write_bytes(b"no manifest")
    with pytest.raises(StoreDamaged):
        snapshots.open("web1", "etc", first)


def test_one_that_is_open_is_not_pruned(estate: Estate) -> None:
    snapshots = Snapshots(estate.store, SystemClock())
    first, _ = snapshots.of_module("web1", "etc")
    held = snapshots.open("web1", "etc", first)
    estate.prune("web1", "etc", 1)
    assert [one.sequence for one in estate.store.snapshots("web1", "etc")] == [1, 2]
    assert len(held.index) == 2
    snapshots.close()
    estate.prune("web1", "etc", 1)
    assert [one.sequence for one in estate.store.snapshots("web1", "etc")] == [2]
