"""What a path was like from one kept snapshot to another: pure rules over the rows of `versions`.

A row's interval may begin or end at a snapshot that was pruned since. What counts is which kept snapshots lie in it: so
a catalog from which snapshots were pruned and one that was rebuilt from what is left answer alike. Two states are the
same where `store.difference` would show no difference between their entries.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from pyrsyncbackup_collector.catalog.rest import CONTENT_SHIFT, METADATA
from pyrsyncbackup_collector.catalog.tables import UNREADABLE
from pyrsyncbackup_collector.entry import DIRECTORY, FILE
from pyrsyncbackup_collector.store.difference import Kind


class State(NamedTuple):
    """The columns of a version that say what the path was like; `STATE` names them for a query."""

    type: str
    mode: int
    size: int
    mtime_s: int
    mtime_ns: int
    sha256: bytes | None
    flags: int
    rest: int

    @property
    def content(self) -> tuple[str, bytes | None, int]:
        """What stands for type and content: equal for equal files, links with one target, any two directories."""
        return self.type, self.sha256, self.rest >> CONTENT_SHIFT

    @property
    def access(self) -> tuple[int, int]:
        """What stands for mode, owner, group and attributes."""
        return self.mode, self.rest & METADATA


STATE: Final = ", ".join(State._fields)


def columns(table: str) -> str:
    """The columns of a State, of one of several tables of a query."""
    return ", ".join(f"{table}.{name}" for name in State._fields)


class Row(NamedTuple):
    """A version: [begin, end) in sequence numbers, `end` None while nothing followed it."""

    begin: int
    end: int | None
    state: State


@dataclass(frozen=True, slots=True)
class Moment:
    """A kept snapshot."""

    sequence: int
    time: float
    name: str


@dataclass(frozen=True, slots=True)
class Span:
    """A state, in the kept snapshots number `begin` up to, not including, number `end`, counted from the oldest."""

    begin: int
    end: int
    state: State


def change(before: State | None, after: State | None) -> Kind | None:
    """How two states of one path differ, as `store.difference` says it of entries; None: not at all."""
    if before is None or after is None:
        return None if before is after else "added" if before is None else "removed"
    if before.type != after.type:
        return "type"
    if (before.type == FILE and _content_differs(before, after)) or before.content[2] != after.content[2]:
        return "content"
    same = (
        (before.size == after.size or before.type == DIRECTORY)
        and before[3:5] == after[3:5]
        and before.access == after.access
        and before.flags & UNREADABLE == after.flags & UNREADABLE
    )
    return None if same else "metadata"


def _content_differs(before: State, after: State) -> bool:
    if before.sha256 and after.sha256:
        return before.sha256 != after.sha256
    if (before.flags | after.flags) & UNREADABLE:
        return False
    return before[2:5] != after[2:5]


# `change` for rows named old and new of a query, where tens of thousands are looked at; old.path NULL: there is none.
CHANGE: Final = f"""
    CASE WHEN old.path IS NULL THEN 'added'
    WHEN new.type != old.type THEN 'type'
    WHEN new.rest >> {CONTENT_SHIFT} != old.rest >> {CONTENT_SHIFT} THEN 'content'
    WHEN new.type = '{FILE}' AND CASE
        WHEN new.sha256 IS NOT NULL AND old.sha256 IS NOT NULL THEN new.sha256 != old.sha256
        WHEN (new.flags | old.flags) & {UNREADABLE} THEN 0
        ELSE (new.size, new.mtime_s, new.mtime_ns) != (old.size, old.mtime_s, old.mtime_ns) END THEN 'content'
    WHEN (new.size != old.size AND new.type != '{DIRECTORY}')
        OR (new.flags & {UNREADABLE}) != (old.flags & {UNREADABLE})
        OR (new.mtime_s, new.mtime_ns, new.mode, new.rest) != (old.mtime_s, old.mtime_ns, old.mode, old.rest)
        THEN 'metadata' END
"""


def unchanged(before: State, after: State) -> bool:
    """Whether nothing that a person can see differs."""
    return change(before, after) is None


def same_content(before: State, after: State) -> bool:
    """Whether type and content are the same, whatever the metadata are."""
    return before.content == after.content


def spans(rows: Iterable[Row], kept: Sequence[Moment], same: Callable[[State, State], bool] = unchanged) -> list[Span]:
    """What one path was like in the `kept` snapshots, oldest first; rows in order, neighbours that are the `same` one.

    What no kept snapshot has is left out.
    """
    sequences = [moment.sequence for moment in kept]
    found: list[Span] = []
    for row in rows:
        begin = bisect_left(sequences, row.begin)
        end = len(sequences) if row.end is None else bisect_left(sequences, row.end)
        if begin == end:
            continue
        if found and found[-1].end == begin and same(found[-1].state, row.state):
            found[-1] = Span(found[-1].begin, end, row.state)
        else:
            found.append(Span(begin, end, row.state))
    return found
