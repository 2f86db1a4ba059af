"""Which hosts of a module share which version of a path now, who differs, and since when.

Alike means equal type and content (or link target), with `strict` also mode, owner and attributes; times of
modification never count. The largest group is the majority; of two as large the one whose content is older.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Final

from pyrsyncbackup_collector.catalog import scope, states
from pyrsyncbackup_collector.catalog.database import Database
from pyrsyncbackup_collector.catalog.rest import CONTENT_SHIFT, METADATA
from pyrsyncbackup_collector.catalog.scope import Place
from pyrsyncbackup_collector.catalog.states import STATE, Moment, Row, State, columns
from pyrsyncbackup_collector.entry import order

_ROWS: Final = f"""
    SELECT place.id, v.from_seq, v.until_seq, {columns("v")} FROM temp.places AS place
    CROSS JOIN versions AS v ON v.module_id = place.id AND v.path = ? ORDER BY place.id, v.from_seq
"""  # noqa: S608 - constants
_KEPT: Final = """
    SELECT place.id, sequence, time, name FROM temp.places AS place
    CROSS JOIN snapshots ON module_id = place.id ORDER BY place.id, sequence
"""
# What one module has now, to hold the others against: most rows of most modules are equal to it, and go no further.
_REFERENCE: Final = """
    CREATE TEMP TABLE IF NOT EXISTS reference (
        path BLOB PRIMARY KEY, type TEXT NOT NULL, sha256 BLOB, content INTEGER NOT NULL,
        mode INTEGER NOT NULL, metadata INTEGER NOT NULL
    ) WITHOUT ROWID
"""
_REFER: Final = f"""
    INSERT INTO temp.reference SELECT path, type, sha256, rest >> {CONTENT_SHIFT}, mode, rest & {METADATA}
    FROM versions WHERE module_id = ? AND {scope.CURRENT.replace("place.newest", "?2")}
"""  # noqa: S608 - constants
_UNEQUAL: Final = f"""
    SELECT place.id, v.path, reference.path IS NOT NULL, {columns("v")} FROM temp.places AS place
    CROSS JOIN versions AS v ON v.module_id = place.id AND {scope.CURRENT}
    LEFT JOIN temp.reference ON reference.path = v.path
    WHERE v.sha256 IS NOT reference.sha256 OR v.type IS NOT reference.type
       OR v.rest >> {CONTENT_SHIFT} IS NOT reference.content
       OR (? AND (v.mode IS NOT reference.mode OR v.rest & {METADATA} IS NOT reference.metadata))
"""  # noqa: S608 - constants
_NAMES: Final = f"""
    SELECT path FROM versions WHERE module_id = ? AND {scope.CURRENT.replace("place.newest", "?2")}
"""  # noqa: S608 - constants
_CURRENT: Final = f"""
    SELECT path, {STATE} FROM versions WHERE module_id = ? AND {scope.CURRENT.replace("place.newest", "?2")}
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Member:
    """A host in a group: `since` when it has what the group shares (None: it never had the path)."""

    host: str
    since: Moment | None
    state: State | None


@dataclass(frozen=True, slots=True)
class Group:
    """Hosts that share a version; `state` is that of the first one, None: they do not have the path.

    `differs_since`: for each member when it began to differ from the majority, seconds since 1970: the later of when it
    came to its version and when half of the majority had come to theirs. Empty for the majority.
    """

    state: State | None
    members: tuple[Member, ...]
    differs_since: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class PathComparison:
    """The groups of one path, the majority first; `hosts` were compared."""

    path: bytes
    hosts: int
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """What some hosts have at a path; `state` None: nothing."""

    state: State | None
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnequalPath:
    """A path that is not the same everywhere, the variant that most have first."""

    path: bytes
    variants: tuple[Variant, ...]

    @property
    def outliers(self) -> int:
        """Hosts that do not have what most have."""
        return sum(len(variant.hosts) for variant in self.variants[1:])


@dataclass(frozen=True, slots=True)
class ModuleComparison:
    """The paths that are not the same on all of `hosts`, those with the fewest outliers first; `more` were left out."""

    hosts: tuple[str, ...]
    paths: tuple[UnequalPath, ...]
    more: int


Key = tuple[object, ...] | None


def _key(state: State | None, strict: bool) -> Key:
    if state is None:
        return None
    return (*state.content, *state.access) if strict else state.content


