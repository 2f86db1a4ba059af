"""What nothing names: marked, dropped in the transaction that finds neither reference nor pin, looked up for files.

A content is named by a version of a kept snapshot; each list of its chunks by the content; a chunk by such a list.
Nothing else names anything: not the memory of a module, and not a full manifest that stays only as a base. Files are
the store's (`store.garbage`); this decides about rows alone, and about which files have none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from pyrsyncbackup_collector.catalog.database import Database
from pyrsyncbackup_collector.catalog.views import Unnamed
from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.store.garbage import PARTS, Due

_NAMED: Final = """(
    EXISTS (SELECT 1 FROM versions WHERE versions.sha256 = objects.sha256)
    OR EXISTS (SELECT 1 FROM lists WHERE lists.list = objects.sha256)
    OR EXISTS (SELECT 1 FROM chunks WHERE chunks.chunk = objects.sha256)
)"""
_PINNED: Final = "EXISTS (SELECT 1 FROM pins WHERE pins.sha256 = objects.sha256)"
# A moment that lies ahead is from before the clock was set back: it says nothing.
_MARK: Final = f"""
    UPDATE objects SET unnamed_since = :now, last_used = min(last_used, :now)
    WHERE sha256 >= :low AND sha256 < :high AND (unnamed_since IS NULL OR unnamed_since > :now) AND NOT {_NAMED}
"""  # noqa: S608 - constants
_UNMARK: Final = f"""
    UPDATE objects SET unnamed_since = NULL
    WHERE unnamed_since IS NOT NULL AND sha256 >= :low AND sha256 < :high AND {_NAMED}
"""  # noqa: S608 - constants
_DUE: Final = f"""
    unnamed_since IS NOT NULL AND unnamed_since <= :before AND last_used <= :before AND NOT {_PINNED}
"""
_DROP: Final = f"""
    DELETE FROM objects WHERE sha256 IN (SELECT sha256 FROM temp.dropping) AND {_DUE} AND NOT {_NAMED}
    RETURNING sha256, stored_size
"""  # noqa: S608 - constants
# The lists of contents that went, and that no version names: one may be named though its row was damaged.
_DROP_LISTS: Final = """
    DELETE FROM lists WHERE {} AND NOT EXISTS (SELECT 1 FROM objects WHERE objects.sha256 = content)
    AND NOT EXISTS (SELECT 1 FROM versions WHERE versions.sha256 = content)
    RETURNING list
"""
# What only a dropped list named is unnamed for as long as that was.
_PART: Final = f"UPDATE objects SET unnamed_since = ? WHERE sha256 = ? AND NOT {_NAMED}"  # noqa: S608 - a constant
_NAMELESS: Final = """
    SELECT sha256 FROM temp.dropping AS found
    WHERE NOT EXISTS (SELECT 1 FROM objects WHERE objects.sha256 = found.sha256)
      AND NOT EXISTS (SELECT 1 FROM pins WHERE pins.sha256 = found.sha256)
      AND NOT EXISTS (SELECT 1 FROM versions WHERE versions.sha256 = found.sha256)
      AND NOT EXISTS (SELECT 1 FROM lists WHERE lists.list = found.sha256)
      AND NOT EXISTS (SELECT 1 FROM chunks WHERE chunks.chunk = found.sha256)
"""
# Whoever asks for a plan has marked nothing: what nothing names, and is not marked yet, is unnamed since now.
_PLAN: Final = f"""
    SELECT max(min(ifnull(unnamed_since, :now), :now), iif(last_used > :now, 0, last_used)) AS since,
           {_PINNED} AS pinned, stored_size
    FROM objects WHERE NOT {_NAMED}
"""  # noqa: S608 - constants
_SENT: Final = """
    SELECT host_id, size, sha256, EXISTS (SELECT 1 FROM objects WHERE objects.sha256 = sent.sha256) FROM sent
    WHERE (host_id, size, sha256) > (?, ?, ?) ORDER BY host_id, size, sha256 LIMIT ?
