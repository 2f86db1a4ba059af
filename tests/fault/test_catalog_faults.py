"""A catalog that is locked, cut, scribbled on, deleted, another's, or whose process is killed while it writes."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.rebuild import rebuild
from pyrsyncbackup_collector.errors import BackupError, CatalogDamaged, CatalogError, CatalogLocked, CatalogMismatch
from pyrsyncbackup_collector.pull.ledger import ModuleMemory, StoredObject

from tests.support.estate import Content, Estate
from tests.support.snapshots import change, digest, memory, snapshot
from tests.support.versions import versions

REMEDY = "pyrsyncbackup catalog rebuild"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed catalog of some pages."""
    path = tmp_path / "catalog.sqlite"
    with Catalog.create(path, "store-1") as catalog:
        changes = [change(b"etc/some/file/%06d" % number, str(number)) for number in range(3000)]
        catalog.commit("r", snapshot(1), changes, memory(1))
        for _ in range(50):
            catalog.run_end(catalog.run_begin("web1", "nginx"), "complete")
    return path


@pytest.fixture
def locked(path: Path) -> Iterator[Path]:
    """Another process holds the write lock."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE');"
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        yield path
        other.communicate()


def test_a_lock_of_another_process_is_named_and_worth_another_try(locked: Path) -> None:
    with Catalog.open(locked, "store-1", busy_seconds=0.1) as catalog:
        with pytest.raises(CatalogLocked, match="locked by another process") as caught:
            catalog.run_begin("web1", "etc")
        assert caught.value.retryable
        # Reading goes on.
        assert len(catalog.snapshots()) == 1


def test_a_writer_waits_for_another_that_ends_in_time(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with closing(other), Catalog.open(path, "store-1") as catalog:
        thread = threading.Thread(target=lambda: catalog.request("web1"))
        thread.start()
        other.execute("COMMIT")
        thread.join(timeout=60)
        assert [request.host for request in catalog.requests()] == ["web1"]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cut_file_is_refused(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(CatalogDamaged) as caught:
        Catalog.open(path, "store-1", verify=True)
    assert REMEDY in caught.value.hint


@pytest.mark.parametrize("page", [0, 1, 2, 40])
def test_a_page_written_over_is_refused(path: Path, page: int) -> None:
    with open(path, "r+b") as file:
        file.seek(page * 4096)
        file.write(b"\xde\xad\xbe\xef" * 1024)
    with pytest.raises(CatalogDamaged) as caught:
        Catalog.open(path, "store-1", verify=True)
    assert REMEDY in caught.value.hint


def test_damage_under_a_running_daemon_is_an_error_of_ours(path: Path) -> None:
    with Catalog.open(path, "store-1") as catalog:
        size = path.stat().st_size
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(b"\xde\xad\xbe\xef" * ((size - 4096) // 4))
        with pytest.raises(CatalogError):
            catalog.commit("r", snapshot(2), [change(b"etc/some/file/%06d" % n) for n in range(3000)], memory(2))
        with pytest.raises(CatalogError):
            catalog.find("0*")


def test_a_deleted_catalog_is_refused_with_the_remedy_and_the_remedy_works(tmp_path: Path) -> None:
    estate = Estate(tmp_path)
    with closing(estate):
        estate.pull("web1", "etc", {b"etc/a": Content(b"1")})
        estate.catalog.close()
        estate.catalog_path.unlink()
        with pytest.raises(CatalogDamaged, match="there is no catalog") as caught:
            Catalog.open(estate.catalog_path, estate.store.id)
        assert REMEDY in caught.value.hint
        with rebuild(estate.catalog_path, estate.store).catalog as catalog:
            assert catalog.snapshots() == estate.store.snapshots("web1", "etc")


def test_the_catalog_of_another_store_is_refused_with_the_remedy(path: Path) -> None:
    with pytest.raises(CatalogMismatch) as caught:
        Catalog.open(path, "store-2")
    assert REMEDY in caught.value.hint


def test_an_old_copy_of_the_catalog_is_refused(tmp_path: Path) -> None:
    estate = Estate(tmp_path)
    with closing(estate):
        estate.pull("web1", "etc", {b"etc/a": Content(b"1")})
        estate.catalog.close()
        shutil.copy(estate.catalog_path, tmp_path / "copy")
        estate.catalog = Catalog.open(estate.catalog_path, estate.store.id)
        for number in range(2, 4):
            estate.pull("web1", "etc", {b"etc/a": Content(b"%d" % number)})
        with Catalog.open(tmp_path / "copy", estate.store.id) as old, pytest.raises(CatalogMismatch):
            old.check_against(estate.store)


def test_a_full_disk_is_an_error_of_ours_and_the_catalog_goes_on(path: Path) -> None:
    with Catalog.open(path, "store-1") as catalog:
        with catalog._database.reading() as raw:
            pages = raw.execute("PRAGMA page_count").fetchone()[0]
        catalog._database.raw.execute(f"PRAGMA max_page_count = {pages + 2}")
        changes = [change(b"srv/%06d" % number) for number in range(5000)]
        with pytest.raises(CatalogError, match="no space left"):
            catalog.commit("r", snapshot(1, "web2"), changes, memory(1))
        assert catalog.snapshots("web2") == []
        catalog._database.raw.execute("PRAGMA max_page_count = 1000000")
        catalog.commit("r", snapshot(1, "web2"), changes, memory(1))


KILLED = """
import os, signal, sys
from pathlib import Path
from pyrsyncbackup_collector.catalog import Catalog
from tests.support.snapshots import change, memory, snapshot