class Comparing:
    """The part of the catalog that compares hosts."""

    _database: Database

    def compare_path(
        self, module: str, path: bytes, host: str | None = None, *, strict: bool = False
    ) -> PathComparison:
        """Which hosts share which version of one path, and since when."""
        with self._database.reading() as raw:
            chosen = scope.places(raw, host, module)
            scope.lay_out(raw, chosen)
            rows: dict[int, list[Row]] = defaultdict(list)
            for place, begin, end, *state in raw.execute(_ROWS, (path,)):
                rows[place].append(Row(begin, end, State(*state)))
            kept: dict[int, list[Moment]] = defaultdict(list)
            for place, *moment in raw.execute(_KEPT):
                kept[place].append(Moment(*moment))
        members = [_member(place, rows[place.id], kept[place.id], strict) for place in chosen]
        return PathComparison(path, len(members), tuple(_groups(members, strict)))

    def compare_module(
        self,
        module: str,
        host: str | None = None,
        *,
        below: bytes = b"",
        strict: bool = False,
        limit: int | None = None,
    ) -> ModuleComparison:
        """The paths of a module that are not the same on all hosts, `limit` of them. Reads all its paths.

        With `below` only this path and what is below it.
        """
        with self._database.reading() as raw:
            chosen = scope.places(raw, host, module)
            found = _unequal_paths(raw, chosen, strict) if len(chosen) > 1 else []
        if below:
            found = [one for one in found if one.path == below or one.path.startswith(below + b"/")]
        found.sort(key=lambda one: (one.outliers, order(one.path)))
        shown = found if limit is None else found[:limit]
        return ModuleComparison(tuple(place.host for place in chosen), tuple(shown), len(found) - len(shown))


def _unequal_paths(raw: sqlite3.Connection, chosen: Sequence[Place], strict: bool) -> list[UnequalPath]:
    scope.lay_out(raw, chosen)
    raw.execute(_REFERENCE)
    raw.execute("DELETE FROM temp.reference")
    first = chosen[0]
    raw.execute(_REFER, (first.id, first.newest))
    reference: dict[bytes, State] = {
        path: State(*state) for path, *state in raw.execute(_CURRENT, (first.id, first.newest))
    }
    # For each path, what the places have that have not what the first one has; None: they have no such path.
    others: dict[bytes, dict[int, State | None]] = defaultdict(dict)
    beyond: Counter[int] = Counter()
    for place, path, known, *state in raw.execute(_UNEQUAL, (strict,)):
        others[path][place] = State._make(state)
        beyond[place] += not known
    for one in chosen:
        if _entries(raw, one) - beyond[one.id] != len(reference):
            there = {path for (path,) in raw.execute(_NAMES, (one.id, one.newest))}
            for path in reference.keys() - there:
                others[path][one.id] = None
    names = {place.id: place.host for place in chosen}
    return [_unequal(path, reference.get(path), different, names, strict) for path, different in others.items()]


def _entries(raw: sqlite3.Connection, place: Place) -> int:
    query = "SELECT entries FROM snapshots WHERE module_id = ? AND sequence = ?"
    return int(raw.execute(query, (place.id, place.newest)).fetchone()[0])


def _unequal(
    path: bytes,
    reference: State | None,
    different: Mapping[int, State | None],
    names: Mapping[int, str],
    strict: bool,
) -> UnequalPath:
    # The first one is never among those that differ from it, and none of these is like it.
    alike = _key(reference, strict)
    hosts: dict[Key, list[str]] = defaultdict(list)
    hosts[alike] = [host for place, host in names.items() if place not in different]
    first: dict[Key, State | None] = {alike: reference}
    for place in filter(different.__contains__, names):
        state = different[place]
        key = _key(state, strict)
        hosts[key].append(names[place])
        first.setdefault(key, state)
    ranked = sorted(hosts, key=lambda key: (-len(hosts[key]), key is None, hosts[key]))
    return UnequalPath(path, tuple(Variant(first[key], tuple(hosts[key])) for key in ranked))


def _member(place: Place, rows: Iterable[Row], kept: Sequence[Moment], strict: bool) -> Member:
    found = states.spans(rows, kept, lambda before, after: _key(before, strict) == _key(after, strict))
    if not found:
        return Member(place.host, None, None)
    last = found[-1]
    if last.end < len(kept):
        return Member(place.host, kept[last.end], None)
    return Member(place.host, kept[last.begin], last.state)


def _groups(members: Sequence[Member], strict: bool) -> Iterable[Group]:
    alike: dict[Key, list[Member]] = defaultdict(list)
    for member in members:
        alike[_key(member.state, strict)].append(member)
    sizes = Counter({key: len(group) for key, group in alike.items()})
    ranked = sorted(alike, key=lambda key: (-sizes[key], key is None, _typical(alike[key]), alike[key][0].host))
    for place, key in enumerate(ranked):
        group = alike[key]
        if not place:
            yield Group(group[0].state, tuple(group))
            majority = _typical(group)
        else:
            yield Group(group[0].state, tuple(group), tuple(max(_since(member), majority) for member in group))


def _since(member: Member) -> float:
    return member.since.time if member.since else 0.0


def _typical(group: Iterable[Member]) -> float:
    """When half of a group had come to what it shares."""
    return median_low(_since(member) for member in group)
