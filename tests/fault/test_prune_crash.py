"""A collector that is killed while it prunes: the next one goes on, and nothing that is listed is missing."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.store.prune import STEPS
from pyrsyncbackup_collector.store.store import Store

from tests.support.estate import Content, Estate
from tests.support.versions import versions

CHILD = """
import os, signal, sys
from pathlib import Path
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.store.store import Store

def step(name):
    global left
    if name == sys.argv[2]:
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

left = int(sys.argv[3])
store = Store.open(Path(sys.argv[1]) / "store", lock=True, step=step)
store.prune("web1", "etc", {1: "test", 2: "test", 3: "test"})
"""
MANY = {b"etc/many/%02d" % number: Content(b"%d" % number) for number in range(40)}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Five snapshots: a full manifest with three deltas, and another full one."""
    estate = Estate(tmp_path)
    estate.pull("web1", "etc", dict(MANY))
    for number in range(3):
        estate.pull("web1", "etc", {b"etc/many/07": Content(b"changed %d" % number)})
    estate.pull("web1", "etc", {path: Content(b"new" + path) for path in MANY})
    assert [one.base is None for one in estate.catalog.snapshots()] == [True, False, False, False, True]
    estate.close()
    return tmp_path


@pytest.fixture
def store(base: Path) -> Iterator[Store]:
    with Store.open(base / "store") as opened:
        yield opened


def whole(store: Store) -> list[int]:
    """The listed snapshots, each read to its end and compared with its digests."""
    found = store.snapshots("web1", "etc")
    for snapshot in found:
        assert len(list(store.entries(snapshot, verify=True))) == 42
    return [snapshot.sequence for snapshot in found]


@pytest.mark.parametrize(
    ("step", "which"),
    [*((step, 1) for step in STEPS), ("unlink", 2), ("unlink", 3)],
)
def test_killed_at_any_step_of_a_prune_the_next_start_goes_on(base: Path, store: Store, step: str, which: int) -> None:
    ended = subprocess.run([sys.executable, "-c", CHILD, base, step, str(which)], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    left = whole(store)
    assert set(left) >= {4, 5}
    with Store.open(base / "store", lock=True) as again, Catalog.open(base / "catalog.sqlite", again.id) as catalog:
        report = again.reconcile()
        assert (report.faults, report.missing, report.completed) == ([], [], [])
        assert whole(again) == left
        assert catalog.check_against(again) == []
        assert [one.sequence for one in catalog.snapshots()] == left
        assert again.verify_log("web1", "etc") == []
        again.prune("web1", "etc", dict.fromkeys((1, 2, 3), "test"))
        catalog.drop_snapshots("web1", "etc", [1, 2, 3])
        assert whole(again) == [4, 5]
        assert catalog.lacking(again) == []
    # The first full one is the base of the fourth.
    names = sorted(path.name[:6] for path in (base / "store/manifests/web1/etc").glob("*.zst"))
    assert names == ["000001", "000004", "000005"]


def test_a_file_that_a_crash_left_without_a_snapshot_goes_at_the_next_start(base: Path, store: Store) -> None:
    step = "unlink"
    ended = subprocess.run([sys.executable, "-c", CHILD, base, step, "2"], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert whole(store) == [4, 5]
    assert len(list((base / "store/manifests/web1/etc").glob("000002-*"))) == 1
    with Store.open(base / "store", lock=True) as again:
        again.reconcile()
    assert not list((base / "store/manifests/web1/etc").glob("000002-*"))


@pytest.mark.parametrize("lines", [0, 1, 1.5, 2, 2.5, 3])
def test_lines_of_one_prune_that_are_there_in_part_are_none(base: Path, store: Store, lines: float) -> None:
    """A power loss in the middle of the write, before anything was unlinked."""
    log = base / "store/manifests/web1/etc/log.jsonl"
    before = len(log.read_bytes())
    ended = subprocess.run([sys.executable, "-c", CHILD, base, "head", "1"], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    added = log.read_bytes()[before:].splitlines(keepends=True)
    assert len(added) == 3
    part = b"".join(added[: int(lines)]) + (added[int(lines)][:50] if lines % 1 else b"")
    log.write_bytes(log.read_bytes()[:before] + part)
    assert set(whole(store)) >= {4, 5}
    with Store.open(base / "store", lock=True) as again:
        report = again.reconcile()
        assert report.missing == []
        assert all("torn" in fault for fault in report.faults)
        assert whole(again) == ([4, 5] if lines == 3 else [1, 2, 3, 4, 5])
        assert again.verify_log("web1", "etc") == []
        again.prune("web1", "etc", {1: "test"})
        assert again.verify_log("web1", "etc") == []


def test_the_catalog_killed_in_the_middle_goes_on_with_the_rest(base: Path) -> None:
    """Each chunk of paths is a transaction; the snapshots themselves go with the last."""
    child = """
import os, signal, sys
from pathlib import Path
from pyrsyncbackup_collector.catalog import Catalog, pruning
from pyrsyncbackup_collector.store.store import Store
pruning._CHUNK = 7
real, count = pruning._settle, 0
def settle(*given):
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given)
pruning._settle = settle
base = Path(sys.argv[1])
store = Store.open(base / "store", lock=True)
store.prune("web1", "etc", {1: "test", 2: "test", 3: "test", 4: "test"})
Catalog.open(base / "catalog.sqlite", store.id).drop_snapshots("web1", "etc", [1, 2, 3, 4])
"""
    ended = subprocess.run([sys.executable, "-c", child, base], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    with Store.open(base / "store", lock=True) as store, Catalog.open(base / "catalog.sqlite", store.id) as catalog:
        assert len(catalog.snapshots()) == 5
        assert catalog.check_against(store) == []
        assert [one.sequence for one in catalog.snapshots()] == [5]
        assert {one.begin for one in versions(catalog)} == {5}
        assert len(versions(catalog)) == 42
