"""A new catalog from what lies in the store.

Everything about snapshots, paths and contents comes from manifests and logs. What only the old catalog knows (runs,
checks, what hosts offered) is carried over if it can still be read. Change tokens and fingerprints are not: the next
pull of each module looks at everything anew.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyrsyncbackup_collector.catalog import Catalog, check_store, migrations
from pyrsyncbackup_collector.catalog.database import BUSY_SECONDS, Database
from pyrsyncbackup_collector.catalog.garbage import remember_removals
from pyrsyncbackup_collector.catalog.ledger import (
    MADE_PUBLIC,
    add_chunks,
    add_snapshot,
    batches,
    host_row,
    is_whole,
    module_row,
)
from pyrsyncbackup_collector.catalog.reconcile import StoreView, changes_between
from pyrsyncbackup_collector.catalog.retention import CLOCK
from pyrsyncbackup_collector.clock import Clock, SystemClock
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import CatalogDamaged, CatalogError, NotFound, StoreError
from pyrsyncbackup_collector.store.chunks import ChunkList, Piece
from pyrsyncbackup_collector.store.snapshot import Change, Recorded, Snapshot, damaged

# What only the old catalog knows, in the order in which rows refer to each other.
_CARRIED: Final = ("hosts", "modules", "runs", "run_paths")
# Contents remembered to have a row: 150 MB at most, and a fleet's are asked for again and again.
_REMEMBERED: Final = 1_000_000

_OBJECT: Final = """
    INSERT INTO objects (sha256, size, stored_size, public, last_used, chunks) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (sha256) DO UPDATE SET
        public = max(public, excluded.public), chunks = excluded.chunks, part = 0,
        stored_size = CASE WHEN excluded.stored_size THEN excluded.stored_size ELSE stored_size END
"""
_KNOWN: Final = "SELECT stored_size, chunks, public FROM objects WHERE sha256 = ? AND part = 0"
_ACCEPTED: Final = """
    UPDATE modules SET judged = max(judged, :sequence), accepted = max(accepted, :sequence) WHERE id = :module
