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
from typing import Final, TypeVar

from pyrsyncbackup_collector.catalog import damage
from pyrsyncbackup_collector.catalog.database import REBUILD_HINT, Database
from pyrsyncbackup_collector.catalog.rest import mark, rest
from pyrsyncbackup_collector.catalog.tables import CHANGING, CLAIMED, PUBLIC, STALE, UNREADABLE
from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import CatalogError, CatalogMismatch
from pyrsyncbackup_collector.pull.ledger import Known, ModuleMemory, StoredObject
from pyrsyncbackup_collector.store.chunks import Piece
from pyrsyncbackup_collector.store.snapshot import Change, Snapshot

# DESIGN section 5: what this host itself sent before, or what is public here and was so where it was sent from.
_CLAIMABLE: Final = """
    SELECT objects.sha256, objects.chunks FROM temp.claims AS claim JOIN objects ON objects.sha256 = claim.sha256
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
    INSERT INTO objects (sha256, size, stored_size, public, last_used, chunks, part) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (sha256) DO UPDATE SET
        stored_size = CASE WHEN excluded.stored_size THEN excluded.stored_size ELSE stored_size END,
        public = max(public, excluded.public), last_used = excluded.last_used, unnamed_since = NULL,
        chunks = ifnull(excluded.chunks, chunks), part = min(part, excluded.part)
"""
# Whether a list of chunks lacks a row: its own, or that of a chunk.
_LACKING: Final = """
    SELECT 1 FROM (SELECT ?1 AS needed UNION ALL SELECT chunk FROM chunks WHERE content = ?1)
    WHERE NOT EXISTS (SELECT 1 FROM objects WHERE sha256 = needed) LIMIT 1
"""
# What is used is not garbage, whatever was thought of it.
_USE: Final = "UPDATE objects SET last_used = ?, unnamed_since = NULL WHERE sha256 = ?"
_VERSION: Final = """
    INSERT INTO versions (module_id, path, from_seq, type, mode, size, mtime_s, mtime_ns, sha256, flags, mark, rest)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_COLUMNS: Final = _VERSION.count("?")
# Rows of one statement: a third less time for each than alone, and no more with twice as many.
_TOGETHER: Final = 40
_VERSIONS: Final = _VERSION + f", ({', '.join('?' * _COLUMNS)})" * (_TOGETHER - 1)
# A file that was sent as private and that its host opened to everyone since.
MADE_PUBLIC: Final = "UPDATE objects SET public = 1 WHERE sha256 = ? AND public = 0"
_END_VERSION: Final = """
    UPDATE versions SET until_seq = ? WHERE module_id = ? AND path = ? AND until_seq IS NULL
