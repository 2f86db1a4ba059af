"""A new catalog from what lies in the store.

Everything about snapshots, paths and contents comes from manifests and logs. What only the old catalog knows (runs,
checks, what hosts offered) is carried over if it can still be read. Change tokens and fingerprints are not: the next
pull of each module looks at everything anew.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pyrsyncbackup_collector.catalog import Catalog, check_store, migrations
from pyrsyncbackup_collector.catalog.database import BUSY_SECONDS, Database
from pyrsyncbackup_collector.catalog.ledger import MADE_PUBLIC, add_snapshot, host_row, module_row
from pyrsyncbackup_collector.catalog.reconcile import StoreView, changes_between
from pyrsyncbackup_collector.clock import Clock, SystemClock
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import CatalogDamaged, CatalogError, StoreError
from pyrsyncbackup_collector.store.snapshot import Change, Recorded, Snapshot, Totals

# A snapshot whose manifest cannot be read: it keeps its place in the order, its paths are unknown.
DAMAGED: Final = "damaged"

# What only the old catalog knows, in the order in which rows refer to each other.
_CARRIED: Final = ("hosts", "modules", "runs", "run_paths")
# Contents recorded at once.
_BATCH: Final = 5_000

_OBJECT: Final = """
    INSERT INTO objects (sha256, size, stored_size, public, last_used) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (sha256) DO UPDATE SET public = max(public, excluded.public)
"""
# Modules whose runs were not carried over: the newest complete snapshot is the last that is known to be good.
_LAST_GOOD: Final = """
    UPDATE modules SET outcome = 'complete', last_pull = newest.time, last_good = newest.time, last_listed = newest.time
    FROM (SELECT module_id, max(sequence), time FROM snapshots WHERE state = 'complete' GROUP BY module_id) AS newest
    WHERE newest.module_id = modules.id AND modules.last_pull IS NULL
"""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The new catalog, open, and what became of the rest.

    `carried` names the tables that the old catalog could still give; without "runs" the history of runs is lost.
    `damaged` are the snapshots that the store could not read, with the reason.
    """

    catalog: Catalog
    snapshots: int
    carried: tuple[str, ...]
    damaged: tuple[tuple[Recorded, str], ...]


def rebuild(path: Path, store: StoreView, *, clock: Clock | None = None, busy_seconds: float = BUSY_SECONDS) -> Rebuilt:
    """Make the catalog at `path` anew from `store`, beside the old one, and swap it in; the old one stays until then.

    Call it under the store's lock, with no catalog open; waits `busy_seconds` for other processes that read the old
    one. The old file, sound or not, is kept as `NAME.old`. Raises CatalogError, and StoreError
    if the store cannot be listed.
    """
    draft = path.with_name(f"{path.name}.rebuild")
    _remove(draft)
    try:
        with Catalog.create(draft, store.id, clock=clock) as catalog:
            builder = _Builder(catalog._database, store, (clock or SystemClock()).now())
            carried = builder.carry_over(path)
            builder.read_store()
        _swap(draft, path, busy_seconds)
    except BaseException:
        _remove(draft)
        raise
    opened = Catalog.open(path, store.id, clock=clock)
    return Rebuilt(opened, builder.snapshots, carried, tuple(builder.damaged))


