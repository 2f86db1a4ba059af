"""What pulls need of the catalog: known contents, pins, memory, commits. Implements `pull.ledger.Ledger`.

It speaks SQL: these are the tables with a row per file, and lists go through temporary tables of the connection. Who
may claim what is decided here alone, in `_CLAIMABLE`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import astuple
from itertools import chain, islice
from typing import Final

from pyrsyncbackup_collector.catalog.database import REBUILD_HINT, Database
from pyrsyncbackup_collector.catalog.tables import CHANGING, CLAIMED, PUBLIC, STALE, UNREADABLE
from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import CatalogError, CatalogMismatch
from pyrsyncbackup_collector.pull.ledger import ModuleMemory, StoredObject
from pyrsyncbackup_collector.store.snapshot import Change, Snapshot

# DESIGN section 5: what this host itself sent before, or what is public here and was so where it was sent from.
_CLAIMABLE: Final = """
    SELECT objects.sha256 FROM temp.claims AS claim JOIN objects ON objects.sha256 = claim.sha256
    WHERE (? AND claim.public = 1 AND objects.public = 1)
       OR EXISTS (SELECT 1 FROM sent WHERE sent.host_id = ? AND sent.size = objects.size
                                       AND sent.sha256 = objects.sha256)
"""
_CLAIMABLE_SIZES: Final = """
    SELECT size FROM temp.sizes AS wanted
    WHERE EXISTS (SELECT 1 FROM sent WHERE sent.host_id = ? AND sent.size = wanted.size)
       OR (? AND EXISTS (SELECT 1 FROM objects WHERE objects.public = 1 AND objects.size = wanted.size))
"""
# Two claims of one digest count as the less public one.
_CLAIM: Final = """
    INSERT INTO temp.claims (sha256, public) VALUES (?, ?)
    ON CONFLICT (sha256) DO UPDATE SET public = min(public, excluded.public)
"""
_OBJECT: Final = """
    INSERT INTO objects (sha256, size, stored_size, public, last_used) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (sha256) DO UPDATE SET stored_size = excluded.stored_size, public = max(public, excluded.public),
                                       last_used = excluded.last_used
"""
_VERSION: Final = """
    INSERT INTO versions (module_id, path, from_seq, type, mode, size, mtime_s, mtime_ns, sha256, flags)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# A file that was sent as private and that its host opened to everyone since.
MADE_PUBLIC: Final = "UPDATE objects SET public = 1 WHERE sha256 = ? AND public = 0"
_END_VERSION: Final = """
    UPDATE versions SET until_seq = ? WHERE module_id = ? AND path = ? AND until_seq IS NULL
"""
# Rows built in Python before SQLite gets them: bounds memory, and is past where more helps.
_CHUNK: Final = 10_000