"""
_SENT_PAGE: Final = 20_000
_SWEEPING: Final = "sweeping_since"
_COLLECTED: Final = "collected"
_REMOVALS: Final = "removals"


class Garbage:
    """The part of the catalog that collects garbage. Implements `store.garbage.Books`."""

    _database: Database
    _clock: Clock

    def mark_unnamed(self, part: int) -> None:
        """Note what nothing names now in a part of all objects, and what something names again."""
        low, high = _bounds(part)
        named: dict[str, Any] = {"now": self._clock.now(), "low": low, "high": high}
        with self._database.writing() as raw:
            # Of contents whose row was damaged.
            _drop_lists(raw, "content >= :low AND content < :high", named, named["now"])
            raw.execute(_MARK, named)
            raw.execute(_UNMARK, named)

    def due(self, before: float, limit: int) -> list[Due]:
        """Up to `limit` objects that were named and written the last time before then, and are not pinned."""
        with self._database.reading() as raw:
            found = raw.execute(
                f"SELECT sha256, stored_size FROM objects WHERE {_DUE} LIMIT :limit",  # noqa: S608 - a constant
                {"before": before, "limit": limit},
            )
            return [Due(digest.hex(), size) for digest, size in found]

    def drop(self, digests: Collection[str], before: float) -> list[Due]:
        """Drop the rows of those of `digests` that nothing names and nobody pins, and that were due before then.

        Before their files go, `make_durable`. Marks of named ones are taken away.
        """
        with self._database.writing() as raw:
            _list(raw, digests)
            gone = raw.execute(_DROP, {"before": before}).fetchall()
            _drop_lists(raw, "content IN (SELECT sha256 FROM temp.dropping)", {}, before)
            raw.execute(
                "UPDATE objects SET unnamed_since = NULL WHERE sha256 IN (SELECT sha256 FROM temp.dropping) "  # noqa: S608
                f"AND {_NAMED}"
            )
        return [Due(digest.hex(), size) for digest, size in gone]

    def make_durable(self) -> None:
        """No power loss brings back a row that was dropped before."""
        with self._database.writing(durable=True) as raw:
            # What writes nothing syncs nothing.
            raw.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_COLLECTED, repr(self._clock.now())))

    def removing(self, mark: str, before: str) -> None:
        """Durably: objects go; the store's mark is `mark`, or still `before` if that could not be written."""
        with self._database.writing(durable=True) as raw:
            remember_removals(raw, (mark, before))

    def removals(self) -> tuple[str, ...]:
        """The marks of the store that this catalog belongs to; none if nothing went yet."""
        with self._database.reading() as raw:
            row = raw.execute("SELECT value FROM meta WHERE key = ?", (_REMOVALS,)).fetchone()
        return tuple(row[0].split()) if row else ()

    def recorded_in(self, part: int) -> set[str]:
        """The digests of a part that have a row."""
        with self._database.reading() as raw:
            found = raw.execute("SELECT sha256 FROM objects WHERE sha256 >= ? AND sha256 < ?", _bounds(part))
            return {digest.hex() for (digest,) in found}

    def with_file_in(self, part: int) -> set[str]:
        """The digests of a part that have a row and a file of their own; those in chunks have none."""
        with self._database.reading() as raw:
            found = raw.execute(
                "SELECT sha256 FROM objects WHERE sha256 >= ? AND sha256 < ? AND stored_size > 0", _bounds(part)
            )
            return {digest.hex() for (digest,) in found}

    def nameless(self, digests: Collection[str]) -> list[str]:
        """Those of `digests` that have no row, and that nothing names or pins."""
        with self._database.reading() as raw:
            _list(raw, digests)
            return [digest.hex() for (digest,) in raw.execute(_NAMELESS)]

    def sweeping_since(self) -> float:
        """Since when this catalog knows which files belong to it; infinity if no collection began with it yet."""
        with self._database.reading() as raw:
            row = raw.execute("SELECT value FROM meta WHERE key = ?", (_SWEEPING,)).fetchone()
        return float(row[0]) if row else float("inf")

    def begin_sweeping(self) -> None:
        """From the first collection on its knowledge counts: one that was rebuilt begins anew."""
        now = self._clock.now()
        if self.sweeping_since() > now:
            with self._database.writing() as raw:
                raw.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_SWEEPING, repr(now)))

    def pin(self, holder: str, digests: Iterable[str]) -> None:
        """Keep these objects as long as `holder` needs them; `unpin` ends it, as does the next start."""
        with self._database.writing() as raw:
            raw.executemany(
                "INSERT OR IGNORE INTO pins VALUES (?, ?)", ((holder, bytes.fromhex(digest)) for digest in digests)
            )

    def forget_sent(self) -> int:
        """Drop what is remembered of who sent contents that are no objects any more; how many rows."""
        place: tuple[int, int, bytes] = (0, 0, b"")
        dropped = 0
        while True:
            with self._database.reading() as raw:
                page = raw.execute(_SENT, (*place, _SENT_PAGE)).fetchall()
            if not page:
                return dropped
            place = page[-1][:3]
            if lost := [row[:3] for row in page if not row[3]]:
                with self._database.writing() as raw:
                    dropped += raw.executemany(
                        "DELETE FROM sent WHERE host_id = ?1 AND size = ?2 AND sha256 = ?3 "
                        "AND NOT EXISTS (SELECT 1 FROM objects WHERE objects.sha256 = ?3)",
                        lost,
                    ).rowcount

    def unnamed(self, grace: float) -> list[Unnamed]:
        """What nothing names, by the day since when: what a collection would free, and what waits. Writes nothing."""
        now = self._clock.now()
        with self._database.reading() as raw:
            found = raw.execute(
                "SELECT min(since), pinned, since <= :before AS due, count(*), sum(stored_size) "  # noqa: S608
                f"FROM ({_PLAN}) GROUP BY pinned, due, cast(since / 86400 AS INTEGER) ORDER BY 1",
                {"now": now, "before": now - grace},
            )
            return [
                Unnamed(since, count, size, due=bool(due) and not pinned, pinned=bool(pinned))
                for since, pinned, due, count, size in found
            ]


