"""History of one path, who has the same content, and names over all hosts and time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Final

from pyrsyncbackup_collector.catalog import scope, states
from pyrsyncbackup_collector.catalog.database import Database
from pyrsyncbackup_collector.catalog.scope import Place
from pyrsyncbackup_collector.catalog.states import STATE, Moment, Row, Span, State, columns
from pyrsyncbackup_collector.store.difference import Kind

_PATH_ROWS: Final = (
    f"SELECT from_seq, until_seq, {STATE} FROM versions "  # noqa: S608 - constants
    "WHERE module_id = ? AND path = ? ORDER BY from_seq"
)
_HOLDERS: Final = f"""
    SELECT hosts.name, modules.name, {columns("v")} FROM temp.places AS place
    CROSS JOIN versions AS v ON v.module_id = place.id AND v.path = ? AND {scope.CURRENT}
    JOIN modules ON modules.id = place.id JOIN hosts ON hosts.id = host_id ORDER BY 1, 2
"""  # noqa: S608 - constants
# No order: that of the table, which is by module and path.
_NAMED: Final = """
    SELECT place.id, path, from_seq, until_seq, type FROM temp.places AS place
    CROSS JOIN versions AS v ON v.module_id = place.id WHERE instr(path, ?)
"""
# Paths whose match is remembered: fleets have the same ones again and again.
_REMEMBERED: Final = 100_000


@dataclass(frozen=True, slots=True)
class PathVersion:
    """A path of a module from snapshot `first` to `last`; `end` is the first one without it, None: it is so now.

    `kind` is how it differs from the version before, "added" for the first and after a time without it; `snapshots`
    counts those kept that have it.
    """

    first: Moment
    last: Moment
    end: Moment | None
    snapshots: int
    kind: Kind
    state: State

    @property
    def sha256(self) -> str:
        """The digest of a file's content in hexadecimal, or nothing."""
        return self.state.sha256.hex() if self.state.sha256 else ""


@dataclass(frozen=True, slots=True)
class Holder:
    """A module of a host that has a path now."""

    host: str
    module: str
    state: State


@dataclass(frozen=True, slots=True)
class Sighting:
    """A path in one module: the first and last kept snapshot with it; `end` is that after it, None: it is there now."""

    host: str
    module: str
    type: str
    first: Moment
    last: Moment
    end: Moment | None


@dataclass(frozen=True, slots=True)
class FoundPath:
    """A path that matches, and where it is or was."""

    path: bytes
    sightings: tuple[Sighting, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What `find` found: the first paths, and how many more there were, those of different modules apart."""

    paths: tuple[FoundPath, ...]
    more: int


class Finding:
    """The part of the catalog that knows what was where, and when."""

    _database: Database

    def stored(self, host: str | None = None, module: str | None = None) -> list[tuple[str, str]]:
        """The (host, module) with snapshots whose names match; they may have wildcards, None is any."""
        with self._database.reading() as raw:
            return [(place.host, place.module) for place in scope.places(raw, host, module)]

    def path_history(self, host: str, module: str, path: bytes) -> list[PathVersion]:
        """What a path was like, oldest first; empty for one that no kept snapshot has."""
        with self._database.reading() as raw:
            chosen = scope.places(raw, host, module)
            if not chosen:
                return []
            kept = scope.kept(raw, chosen[0].id)
            rows = [Row(row[0], row[1], State(*row[2:])) for row in raw.execute(_PATH_ROWS, (chosen[0].id, path))]
        return list(_versions(states.spans(rows, kept), kept))

    def holders(self, module: str, path: bytes) -> list[Holder]:
        """Every host that has this path in the module of that name now, by host, and in which state."""
        with self._database.reading() as raw:
            scope.lay_out(raw, scope.places(raw, module=module))
            return [Holder(row[0], row[1], State(*row[2:])) for row in raw.execute(_HOLDERS, (path,))]

    def find(
        self,
        pattern: str,
        *,
        host: str | None = None,
        module: str | None = None,
        now: bool = False,
        limit: int | None = None,
    ) -> Found:
        """Paths that match a glob (see `scope.path_pattern`), over all kept snapshots; with `now` in the newest only.

        Keeps `limit` different paths, in the order of hosts, and counts the rest: memory stays bounded. Reads every
        path of the modules that are asked. Raises UsageError.
        """
        matches = lru_cache(_REMEMBERED)(scope.path_pattern(pattern).match)
        found: dict[bytes, list[Sighting]] = {}
        more = 0
        with self._database.reading() as raw:
            chosen = {place.id: place for place in scope.places(raw, host, module)}
            scope.lay_out(raw, chosen.values())
            rows = raw.execute(_NAMED, (scope.longest_literal(pattern),))
            for number, of_module in groupby(rows, itemgetter(0)):
                kept = scope.kept(raw, number)
                sequences = [moment.sequence for moment in kept]
                for path, versions in groupby((row for row in of_module if matches(row[1])), itemgetter(1)):
                    seen = _seen(versions, sequences)
                    if seen is None or (now and seen[1] + 1 < len(kept)):
                        continue
                    if path in found or limit is None or len(found) < limit:
                        found.setdefault(path, []).append(_sighting(chosen[number], seen, kept))
                    else:
                        more += 1
        return Found(tuple(FoundPath(path, _sorted(found[path])) for path in sorted(found)), more)


def _sorted(sightings: list[Sighting]) -> tuple[Sighting, ...]:
    return tuple(sorted(sightings, key=lambda one: (one.host, one.module)))


def _versions(found: Iterable[Span], kept: list[Moment]) -> Iterator[PathVersion]:
    before: Span | None = None
    for span in found:
        neighbour = before.state if before and before.end == span.begin else None
        yield PathVersion(
            kept[span.begin],
            kept[span.end - 1],
            kept[span.end] if span.end < len(kept) else None,
            span.end - span.begin,
            states.change(neighbour, span.state) or "metadata",
            span.state,
        )
        before = span


def _seen(
    versions: Iterable[tuple[int, bytes, int, int | None, str]], sequences: Sequence[int]
) -> tuple[int, int, str] | None:
    """Where in the kept `sequences` the versions of one path, in order, are seen first and last, and its last type."""
    first = last = -1
    what = ""
    for _, _, begin, end, kind in versions:
        start = bisect_left(sequences, begin)
        until = len(sequences) if end is None else bisect_left(sequences, end)
        if start < until:
            first, last, what = start if first < 0 else first, until - 1, kind
    return (first, last, what) if what else None


def _sighting(place: Place, seen: tuple[int, int, str], kept: Sequence[Moment]) -> Sighting:
    first, last, what = seen
    end = kept[last + 1] if last + 1 < len(kept) else None
    return Sighting(place.host, place.module, what, kept[first], kept[last], end)