class LedgerTables:
    """The part of the catalog that pulls write and ask."""

    _database: Database
    _clock: Clock

    def memory(self, host: str, module: str) -> ModuleMemory | None:
        """What is remembered of the module; None if it was never pulled."""
        with self._database.reading() as raw:
            row = raw.execute(
                "SELECT sequence, tokens, fingerprint FROM memory WHERE module_id = "
                "(SELECT modules.id FROM modules JOIN hosts ON hosts.id = host_id "
                "WHERE hosts.name = ? AND modules.name = ?)",
                (host, module),
            ).fetchone()
        return ModuleMemory(*row) if row else None

    def claimable_sizes(self, host: str, sizes: AbstractSet[int], *, share: bool) -> set[int]:
        """Those of `sizes` (bytes) that some content has which this host may claim."""
        with self._database.reading() as raw:
            raw.execute("CREATE TEMP TABLE IF NOT EXISTS sizes (size INTEGER PRIMARY KEY)")
            raw.execute("DELETE FROM temp.sizes")
            raw.executemany("INSERT INTO temp.sizes VALUES (?)", ((size,) for size in sizes))
            return {size for (size,) in raw.execute(_CLAIMABLE_SIZES, (_find_host(raw, host), share))}

    def pin_claimable(self, pull: str, host: str, claims: Sequence[tuple[str, bool]], *, share: bool) -> set[str]:
        """Pin and return the digests of (sha256, public here) `claims` that are known and this host may claim."""
        with self._database.writing() as raw:
            raw.execute("CREATE TEMP TABLE IF NOT EXISTS claims (sha256 BLOB PRIMARY KEY, public INTEGER NOT NULL)")
            raw.execute("DELETE FROM temp.claims")
            raw.executemany(_CLAIM, ((bytes.fromhex(digest), public) for digest, public in claims))
            granted: list[tuple[bytes]] = raw.execute(_CLAIMABLE, (share, _find_host(raw, host))).fetchall()
            _pin(raw, pull, (digest for (digest,) in granted))
            now = self._clock.now()
            raw.executemany("UPDATE objects SET last_used = ? WHERE sha256 = ?", ((now, row[0]) for row in granted))
        return {digest.hex() for (digest,) in granted}

    def record_objects(self, pull: str, host: str, objects: Sequence[StoredObject]) -> None:
        """Make objects known, as sent by `host`, and pin them for `pull`. Call after the store's sync."""
        now = self._clock.now()
        rows = [(bytes.fromhex(each.sha256), each.size, each.stored_size, each.public, now) for each in objects]
        with self._database.writing() as raw:
            host_id = host_row(raw, host)
            raw.executemany(_OBJECT, rows)
            raw.executemany("INSERT OR IGNORE INTO sent VALUES (?, ?, ?)", ((host_id, row[1], row[0]) for row in rows))
            _pin(raw, pull, (row[0] for row in rows))

    def known(self, digests: Collection[str]) -> dict[str, int]:
        """Sizes of those of `digests` that are objects with a row, whoever sent them; not who may claim them."""
        known = {}
        with self._database.reading() as raw:
            for digest in digests:
                if row := raw.execute("SELECT size FROM objects WHERE sha256 = ?", (bytes.fromhex(digest),)).fetchone():
                    known[digest] = row[0]
        return known

    def commit(
        self,
        run: str,
        snapshot: Snapshot,
        changes: Iterable[Change],
        memory: ModuleMemory,
        *,
        previous: int | None = None,
        share: bool = True,
    ) -> None:
        """Record a snapshot that lies in the store: its row, its changed paths, the memory; one transaction.

        `changes` are those since snapshot number `previous` (default: the one before; 0: none). Raises CatalogMismatch
        if that is not the newest one here. A second time with the same snapshot does nothing. Without `share` no
        content becomes public by it.
        """
        if memory.sequence != snapshot.sequence:
            raise CatalogError(f"memory of snapshot {memory.sequence} given for {snapshot.sequence}")
        with self._database.writing() as raw:
            module_id = module_row(raw, snapshot.host, snapshot.module)
            if add_snapshot(raw, module_id, snapshot, changes, previous=previous, share=share):
                _remember(raw, module_id, memory)
            raw.execute("UPDATE runs SET sequence = ? WHERE id = ?", (snapshot.sequence, run))

    def remember(self, host: str, module: str, memory: ModuleMemory) -> None:
        """Replace the memory of a module whose listing showed no difference."""
        with self._database.writing() as raw:
            _remember(raw, module_row(raw, host, module), memory)

    def unpin(self, pull: str) -> None:
        """Drop all pins of `pull`."""
        with self._database.writing() as raw:
            raw.execute("DELETE FROM pins WHERE pull = ?", (pull,))


def host_row(raw: sqlite3.Connection, name: str) -> int:
    """The number of a host, added if it is new. Inside a transaction."""
    found = _find_host(raw, name)
    if found:
        return found
    return int(raw.execute("INSERT INTO hosts (name) VALUES (?) RETURNING id", (name,)).fetchone()[0])