def changes(kill_at):
    for number in range(30_000):
        if number == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        yield change(b"etc/%06d" % number)

catalog = Catalog.open(Path(sys.argv[1]), "store-1")
catalog.run_begin("web1", "nginx")
catalog.commit("r", snapshot(2), changes(int(sys.argv[2])), memory(2))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("kill_at", "committed"), [(1, False), (25_000, False), (-1, True)])
def test_a_kill_in_the_middle_of_a_commit_leaves_it_whole(path: Path, kill_at: int, committed: bool) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path), str(kill_at)], timeout=200)
    assert ended.returncode == -signal.SIGKILL
    with Catalog.open(path, "store-1", verify=True) as catalog:
        assert len(catalog.snapshots()) == 1 + committed
        assert len(versions(catalog)) == 3000 + committed * 30_000
        assert catalog.memory("web1", "nginx") == memory(1 + committed)
        (left,) = catalog.recover()
        run = catalog.run(left)
        assert run is not None
        assert run.failure is not None
        assert (run.outcome, run.failure.cause.partition(":")[0]) == ("failed", "interrupted")


def test_no_foreign_error_leaves_the_catalog(path: Path) -> None:
    """Each method, on a catalog whose tables are gone."""
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA foreign_keys = 0")
        for (table,) in raw.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'meta'"
        ).fetchall():
            if not table.startswith("sqlite_"):
                raw.execute(f"DROP TABLE {table}")
        raw.commit()
    with Catalog.open(path, "store-1") as catalog:
        calls = [
            lambda: catalog.memory("h", "m"),
            lambda: catalog.claimable_sizes("h", {1}, share=True),
            lambda: catalog.pin_claimable("p", "h", [(digest("x"), True)], share=True),
            lambda: catalog.record_objects("p", "h", [StoredObject(digest("x"), 1, 1, True)]),
            lambda: catalog.known([digest("x")]),
            lambda: catalog.commit("r", snapshot(1), [], memory(1)),
            lambda: catalog.remember("h", "m", ModuleMemory(1, b"", b"")),
            lambda: catalog.unpin("p"),
            lambda: catalog.seen("h", []),
            lambda: catalog.check_done("h", begin=0),
            lambda: catalog.run_begin("h", "m"),
            lambda: catalog.run_progress("r", phase="x"),
            lambda: catalog.run_end("r", "failed", error=BackupError("x")),
            lambda: catalog.recover(),
            lambda: catalog.request("h"),
            lambda: catalog.heartbeat(1, "x"),
            lambda: catalog.fleet(),
            lambda: catalog.snapshots(),
            lambda: catalog.runs(),
            lambda: catalog.path_history("h", "m", b"p"),
            lambda: catalog.find("p*"),
            lambda: catalog.space(),
            lambda: catalog.requests(),
        ]
        for call in calls:
            with pytest.raises(CatalogDamaged, match="lacks a part"):
                call()