"""
_NOT_COMPARED: Final = ("from_seq", "until_seq")
# Rows built in Python before SQLite gets them: bounds memory, and is past where more helps.
_BATCH: Final = 1000


Row = TypeVar("Row")


class LedgerTables:
    """The part of the catalog that pulls write and ask."""

    _database: Database
    _clock: Clock

    def memory(self, host: str, module: str) -> ModuleMemory | None:
        """What is remembered of the module; None if it was never pulled."""
        with self._database.reading() as raw:
            row = raw.execute(
                "SELECT sequence, tokens, fingerprint FROM memory WHERE module_id = ?",
                (find_module(raw, host, module),),
            ).fetchone()
        return ModuleMemory(*row) if row else None

    def newest(self, host: str, module: str) -> Known | None:
        """The newest snapshot that the catalog knows; None if there is none."""
        with self._database.reading() as raw:
            row = raw.execute(
                "SELECT sequence, name, lower(hex(digest)) FROM snapshots WHERE module_id = ? "
                "ORDER BY sequence DESC LIMIT 1",
                (find_module(raw, host, module),),
            ).fetchone()
        return Known(*row) if row else None

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
            found = raw.execute(_CLAIMABLE, (share, _find_host(raw, host))).fetchall()
            # What is not whole has to be sent again.
            granted = [digest for digest, listed in found if is_whole(raw, listed)]
            _pin(raw, pull, granted)
            now = self._clock.now()
            raw.executemany(_USE, ((now, digest) for digest in granted))
        return {digest.hex() for digest in granted}

    def record_objects(self, pull: str, host: str, objects: Sequence[StoredObject]) -> None:
        """Make objects known, as sent by `host`, and pin them for `pull`. Call after the store's sync."""
        now = self._clock.now()
        # Durable: a manifest may be, that the catalog has to learn of again, and its objects must be known then.
        with self._database.writing(durable=True) as raw:
            host_id = host_row(raw, host)
            rows = [
                (bytes.fromhex(each.sha256), each.size, each.stored_size, each.public, now, _list_of(raw, each, now), 0)
                for each in objects
            ]
            raw.executemany(_OBJECT, rows)
            raw.executemany("INSERT OR IGNORE INTO sent VALUES (?, ?, ?)", ((host_id, row[1], row[0]) for row in rows))
            _pin(raw, pull, (row[0] for row in rows))
            damage.heal(raw, now)

    def pin_known(self, pull: str, digests: Collection[str]) -> dict[str, int]:
        """Pin `digests` for `pull`, objects or not yet; sizes of those that are, whoever sent them."""
        now = self._clock.now()
        listed = [bytes.fromhex(digest) for digest in digests]
        known = {}
        with self._database.writing() as raw:
            _pin(raw, pull, listed)
            for digest in listed:
                row = raw.execute(_USE + " RETURNING size, chunks", (now, digest)).fetchone()
                if row and is_whole(raw, row[1]):
                    known[digest.hex()] = row[0]
        return known

    def known(self, digests: Collection[str]) -> dict[str, int]:
        """Sizes of those of `digests` that are objects with a row, whoever sent them; not who may claim them."""
        known = {}
        query = "SELECT size, chunks FROM objects WHERE sha256 = ?"
        with self._database.reading() as raw:
            for digest in digests:
                row = raw.execute(query, (bytes.fromhex(digest),)).fetchone()
                if row and is_whole(raw, row[1]):
                    known[digest] = row[0]
        return known

    def lists(self, digests: Collection[str]) -> dict[str, str]:
        """The digest of the list of chunks of those of `digests` that are contents in chunks."""
        query = "SELECT chunks FROM objects WHERE sha256 = ? AND chunks IS NOT NULL"
        lists = {}
        with self._database.reading() as raw:
            for digest in digests:
                if row := raw.execute(query, (bytes.fromhex(digest),)).fetchone():
                    lists[digest] = row[0].hex()
        return lists

    def lists_of(self, digest: str) -> list[str]:
        """The digests of all lists of chunks that there are of one content, whether they are sound or not."""
        with self._database.reading() as raw:
            rows = raw.execute("SELECT list FROM lists WHERE content = ?", (bytes.fromhex(digest),)).fetchall()
        return [row[0].hex() for row in rows]

    def commit(
        self,
        run: str,
        snapshot: Snapshot,
        changes: Iterable[Change],
        memory: ModuleMemory,
        *,
        previous: int | None = None,
        share: bool = True,
        whole: bool = False,
    ) -> None:
        """Record a snapshot that lies in the store: its row, its changed paths, the memory; one transaction.

        `changes` are those since snapshot number `previous` (default: the one before; 0: none), with `whole` all there
        is. Raises CatalogMismatch if that is not the newest one here. A second time with the same snapshot does
        nothing. Without `share` no content becomes public by it.
        """
        if memory.sequence != snapshot.sequence:
            raise CatalogError(f"memory of snapshot {memory.sequence} given for {snapshot.sequence}")
        with self._database.writing() as raw:
            module_id = module_row(raw, snapshot.host, snapshot.module)
            if add_snapshot(raw, module_id, snapshot, changes, previous=previous, share=share, whole=whole):
                _remember(raw, module_id, memory)
                damage.follow(raw, module_id, snapshot.sequence)
            raw.execute("UPDATE runs SET sequence = ? WHERE id = ?", (snapshot.sequence, run))

    def remember(self, host: str, module: str, memory: ModuleMemory) -> None:
        """Replace the memory of a module whose listing showed no difference."""
        with self._database.writing() as raw:
            _remember(raw, module_row(raw, host, module), memory)

    def unpin(self, pull: str) -> None:
        """Drop all pins of `pull`."""
        with self._database.writing() as raw:
            raw.execute("DELETE FROM pins WHERE pull = ?", (pull,))


def add_chunks(raw: sqlite3.Connection, content: bytes, listed: Piece, pieces: Iterable[Piece], now: float) -> None:
    """Add a list of the chunks of a content (its digest), and the chunks, as parts. Inside a transaction.

    A piece whose file is missing has a stored size of 0, and gets no row: so the content is not known.
    """
    for batch in batches(pieces):
        raw.executemany(_OBJECT, [_part(piece, now) for piece in batch if piece.stored_size])
        raw.executemany(
            "INSERT OR IGNORE INTO chunks VALUES (?, ?)", [(listed.sha256, piece.sha256) for piece in batch]
        )
    raw.execute(_OBJECT, _part(listed, now))
    raw.execute("INSERT OR IGNORE INTO lists VALUES (?, ?)", (content, listed.sha256))


def _part(piece: Piece, now: float) -> tuple[object, ...]:
    return (piece.sha256, piece.size, piece.stored_size, False, now, None, True)


def is_whole(raw: sqlite3.Connection, listed: bytes | None) -> bool:
    """Whether nothing is known to be missing of a content with this list of chunks; None: it is one object."""
    return listed is None or raw.execute(_LACKING, (listed,)).fetchone() is None


