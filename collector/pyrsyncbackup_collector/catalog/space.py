"""How much room snapshots, modules and hosts take, and how much their removal would give back.

A content is counted by the files that lie in the store for it: one, or, for a content in chunks, its list and its
chunks. What only one snapshot, module or host names is unique to it. Everything is of one moment; nothing is written.
"""

from __future__ import annotations

import heapq
import sqlite3
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Final

from pyrsyncbackup_collector.catalog.database import Database
from pyrsyncbackup_collector.catalog.views import ModuleSpace, SnapshotSpace, StoreSpace, Taken

# Each content with each module that names it; the index over contents has them in this order.
_CONTENTS: Final = "SELECT DISTINCT sha256, module_id FROM versions WHERE sha256 IS NOT NULL ORDER BY sha256"
# Each list and chunk with each module that names a content which lies in it.
_PIECES: Final = """
    WITH whole AS (SELECT DISTINCT list, module_id FROM lists JOIN versions ON versions.sha256 = lists.content)
    SELECT list, module_id FROM whole UNION SELECT chunk, module_id FROM whole JOIN chunks ON content = list ORDER BY 1
"""
_MODULES: Final = """
    SELECT modules.id, hosts.name, modules.name, count(sequence), ifnull(sum(size), 0) FROM modules
    JOIN hosts ON hosts.id = host_id JOIN snapshots ON module_id = modules.id
    GROUP BY modules.id ORDER BY hosts.name, modules.name
"""
# Where the files of one module's contents are named: (digest, from, until).
_MODULE_CONTENTS: Final = """
    SELECT versions.sha256, from_seq, until_seq, list FROM versions LEFT JOIN lists ON content = versions.sha256
    WHERE module_id = ? AND versions.sha256 IS NOT NULL
"""
_ELSEWHERE: Final = """
    SELECT EXISTS (SELECT 1 FROM versions WHERE sha256 = :piece AND module_id < :module)
        OR EXISTS (SELECT 1 FROM versions WHERE sha256 = :piece AND module_id > :module)
        OR EXISTS (SELECT 1 FROM lists JOIN versions ON sha256 = content
                   WHERE list = :piece AND module_id <> :module)
        OR EXISTS (SELECT 1 FROM chunks JOIN lists ON list = chunks.content JOIN versions ON sha256 = lists.content
                   WHERE chunk = :piece AND module_id <> :module)
"""
_SIZE: Final = "SELECT stored_size FROM objects WHERE sha256 = ?"

# From, until: the first snapshot without it, None while current.
Interval = tuple[int, int | None]


@dataclass(slots=True)
class _Sums:
    """Bytes by the number of who names them: all, and those that nobody else names."""

    stored: dict[int | str, int] = field(default_factory=lambda: defaultdict(int))
    unique: dict[int | str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, who: Iterable[int | str], size: int) -> None:
        names = set(who)
        for name in names:
            self.stored[name] += size
        if len(names) == 1:
            self.unique[names.pop()] += size

    def of(self, who: int | str) -> Taken:
        return Taken(self.stored[who], self.unique[who])


