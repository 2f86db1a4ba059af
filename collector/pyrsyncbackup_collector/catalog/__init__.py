"""The SQLite catalog: history and index of the store, behind functions that return plain values.

`Catalog` is an open one: `ledger` is what pulls need of it, `journal` what happened, `queries` what is asked, and for
questions over hosts and time `finding`, `changing`, `comparing` and `contents`. The disk
is the truth about snapshots; what is here can be rebuilt from the store (`rebuild`), but for the history of runs.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from pyrsyncbackup_collector.catalog import migrations
from pyrsyncbackup_collector.catalog.changing import Changing
from pyrsyncbackup_collector.catalog.comparing import Comparing
from pyrsyncbackup_collector.catalog.contents import Contents
from pyrsyncbackup_collector.catalog.copies import CopyRecords
from pyrsyncbackup_collector.catalog.damage import DamageTables
from pyrsyncbackup_collector.catalog.database import BUSY_SECONDS, REBUILD_HINT, Database
from pyrsyncbackup_collector.catalog.finding import Finding
from pyrsyncbackup_collector.catalog.garbage import Garbage
from pyrsyncbackup_collector.catalog.journal import Journal
from pyrsyncbackup_collector.catalog.ledger import LedgerTables
from pyrsyncbackup_collector.catalog.queries import Queries
from pyrsyncbackup_collector.catalog.reconcile import Reconciling
from pyrsyncbackup_collector.catalog.retention import Retention
from pyrsyncbackup_collector.catalog.space import Space
from pyrsyncbackup_collector.clock import Clock, SystemClock
from pyrsyncbackup_collector.errors import CatalogDamaged, CatalogError, CatalogMismatch


class Catalog(
    LedgerTables,
    DamageTables,
    Journal,
    Queries,
    Finding,
    Changing,
    Comparing,
    Contents,
    Retention,
    Reconciling,
    Garbage,
    Space,
    CopyRecords,
):
    """An open catalog. Safe for threads; each method is one short transaction and raises CatalogError alone.

    Close it, or use it in a `with`.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    @classmethod
    def create(cls, path: Path, store_id: str, *, clock: Clock | None = None) -> Catalog:
        """Make a new, empty catalog for a store, readable by its owner alone; refuses a path that exists."""
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise CatalogError(f"cannot create the catalog {path}: {error.strerror}") from error
        database = Database(path)
        try:
            migrations.migrate(database)
            with database.writing() as raw:
                raw.execute("INSERT INTO meta (key, value) VALUES ('store_id', ?)", (store_id,))
        except BaseException:
            database.close()
            raise
        return cls(database, clock or SystemClock())

    @classmethod
    def open(
        cls,
        path: Path,
        store_id: str,
        *,
        clock: Clock | None = None,
        verify: bool = False,
        busy_seconds: float = BUSY_SECONDS,
    ) -> Catalog:
        """Open the catalog of a store, and bring its schema up to date.

        With `verify`, every page is checked first (half a second per 100 MB): at the daemon's start, not at each
        command. Raises CatalogDamaged if there is none or it is no sound database, CatalogMismatch if it belongs to
        another store or to a newer program.
        """
        if not path.is_file():
            raise CatalogDamaged(f"there is no catalog {path}", REBUILD_HINT)
        database = Database(path, busy_seconds=busy_seconds)
        try:
            if verify:
                _verify(database)
            check_store(database, store_id)
            migrations.migrate(database)
        except BaseException:
            database.close()
            raise
        return cls(database, clock or SystemClock())

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    def close(self) -> None:
        """End the connection; a second time does nothing."""
        self._database.close()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _verify(database: Database) -> None:
    with database.reading() as raw:
        found = raw.execute("PRAGMA quick_check(1)").fetchone()
    if found != ("ok",):
        raise CatalogDamaged(f"the catalog {database.path} is damaged: {found[0]}", REBUILD_HINT)


def check_store(database: Database, store_id: str) -> None:
    """Raise CatalogMismatch unless the open database is the catalog of that store."""
    if migrations.version(database) == 0:
        raise CatalogDamaged(f"{database.path} is no catalog", REBUILD_HINT)
    with database.reading() as raw:
        row = raw.execute("SELECT value FROM meta WHERE key = 'store_id'").fetchone()
    if row is None or row[0] != store_id:
        raise CatalogMismatch(
            f"the catalog {database.path} belongs to store {row[0] if row else '(none)'}, not {store_id}",
            "check the paths `store` and `catalog` in the configuration, or run `pyrsyncbackup catalog rebuild`",
        )