class _Builder:
    """Fills a new, empty catalog."""

    def __init__(self, database: Database, store: StoreView, now: float) -> None:
        self._database = database
        self._store = store
        self._now = now
        self.snapshots = 0
        self.damaged: list[tuple[Recorded, str]] = []

    def carry_over(self, path: Path) -> tuple[str, ...]:
        """Copy what only the old catalog knows, table by table, as far as it can be read."""
        carried: list[str] = []
        if not path.is_file():
            return ()
        with contextlib.suppress(CatalogError), contextlib.closing(Database(path)) as old:
            check_store(old, self._store.id)
            if migrations.version(old) != migrations.latest():
                return ()
            for table in _CARRIED:
                with contextlib.suppress(CatalogError), self._database.writing() as target, old.reading() as source:
                    _copy(source, target, table)
                    carried.append(table)
        return tuple(carried)

    def read_store(self) -> None:
        """Add every snapshot of the store, a transaction for each module."""
        for host, module in self._store.modules():
            with self._database.writing() as raw:
                self._read_module(raw, host, module)
        with self._database.writing() as raw:
            raw.execute(_LAST_GOOD)

    def _read_module(self, raw: sqlite3.Connection, host: str, module: str) -> None:
        row = module_row(raw, host, module)
        number = 0
        readable: Snapshot | None = None
        for recorded in self._store.recorded(host, module):
            try:
                with self._database.writing():  # a savepoint
                    snapshot = self._store.snapshot(recorded)
                    changes = changes_between(self._store, readable, snapshot)
                    share = self._store.facts(snapshot).share
                    seen = self._contents(raw, host_row(raw, host), changes, share)
                    add_snapshot(raw, row, snapshot, seen, previous=number, share=share)
                readable = snapshot
            except StoreError as error:
                self.damaged.append((recorded, error.cause))
                add_snapshot(raw, row, _placeholder(recorded), (), previous=number, share=False)
            number = recorded.sequence
            self.snapshots += 1

    def _contents(self, raw: sqlite3.Connection, host: int, changes: Iterable[Change], share: bool) -> Iterator[Change]:
        """`changes`, while the contents of their entries are recorded by the way."""
        batch: list[Entry] = []
        for change in changes:
            if change.entry is not None and change.entry.sha256:
                batch.append(change.entry)
            if len(batch) == _BATCH:
                self._record(raw, host, batch, share)
                batch.clear()
            yield change
        self._record(raw, host, batch, share)

    def _record(self, raw: sqlite3.Connection, host: int, entries: list[Entry], share: bool) -> None:
        """What a host sent is its own, and public if it said so and shares it; what it claimed is neither by that."""
        objects = []
        opened = []
        for entry in entries:
            digest = bytes.fromhex(entry.sha256)
            public = share and entry.public and not entry.claimed
            if raw.execute("SELECT 1 FROM objects WHERE sha256 = ?", (digest,)).fetchone():
                if public:
                    opened.append((digest,))
                continue
            with contextlib.suppress(OSError):  # gone or unreadable: not known, so it is sent again
                stored_size = self._store.objects.place(entry.sha256).stat().st_size
                objects.append((digest, entry.size, stored_size, public, self._now))
        raw.executemany(_OBJECT, objects)
        raw.executemany(MADE_PUBLIC, opened)
        raw.executemany(
            "INSERT OR IGNORE INTO sent VALUES (?, ?, ?)",
            ((host, entry.size, bytes.fromhex(entry.sha256)) for entry in entries if not entry.claimed),
        )


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> None:
    rows = source.execute(f"SELECT * FROM {table}")  # noqa: S608 - of _CARRIED
    names = ", ".join(column[0] for column in rows.description)
    values = ", ".join("?" * len(rows.description))
    target.executemany(f"INSERT INTO {table} ({names}) VALUES ({values})", rows)  # noqa: S608


def _placeholder(recorded: Recorded) -> Snapshot:
    try:
        written = datetime.strptime(recorded.name.partition("-")[2], "%Y-%m-%dT%H%M%SZ")
        time = written.replace(tzinfo=UTC).timestamp()
    except ValueError:
        time = 0.0
    return Snapshot(
        recorded.host, recorded.module, recorded.sequence, recorded.name, time, DAMAGED, None, recorded.digest, Totals()
    )


def _swap(draft: Path, path: Path, busy_seconds: float) -> None:
    """Put the closed `draft` in the place of the old catalog.

    The write-ahead log of the old one must be gone first, or SQLite would apply it to the new one: it is folded into
    the old file, so that a crash before the rename leaves that whole.
    """
    try:
        if path.is_file():
            _fold(path, busy_seconds)
            old = path.with_name(f"{path.name}.old")
            old.unlink(missing_ok=True)
            os.link(path, old)
        _sync(draft)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        draft.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise CatalogError(f"cannot put the new catalog in place at {path}: {error.strerror}") from error


def _fold(path: Path, busy_seconds: float) -> None:
    """Empty the write-ahead log of the database at `path` into it; what is damaged is left as it is."""
    try:
        with contextlib.closing(Database(path, busy_seconds=busy_seconds)) as old:
            busy = old.raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except (CatalogDamaged, sqlite3.DatabaseError):
        return
    if busy:
        raise CatalogError(f"the catalog {path} is in use by another process", "end it, then try again")


def _remove(draft: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