class Space:
    """The part of the catalog that adds up. Each call reads every path of what it is asked for: seconds a million."""

    _database: Database

    def store_space(self) -> StoreSpace:
        """What every module and host takes, and what lies in the store although nothing names it."""
        by_module, by_host = _Sums(), _Sums()
        with self._database.reading() as raw:
            modules = raw.execute(_MODULES).fetchall()
            host_of = {row[0]: row[1] for row in modules}
            unnamed = 0
            for size, named_by in _named(raw):
                known = [module for module in named_by if module in host_of]
                by_module.add(known, size)
                by_host.add((host_of[module] for module in known), size)
                unnamed += size if not known else 0
            stored = raw.execute("SELECT ifnull(sum(stored_size), 0) FROM objects").fetchone()[0]
        return StoreSpace(
            modules=tuple(
                ModuleSpace(host, module, count, size, by_module.of(row)) for row, host, module, count, size in modules
            ),
            hosts={host: by_host.of(host) for host in dict.fromkeys(host_of.values())},
            stored=stored,
            unnamed=unnamed,
        )

    def snapshot_space(self, host: str, module: str) -> list[SnapshotSpace]:
        """What every snapshot of a module takes, oldest first; unique is what nothing else in the store names."""
        with self._database.reading() as raw:
            rows = raw.execute(
                "SELECT module_id, sequence, snapshots.name, time, snapshots.state, size FROM snapshots "
                "JOIN modules ON modules.id = module_id JOIN hosts ON hosts.id = host_id "
                "WHERE hosts.name = ? AND modules.name = ? ORDER BY sequence",
                (host, module),
            ).fetchall()
            if not rows:
                return []
            found = _by_snapshot(raw, rows[0][0], [row[1] for row in rows])
        return [
            SnapshotSpace(sequence, name, time, state, size, taken)
            for (_, sequence, name, time, state, size), taken in zip(rows, found, strict=True)
        ]


def _named(raw: sqlite3.Connection) -> Iterator[tuple[int, list[int]]]:
    """The size of each file in the store, with the modules that name it: three streams in the order of digests."""
    first = itemgetter(0)
    names = heapq.merge(raw.execute(_CONTENTS), raw.execute(_PIECES), key=first)
    groups = groupby(names, key=first)
    digest, group = next(groups, (None, iter(())))
    for sha256, size in raw.execute("SELECT sha256, stored_size FROM objects ORDER BY sha256"):
        # A content without an object is one that went behind our back.
        while digest is not None and digest < sha256:
            digest, group = next(groups, (None, iter(())))
        yield size, [module for _, module in group] if digest == sha256 else []


def _by_snapshot(raw: sqlite3.Connection, module: int, sequences: list[int]) -> list[Taken]:
    """What each of the module's snapshots takes, by differences at the ends of intervals."""
    count = len(sequences)
    stored, unique = [0] * (count + 1), [0] * count
    for piece, intervals in _intervals(raw, module).items():
        row = raw.execute(_SIZE, (piece,)).fetchone()
        spans = _spans(intervals, sequences)
        if row is None or not spans:
            continue
        for begin, end in spans:
            stored[begin] += row[0]
            stored[end] -= row[0]
        alone = len(spans) == 1 and spans[0][1] - spans[0][0] == 1
        if alone and not raw.execute(_ELSEWHERE, {"piece": piece, "module": module}).fetchone()[0]:
            unique[spans[0][0]] += row[0]
    return [Taken(size, own) for size, own in zip(accumulate(stored[:count]), unique, strict=True)]


def _intervals(raw: sqlite3.Connection, module: int) -> Mapping[bytes, list[Interval]]:
    """Where each file that the module's contents are made of is named."""
    found: dict[bytes, list[Interval]] = defaultdict(list)
    lists: dict[bytes, list[Interval]] = defaultdict(list)
    for sha256, begin, until, list_ in raw.execute(_MODULE_CONTENTS, (module,)):
        found[sha256].append((begin, until))
        if list_ is not None:
            lists[list_].append((begin, until))
    for list_, intervals in lists.items():
        found[list_] += intervals
        for (chunk,) in raw.execute("SELECT chunk FROM chunks WHERE content = ?", (list_,)):
            found[chunk] += intervals
    return found


def _spans(intervals: list[Interval], sequences: list[int]) -> list[tuple[int, int]]:
    """The intervals as places in `sequences`, [begin, end), put together where they touch."""
    places = sorted(
        (bisect_left(sequences, begin), len(sequences) if until is None else bisect_left(sequences, until))
        for begin, until in intervals
    )
    spans: list[tuple[int, int]] = []
    for begin, end in places:
        if begin >= end:
            continue
        if spans and begin <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((begin, end))
    return spans