def remember_removals(raw: sqlite3.Connection, marks: Iterable[str]) -> None:
    """From now on the catalog belongs to a store with one of these marks. Inside a transaction."""
    raw.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_REMOVALS, " ".join(marks)))


def _bounds(part: int) -> tuple[bytes, bytes]:
    """The least digest of a part, and one that is more than all of it."""
    return bytes([part]), bytes([part + 1]) if part + 1 < PARTS else b"\xff" * 33


def _list(raw: sqlite3.Connection, digests: Collection[str]) -> None:
    raw.execute("CREATE TEMP TABLE IF NOT EXISTS dropping (sha256 BLOB PRIMARY KEY) WITHOUT ROWID")
    raw.execute("DELETE FROM temp.dropping")
    raw.executemany("INSERT OR IGNORE INTO temp.dropping VALUES (?)", ((bytes.fromhex(each),) for each in digests))


def _drop_lists(raw: sqlite3.Connection, which: str, values: Mapping[str, object], since: float) -> None:
    """Those of contents that neither are nor are named; a list that no other content names names no chunks."""
    for digest in {row[0] for row in raw.execute(_DROP_LISTS.format(which), values).fetchall()}:
        if raw.execute("SELECT 1 FROM lists WHERE list = ?", (digest,)).fetchone():
            continue
        parts = raw.execute("DELETE FROM chunks WHERE content = ? RETURNING chunk", (digest,)).fetchall()
        raw.executemany(_PART, ((since, part) for (part,) in ((digest,), *parts)))