"""
_FROZEN: Final = "UPDATE modules SET frozen = :since, frozen_why = :why WHERE id = :module AND frozen IS NULL"
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
            catalog._database.hurry()
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
        # Contents that have a row, and whether it says public; those in chunks, by their list.
        self._known: dict[tuple[bytes, str], bool] = {}
        self._in_chunks: set[bytes] = set()
        self._forgot = False
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
            with contextlib.suppress(CatalogError), self._database.writing() as target, old.reading() as source:
                kept = source.execute("SELECT key, value FROM meta WHERE key = ?", (CLOCK,))
                target.executemany("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", kept)
            for table in _CARRIED:
                with contextlib.suppress(CatalogError), self._database.writing() as target, old.reading() as source:
                    _copy(source, target, table)
                    carried.append(table)
        return tuple(carried)

    def read_store(self) -> None:
        """Add every snapshot of the store, in one transaction: what is new in it needs no way back."""
        with self._database.writing() as raw:
            later = _take_indices(raw)
            for host, module in self._store.modules():
                self._read_module(raw, host, module)
            raw.execute(_LAST_GOOD)
            remember_removals(raw, [self._store.removals()])
            for statement in later:
                raw.execute(statement)

    def _read_module(self, raw: sqlite3.Connection, host: str, module: str) -> None:
        found = self._store.recorded(host, module)
        if not found:
            return  # all were pruned: only the log is left
        row = module_row(raw, host, module)
        number = 0
        readable: Snapshot | None = None
        for recorded in found:
            try:
                with self._database.writing():  # a savepoint
                    snapshot = self._store.snapshot(recorded)
                    changes = changes_between(self._store, readable, snapshot)
                    share = self._store.facts(snapshot).share
                    seen = self._contents(raw, host_row(raw, host), changes, share)
                    # Not shared twice: what becomes public by it is recorded with the contents.
                    add_snapshot(raw, row, snapshot, seen, previous=number, share=False)
                readable = snapshot
            except (StoreError, NotFound) as error:
                # Rows of its contents went with the savepoint.
                self._forget()
                self.damaged.append((recorded, error.cause))
                add_snapshot(raw, row, damaged(recorded), (), previous=number, share=False)
            number = recorded.sequence
            self.snapshots += 1
        log = self._store.log(host, module).read()
        frozen, accepted = log.frozen(), log.accepted()
        raw.execute(_ACCEPTED, {"sequence": accepted, "module": row})
        if frozen:
            raw.execute(_FROZEN, {"since": frozen.time_s, "why": frozen.reason, "module": row})

    def _contents(self, raw: sqlite3.Connection, host: int, changes: Iterable[Change], share: bool) -> Iterator[Change]:
        """`changes`, while the contents of their entries are recorded by the way."""
        for batch in batches(changes):
            entries = [change.entry for change in batch if change.entry is not None and change.entry.sha256]
            self._record(raw, host, entries, share)
            yield from batch

    def _record(self, raw: sqlite3.Connection, host: int, entries: list[Entry], share: bool) -> None:
        """What a host sent is its own, and public if it said so and shares it; what it claimed is neither by that."""
        if len(self._known) > _REMEMBERED:
            self._forget()
        new: dict[tuple[bytes, str], tuple[Entry, bool]] = {}
        opened = []
        sent = []
        for entry in entries:
            digest = bytes.fromhex(entry.sha256)
            public = False
            if not entry.claimed:
                public = share and entry.public
                sent.append((host, entry.size, digest))
            key = (digest, entry.chunks)
            known = self._known.get(key)
            if known is None:
                new[key] = (entry, public or (key in new and new[key][1]))
            elif public and not known:
                opened.append((digest,))
                self._known[key] = True
        raw.executemany(_OBJECT, self._objects(raw, new))
        raw.executemany(MADE_PUBLIC, opened)
        raw.executemany("INSERT OR IGNORE INTO sent VALUES (?, ?, ?)", sent)

    def _forget(self) -> None:
        self._known.clear()
        self._forgot = True

    def _objects(
        self, raw: sqlite3.Connection, new: Mapping[tuple[bytes, str], tuple[Entry, bool]]
    ) -> Iterator[tuple[bytes, int, int, bool, float, bytes | None]]:
        """Rows for contents that are not remembered, as far as the store has them: whole, in chunks, or both."""
        for key, (entry, public) in sorted(new.items()):
            digest = key[0]
            # One that is remembered neither so nor otherwise has no row yet.
            maybe = self._forgot or entry.chunks or digest in self._in_chunks
            row = raw.execute(_KNOWN, (digest,)).fetchone() if maybe else None
            stored_size, listed, known = row or (0, None, 0)
            # Gone or unreadable: not known, so it is sent again.
            with contextlib.suppress(StoreError):
                if not entry.chunks:
                    stored_size = stored_size or self._store.objects.stored_size(entry.sha256)
                else:
                    self._in_chunks.add(digest)
                    found = self._add_chunks(raw, entry)
                    if not (listed and is_whole(raw, listed)):
                        listed = found
            if stored_size or listed:
                self._known[key] = public or bool(known)
                yield digest, entry.size, stored_size, public, self._now, listed

    def _add_chunks(self, raw: sqlite3.Connection, entry: Entry) -> bytes:
        """Record the list of a content in chunks, and those of its chunks that are there; the list's digest."""
        content, digest = bytes.fromhex(entry.sha256), bytes.fromhex(entry.chunks)
        if not raw.execute("SELECT 1 FROM lists WHERE content = ? AND list = ?", (content, digest)).fetchone():
            chunks = self._store.objects.chunks_of(entry)
            listed = Piece(digest, len(chunks.encode()), self._store.objects.stored_size(entry.chunks))
            add_chunks(raw, content, listed, self._pieces(chunks), self._now)
        return digest

    def _pieces(self, chunks: ChunkList) -> Iterator[Piece]:
        for chunk in chunks:
            stored_size = 0
            with contextlib.suppress(StoreError):
                stored_size = self._store.objects.stored_size(chunk.sha256)
            yield Piece(bytes.fromhex(chunk.sha256), chunk.size, stored_size)


def _take_indices(raw: sqlite3.Connection) -> list[str]:
    """Drop the indices of the tables with a row per file; what makes them again, sorted at once, when all is in."""
    found = raw.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
        "AND tbl_name IN ('versions', 'objects', 'chunks')"
    ).fetchall()
    for name, _ in found:
        raw.execute(f"DROP INDEX {name}")
    return [statement for _, statement in found]


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> None:
    rows = source.execute(f"SELECT * FROM {table}")  # noqa: S608 - of _CARRIED
    names = ", ".join(column[0] for column in rows.description)
    values = ", ".join("?" * len(rows.description))
    target.executemany(f"INSERT INTO {table} ({names}) VALUES ({values})", rows)  # noqa: S608


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
