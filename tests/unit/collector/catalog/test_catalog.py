"""Opening, refusing and migrating."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from pyrsyncbackup_collector.catalog import Catalog, migrations, tables
from pyrsyncbackup_collector.catalog.database import Database
from pyrsyncbackup_collector.catalog.migrations import m0001_first
from pyrsyncbackup_collector.errors import CatalogDamaged, CatalogError, CatalogMismatch
from pyrsyncbackup_collector.pull.ledger import ModuleMemory
from pyrsyncbackup_collector.transport.offer import Peer

REMEDY = "pyrsyncbackup catalog rebuild"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "catalog #1?.sqlite"  # a name that needs quoting in a URI
    Catalog.create(found, "store-1").close()
    return found


def test_the_file_belongs_to_its_owner_alone(path: Path) -> None:
    with Catalog.open(path, "store-1") as catalog:
        catalog.remember("h", "m", ModuleMemory(1, b"", b""))
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_what_was_written_is_there_after_opening_again(path: Path) -> None:
    with Catalog.open(path, "store-1") as catalog:
        catalog.remember("h", "m", ModuleMemory(7, b"12345678", b"f"))
    with Catalog.open(path, "store-1", verify=True) as catalog:
        assert catalog.memory("h", "m") == ModuleMemory(7, b"12345678", b"f")


def test_create_refuses_a_path_that_exists(path: Path) -> None:
    with pytest.raises(CatalogError, match="cannot create"):
        Catalog.create(path, "store-1")


def test_a_missing_file_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(CatalogDamaged, match=REMEDY):
        Catalog.open(tmp_path / "none", "store-1")
    assert not list(tmp_path.iterdir())


def test_the_catalog_of_another_store_is_refused(path: Path) -> None:
    with pytest.raises(CatalogMismatch, match="belongs to store store-1, not store-2") as caught:
        Catalog.open(path, "store-2")
    assert REMEDY in caught.value.hint


def test_a_catalog_of_a_newer_program_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    raw.close()
    with pytest.raises(CatalogMismatch, match="newer pyrsyncbackup"):
        Catalog.open(path, "store-1")


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 100])
def test_a_file_that_is_no_catalog_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "catalog.sqlite"
    file.write_bytes(content)
    with pytest.raises(CatalogDamaged):
        Catalog.open(file, "store-1")


def test_a_closed_catalog_says_so(path: Path) -> None:
    catalog = Catalog.open(path, "store-1")
    catalog.close()
    catalog.close()
    with pytest.raises(CatalogError, match="is closed"):
        catalog.unpin("x")


def test_the_models_are_the_schema_that_the_migrations_make(path: Path) -> None:
    database = Database(path)
    with database.reading() as raw:
        for model in tables.Model.__subclasses__():
            made = [row[1] for row in raw.execute(f"PRAGMA table_info({model._meta.table_name})")]
            assert made == list(model._meta.columns), model
    database.close()


def test_migrations_run_in_order_once_and_keep_the_data(path: Path) -> None:
    done: list[int] = []

    present = migrations.latest()

    def second(raw: sqlite3.Connection) -> None:
        done.append(2)
        raw.execute("ALTER TABLE memory ADD COLUMN extra TEXT NOT NULL DEFAULT 'old'")

    def third(raw: sqlite3.Connection) -> None:
        done.append(3)
        raw.execute("UPDATE memory SET extra = 'new'")

    with Catalog.open(path, "store-1") as catalog:
        catalog.remember("h", "m", ModuleMemory(7, b"12345678", b"f"))
    database = Database(path)
    steps = {**migrations.STEPS, present + 1: second, present + 2: third}
    assert migrations.migrate(database, steps) == 2
    assert migrations.migrate(database, steps) == 0
    assert (done, migrations.version(database)) == ([2, 3], present + 2)
    with database.reading() as raw:
        assert raw.execute("SELECT sequence, extra FROM memory").fetchall() == [(7, "new")]
    database.close()


def test_the_table_of_peers_comes_to_a_catalog_of_the_first_schema(tmp_path: Path) -> None:
    file = tmp_path / "old.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as raw, raw:
        for statement in m0001_first.STATEMENTS:
            raw.execute(statement)
        raw.executemany("INSERT INTO meta VALUES (?, ?)", [("schema_version", "1"), ("store_id", "store-1")])
        raw.execute("INSERT INTO hosts (id, name, checked) VALUES (1, 'web1', 7.0)")
        raw.execute("INSERT INTO modules (id, host_id, name) VALUES (1, 1, 'etc')")
        raw.execute("INSERT INTO memory VALUES (1, 3, x'aa', x'0102030405060708')")
    with Catalog.open(file, "store-1", verify=True) as catalog:
        assert catalog.peers() == []
        assert catalog.memory("web1", "etc") == ModuleMemory(3, bytes(range(1, 9)), b"\xaa")
        (host,) = catalog.hosts()
        assert (host.name, host.checked) == ("web1", 7.0)
        catalog.peers_seen("bastion", [Peer("db1")], {})
    with Catalog.open(file, "store-1") as catalog:
        assert [peer.name for peer in catalog.peers()] == ["db1"]


def test_a_migration_that_fails_leaves_the_old_schema(path: Path) -> None:
    def second(raw: sqlite3.Connection) -> None:
        raw.execute("DROP TABLE run_paths")
        raw.execute("DROP TABLE not_there")

    database = Database(path)
    with pytest.raises(CatalogError):
        migrations.migrate(database, {**migrations.STEPS, migrations.latest() + 1: second})
    assert migrations.version(database) == migrations.latest()
    with database.reading() as raw:
        assert raw.execute("SELECT count(*) FROM run_paths").fetchone() == (0,)
    database.close()


def test_many_threads_share_a_catalog(path: Path) -> None:
    with Catalog.open(path, "store-1") as catalog:

        def work(number: int) -> None:
            for round_ in range(20):
                catalog.remember(f"h{number}", "m", ModuleMemory(round_, b"", b""))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(catalog.memory(f"h{number}", "m") == ModuleMemory(19, b"", b"") for number in range(8))