def _list_of(raw: sqlite3.Connection, stored: StoredObject, now: float) -> bytes | None:
    """The list of a content in chunks, added with them; None if it has none, or keeps the one that it has.

    A content that is cut differently today keeps its list while that is whole; also later, where snapshots name it.
    """
    if stored.chunked is None:
        return None
    row = raw.execute("SELECT chunks FROM objects WHERE sha256 = ?", (bytes.fromhex(stored.sha256),)).fetchone()
    if row and row[0] and row[0] != stored.chunked.list.sha256 and is_whole(raw, row[0]):
        return None
    add_chunks(raw, bytes.fromhex(stored.sha256), stored.chunked.list, stored.chunked.pieces(), now)
    return stored.chunked.list.sha256


def host_row(raw: sqlite3.Connection, name: str) -> int:
    """The number of a host, added if it is new. Inside a transaction."""
    found = _find_host(raw, name)
    if found:
        return found
    return int(raw.execute("INSERT INTO hosts (name) VALUES (?) RETURNING id", (name,)).fetchone()[0])


def find_module(raw: sqlite3.Connection, host: str, module: str) -> int | None:
    """The number of a module; None if it is not known."""
    query = "SELECT modules.id FROM modules JOIN hosts ON hosts.id = host_id WHERE hosts.name = ? AND modules.name = ?"
    row = raw.execute(query, (host, module)).fetchone()
    return int(row[0]) if row else None


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
    whole: bool = False,
) -> bool:
    """Add a snapshot and the versions of its changed paths; False if it is there already. Inside a transaction.

    With `share` what its host opened to everyone becomes public. With `whole` the changes are all entries there are.
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
    if whole:
        raw.execute(
            "UPDATE versions SET until_seq = ? WHERE module_id = ? AND until_seq IS NULL",
            (snapshot.sequence, module_id),
        )
    key = _key(raw)
    for batch in batches(changes):
        if newest and not whole:
            raw.executemany(_END_VERSION, [(snapshot.sequence, module_id, change.path) for change in batch])
        _add_versions(raw, module_id, snapshot.sequence, batch, key)
        if share:
            raw.executemany(MADE_PUBLIC, _public(batch))
    if whole:
        _join_versions(raw, module_id, snapshot.sequence)
    return True


def _join_versions(raw: sqlite3.Connection, module_id: int, sequence: int) -> None:
    """Undo what begins in that snapshot where it is as what ends there."""
    columns = [row[1] for row in raw.execute("PRAGMA table_info(versions)")]
    same = " AND ".join(f"new.{name} IS old.{name}" for name in columns if name not in _NOT_COMPARED)
    values = {"module": module_id, "sequence": sequence}
    raw.execute(
        "UPDATE versions AS old SET until_seq = NULL WHERE module_id = :module AND until_seq = :sequence AND EXISTS "  # noqa: S608
        f"(SELECT 1 FROM versions AS new WHERE new.from_seq = :sequence AND {same})",
        values,
    )
    raw.execute(
        "DELETE FROM versions AS new WHERE module_id = :module AND from_seq = :sequence AND EXISTS "
        "(SELECT 1 FROM versions AS old WHERE old.module_id = new.module_id AND old.path = new.path "
        "AND old.from_seq < :sequence AND old.until_seq IS NULL)",
        values,
    )


def _key(raw: sqlite3.Connection) -> bytes:
    """What `rest` is keyed with: blake2b takes up to 64 bytes."""
    return str(raw.execute("SELECT value FROM meta WHERE key = 'store_id'").fetchone()[0]).encode()[:64]


def _add_versions(
    raw: sqlite3.Connection, module_id: int, sequence: int, changes: Iterable[Change], key: bytes
) -> None:
    values = list(chain.from_iterable(_versions(module_id, sequence, changes, key)))
    wide = _TOGETHER * _COLUMNS
    left = len(values) - len(values) % wide
    raw.executemany(_VERSIONS, (values[at : at + wide] for at in range(0, left, wide)))
    raw.executemany(_VERSION, (values[at : at + _COLUMNS] for at in range(left, len(values), _COLUMNS)))


def _versions(module_id: int, sequence: int, changes: Iterable[Change], key: bytes) -> Iterator[tuple[object, ...]]:
    for change in changes:
        entry = change.entry
        if entry is None:
            continue
        digest = bytes.fromhex(entry.sha256) if entry.sha256 else None
        # One tuple in one go: this runs for every entry of a store.
        yield (
            module_id,
            change.path,
            sequence,
            entry.type,
            entry.mode,
            entry.size,
            entry.mtime_s,
            entry.mtime_ns,
            digest,
            _flags(entry),
            mark(entry, key),
            rest(entry, key),
        )


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
        | (UNREADABLE if entry.error else 0)
    )


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """`rows` as lists of a size that SQLite takes well."""
    iterator = iter(rows)
    for first in iterator:
        yield list(chain((first,), islice(iterator, _BATCH - 1)))


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