def module_row(raw: sqlite3.Connection, host: str, module: str) -> int:
    """The number of a module, added if it is new. Inside a transaction."""
    key = (host_row(raw, host), module)
    row = raw.execute("SELECT id FROM modules WHERE host_id = ? AND name = ?", key).fetchone()
    row = row or raw.execute("INSERT INTO modules (host_id, name) VALUES (?, ?) RETURNING id", key).fetchone()
    return int(row[0])


def add_snapshot(
    raw: sqlite3.Connection,
    module_id: int,
    snapshot: Snapshot,
    changes: Iterable[Change],
    *,
    previous: int | None = None,
    share: bool,
) -> bool:
    """Add a snapshot and the versions of its changed paths; False if it is there already. Inside a transaction.

    With `share` what its host opened to everyone becomes public.
    """
    digest = bytes.fromhex(snapshot.digest)
    present = raw.execute(
        "SELECT digest FROM snapshots WHERE module_id = ? AND sequence = ?", (module_id, snapshot.sequence)
    ).fetchone()
    if present and present[0] == digest:
        return False
    newest = raw.execute("SELECT max(sequence) FROM snapshots WHERE module_id = ?", (module_id,)).fetchone()[0] or 0
    expected = snapshot.sequence - 1 if previous is None else previous
    if newest != expected:
        raise CatalogMismatch(
            f"the catalog knows {snapshot.host}/{snapshot.module} up to snapshot {newest}, not {expected}", REBUILD_HINT
        )
    totals = astuple(snapshot.totals)
    facts = (snapshot.sequence, snapshot.name, snapshot.time, snapshot.state, snapshot.base, digest)
    raw.execute(
        "INSERT INTO snapshots (module_id, sequence, name, time, state, base, digest, entries, files, size, stale, "
        "changing, unreadable) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (module_id, *facts, *totals),
    )
    for chunk in _chunks(changes):
        if newest:
            raw.executemany(_END_VERSION, [(snapshot.sequence, module_id, change.path) for change in chunk])
        raw.executemany(_VERSION, _versions(module_id, snapshot.sequence, chunk))
        if share:
            raw.executemany(MADE_PUBLIC, _public(chunk))
    return True


def _versions(module_id: int, sequence: int, changes: Iterable[Change]) -> Iterator[tuple[object, ...]]:
    for change in changes:
        entry = change.entry
        if entry is None:
            continue
        digest = bytes.fromhex(entry.sha256) if entry.sha256 else None
        times = (entry.mtime_s, entry.mtime_ns)
        yield (module_id, change.path, sequence, entry.type, entry.mode, entry.size, *times, digest, _flags(entry))


def _public(changes: Iterable[Change]) -> Iterator[tuple[bytes]]:
    for change in changes:
        entry = change.entry
        if entry is not None and entry.public and entry.sha256 and not entry.claimed:
            yield (bytes.fromhex(entry.sha256),)


def _flags(entry: Entry) -> int:
    return (
        entry.public * PUBLIC
        | entry.claimed * CLAIMED
        | entry.stale * STALE
        | entry.changing * CHANGING
        | bool(entry.error) * UNREADABLE
    )


def _chunks(changes: Iterable[Change]) -> Iterator[list[Change]]:
    iterator = iter(changes)
    for first in iterator:
        yield list(chain((first,), islice(iterator, _CHUNK - 1)))


def _pin(raw: sqlite3.Connection, pull: str, digests: Iterable[bytes]) -> None:
    raw.executemany("INSERT OR IGNORE INTO pins VALUES (?, ?)", ((pull, digest) for digest in digests))


def _remember(raw: sqlite3.Connection, module_id: int, memory: ModuleMemory) -> None:
    raw.execute(
        "INSERT OR REPLACE INTO memory (module_id, sequence, fingerprint, tokens) VALUES (?, ?, ?, ?)",
        (module_id, memory.sequence, memory.fingerprint, memory.tokens),
    )


def _find_host(raw: sqlite3.Connection, name: str) -> int:
    row = raw.execute("SELECT id FROM hosts WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0
