"""Taking snapshots out of the catalog: what is left answers like a catalog that was made from the kept ones alone.

A version's interval begins at the first kept snapshot that has it and ends at the first kept one that does not; one
without a kept snapshot goes; two that became neighbours and are equal in everything become one.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from pyrsyncbackup_collector.catalog.database import Database
from pyrsyncbackup_collector.catalog.ledger import find_module

# Paths put right in one transaction: some 10 ms, so that pulls and commands hardly wait.
_CHUNK: Final = 2_000

# The mark of a version from before there were marks: nobody can tell whether another one is equal to it.
UNKNOWN: Final = -1

_AFFECTED: Final = """
    SELECT DISTINCT path FROM versions WHERE module_id = ? AND path > ?
    AND (from_seq IN (SELECT sequence FROM temp.going) OR until_seq IN (SELECT sequence FROM temp.going))
    ORDER BY path LIMIT ?
"""
_VERSIONS: Final = """
    SELECT versions.path, from_seq, until_seq, type, mode, size, mtime_s, mtime_ns, sha256, flags, mark, rest
    FROM temp.touched JOIN versions
    ON versions.module_id = ? AND versions.path = touched.path ORDER BY versions.path, from_seq
"""
_FORGET_UNSOUND: Final = """
    DELETE FROM unsound WHERE module_id = ? AND name IN (
        SELECT name FROM snapshots WHERE module_id = ? AND sequence IN (SELECT sequence FROM temp.going)
    )
"""

# A version of one path: from, until (None: current), what is equal where the entries are.
Version = tuple[int, int | None, object]


class Pruning:
    """The part of the catalog that forgets snapshots."""

    _database: Database

    def drop_snapshots(self, host: str, module: str, sequences: Collection[int]) -> int:
        """Take snapshots out that were pruned in the store; returns how many versions of paths went.

        In many short transactions, the last of which takes out the snapshots themselves: cut off anywhere, it is done
        by a second call, and until then the others are complete. With the newest snapshot the module's memory goes.
        """
        with self._database.reading() as raw:
            module_id = find_module(raw, host, module)
        if module_id is None or not sequences:
            return 0
        dropped, last = 0, b""
        while True:
            with self._database.writing() as raw:
                _going(raw, sequences)
                paths = raw.execute(_AFFECTED, (module_id, last, _CHUNK)).fetchall()
                if not paths:
                    _end(raw, module_id)
                    return dropped
                dropped += _settle(raw, module_id, paths)
                last = paths[-1][0]

    def forget_module(self, host: str, module: str) -> None:
        """Take out what is known of a module, once it has no snapshots; with some, or unknown, it stays as it is."""
        with self._database.writing() as raw:
            module_id = find_module(raw, host, module)
            if module_id is None:
                return
            if raw.execute("SELECT 1 FROM snapshots WHERE module_id = ?", (module_id,)).fetchone():
                return
            for table in ("memory", "versions"):
                raw.execute(f"DELETE FROM {table} WHERE module_id = ?", (module_id,))  # noqa: S608 - of this line
            raw.execute("DELETE FROM modules WHERE id = ?", (module_id,))


def settled(versions: Iterable[Version], kept: Sequence[int]) -> list[tuple[int, Version]]:
    """What becomes of one path's versions when `kept` snapshots are left: (from as it was, the version as it is).

    Both in ascending order. Pure.
    """
    left: list[tuple[int, Version]] = []
    for begin, until, what in versions:
        place = bisect_left(kept, begin)
        if place == len(kept) or (until is not None and kept[place] >= until):
            continue
        first = kept[place]
        after = bisect_left(kept, until) if until is not None else len(kept)
        end = kept[after] if after < len(kept) else None
        if left and left[-1][1][1] == first and left[-1][1][2] == what:
            was, (earlier, _, _) = left.pop()
            left.append((was, (earlier, end, what)))
        else:
            left.append((begin, (first, end, what)))
    return left


def _going(raw: sqlite3.Connection, sequences: Collection[int]) -> None:
    raw.execute("CREATE TEMP TABLE IF NOT EXISTS going (sequence INTEGER PRIMARY KEY)")
    raw.execute("DELETE FROM temp.going")
    raw.executemany("INSERT OR IGNORE INTO temp.going VALUES (?)", ((sequence,) for sequence in sequences))


def _settle(raw: sqlite3.Connection, module_id: int, paths: Iterable[tuple[bytes]]) -> int:
    """Put the versions of these paths right; how many went."""
    raw.execute("CREATE TEMP TABLE IF NOT EXISTS touched (path BLOB PRIMARY KEY) WITHOUT ROWID")
    raw.execute("DELETE FROM temp.touched")
    raw.executemany("INSERT INTO temp.touched VALUES (?)", paths)
    kept = [
        row[0]
        for row in raw.execute(
            "SELECT sequence FROM snapshots WHERE module_id = ? AND sequence NOT IN (SELECT sequence FROM temp.going) "
            "ORDER BY sequence",
            (module_id,),
        )
    ]
    gone: list[tuple[int, bytes, int]] = []
    moved: list[tuple[int, int | None, int, bytes, int]] = []
    for path, versions in _by_path(raw.execute(_VERSIONS, (module_id,))):
        left = dict(settled(versions, kept))
        gone += [(module_id, path, version[0]) for version in versions if version[0] not in left]
        # From the last on: a row never takes the place of one that has still to move.
        for begin, until, what in reversed(versions):
            after = left.get(begin)
            if after is not None and after != (begin, until, what):
                moved.append((after[0], after[1], module_id, path, begin))
    raw.executemany("DELETE FROM versions WHERE module_id = ? AND path = ? AND from_seq = ?", gone)
    raw.executemany(
        "UPDATE versions SET from_seq = ?, until_seq = ? WHERE module_id = ? AND path = ? AND from_seq = ?", moved
    )
    return len(gone)


def _by_path(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[bytes, list[Version]]]:
    for path, versions in groupby(rows, key=lambda row: row[0]):
        yield path, [(begin, until, _what(begin, what)) for _, begin, until, *what in versions]


def _what(begin: int, columns: list[Any]) -> object:
    """What two versions are equal by; one without a mark is equal to itself alone."""
    *_, mark, _ = columns
    return columns if mark != UNKNOWN else (begin, columns)


def _end(raw: sqlite3.Connection, module_id: int) -> None:
    # Whether what stays needs a file of what goes is found at the next look.
    if raw.execute(_FORGET_UNSOUND, (module_id, module_id)).rowcount:
        raw.execute("UPDATE modules SET verified = 1 WHERE id = ?", (module_id,))
    raw.execute(
        "DELETE FROM snapshots WHERE module_id = ? AND sequence IN (SELECT sequence FROM temp.going)", (module_id,)
    )
    raw.execute(
        "DELETE FROM memory WHERE module_id = ? AND sequence IN (SELECT sequence FROM temp.going)", (module_id,)
    )
