"""What changed from one kept snapshot to a later one: in one module, and in the fleet since some time."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from pyrsyncbackup_collector.catalog import scope, states
from pyrsyncbackup_collector.catalog.database import Database
from pyrsyncbackup_collector.catalog.states import Moment
from pyrsyncbackup_collector.entry import order
from pyrsyncbackup_collector.store.difference import Kind

# Each row of temp.windows is a pair of snapshots of a module, with nothing kept between them, or as asked for.
_WINDOWS: Final = """
    CREATE TEMP TABLE IF NOT EXISTS windows (
        module_id INTEGER NOT NULL, previous INTEGER NOT NULL, sequence INTEGER NOT NULL
    )
"""
# What the later one has and the earlier one had not, or not so; without a kind it is the same again. The first snapshot
# of a module is no change, so what is there since then (1) is left out, as it is of the index.
_BEGUN: Final = f"""
    SELECT window.rowid, new.path, {states.CHANGE} AS kind
    FROM temp.windows AS window CROSS JOIN versions AS new INDEXED BY versions_begun
        ON new.module_id = window.module_id AND new.from_seq > window.previous AND new.from_seq <= window.sequence
       AND new.from_seq > 1 AND (new.until_seq IS NULL OR new.until_seq > window.sequence)
    LEFT JOIN versions AS old
        ON old.module_id = window.module_id AND old.path = new.path AND old.from_seq <= window.previous
       AND (old.until_seq IS NULL OR old.until_seq > window.previous)
"""  # noqa: S608 - constants
# What the earlier one has and the later one not, or not so: it is gone unless it is among those above. The index alone
# answers it; to look for what came after each would take as long as all the rest.
_ENDED: Final = """
    SELECT window.rowid, old.path FROM temp.windows AS window CROSS JOIN versions AS old INDEXED BY versions_ended
        ON old.module_id = window.module_id AND old.until_seq > window.previous AND old.until_seq <= window.sequence
       AND old.from_seq <= window.previous
"""
_RECENT: Final = """
    SELECT one.module_id, hosts.name, modules.name,
           (SELECT max(sequence) FROM snapshots AS before
            WHERE before.module_id = one.module_id AND before.sequence < one.sequence),
           one.sequence, one.time, one.name, one.entries
    FROM snapshots AS one JOIN modules ON modules.id = one.module_id JOIN hosts ON hosts.id = host_id
    WHERE one.time >= ? ORDER BY one.time DESC
"""
# Changes read before the rest is left out: some 100 MB, and more than anybody reads.
MOST: Final = 200_000
# Seconds between two changes of a path from which on they are told apart: a rollout in stages goes on within a day.
APART: Final = 86_400.0
# Windows looked at together, newest first, until there are enough changes.
_STEP: Final = 2_000


class PathChange(NamedTuple):
    """A path, and how it changed."""

    path: bytes
    kind: Kind


@dataclass(frozen=True, slots=True)
class SnapshotChanges:
    """What a snapshot brought, by path, against the kept one before it; `first`: there is none, all of it is new.

    `entries` counts all that the snapshot has.
    """

    host: str
    module: str
    snapshot: Moment
    first: bool
    entries: int
    changes: tuple[PathChange, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """Snapshots with changes, newest first; `cut`: there were more than `MOST`, and the older ones were left out."""

    snapshots: tuple[SnapshotChanges, ...]
    cut: bool


@dataclass(frozen=True, slots=True)
class ChangeGroup:
    """The same changes of one module on several hosts; `first`: their first snapshots, with no changes named.

    `begin` and `end` are the times of the first and last of those snapshots.
    """

    module: str
    hosts: tuple[str, ...]
    changes: tuple[PathChange, ...]
    first: bool
    begin: float
    end: float


class Changing:
    """The part of the catalog that knows what changed."""

    _database: Database

    def changes_between(self, host: str, module: str, before: int, after: int) -> list[PathChange]:
        """How the paths of two kept snapshots of one module differ, in the order of a manifest.

        Any of the two may be the later one.
        """
        with self._database.reading() as raw:
            chosen = scope.places(raw, host, module)
            if not chosen or before == after:
                return []
            window = (chosen[0].id, min(before, after), max(before, after))
            found = _read(raw, [window]).get(1, [])
        if after < before:
            found = [PathChange(change.path, _REVERSE.get(change.kind, change.kind)) for change in found]
        return sorted(found, key=lambda change: order(change.path))

    def changes_since(
        self, since: float, host: str | None = None, module: str | None = None, *, most: int = MOST
    ) -> Changes:
        """What the snapshots that were taken at or after `since` (seconds since 1970) changed.

        Only snapshots that changed something, or are the first of their module. Names may have wildcards.
        """
        found: list[SnapshotChanges] = []
        count = 0
        with self._database.reading() as raw:
            recent = [row for row in raw.execute(_RECENT, (since,)) if scope.matches(row[1], row[2], host, module)]
            for start in range(0, len(recent), _STEP):
                batch = recent[start : start + _STEP]
                # One without a snapshot before it makes a window that holds nothing, so that numbers stay those here.
                changed = _read(raw, [(row[0], row[3] or row[4], row[4]) for row in batch])
                count += sum(map(len, changed.values()))
                for number, (_, host_name, module_name, previous, *moment, entries) in enumerate(batch, 1):
                    if number in changed or previous is None:
                        paths = tuple(sorted(changed.get(number, ())))
                        first = previous is None
                        found.append(SnapshotChanges(host_name, module_name, Moment(*moment), first, entries, paths))
                if count >= most:
                    return Changes(tuple(found), start + _STEP < len(recent))
        return Changes(tuple(found), False)


_REVERSE: Final[dict[Kind, Kind]] = {"added": "removed", "removed": "added"}


def _read(raw: sqlite3.Connection, windows: Iterable[tuple[int, int, int]]) -> dict[int, list[PathChange]]:
    """The changes of windows (module, previous, sequence), by the window's place among them, from 1."""
    raw.execute(_WINDOWS)
    raw.execute("DELETE FROM temp.windows")
    raw.executemany("INSERT INTO temp.windows VALUES (?, ?, ?)", windows)
    changed: dict[int, list[PathChange]] = defaultdict(list)
    begun: dict[int, set[bytes]] = defaultdict(set)
    for number, path, kind in raw.execute(_BEGUN):
        begun[number].add(path)
        if kind is not None:
            changed[number].append(PathChange(path, kind))
    for number, path in raw.execute(_ENDED):
        if path not in begun[number]:
            changed[number].append(PathChange(path, "removed"))
    return changed


_Key = tuple[str, Kind | None, bytes]


@dataclass(slots=True)
class _Event:
    """One change of one path on some hosts, with less than APART from each to the next; `times` in their order."""

    key: _Key
    times: list[float]
    hosts: dict[str, None]

    @property
    def begin(self) -> float:
        return self.times[0]

    @property
    def end(self) -> float:
        return self.times[-1]


def grouped(snapshots: Iterable[SnapshotChanges]) -> list[ChangeGroup]:
    """The changes of many hosts, newest first: paths together that changed alike on the same hosts at about one time.

    What one host alone has is told snapshot by snapshot.
    """
    latest: dict[_Key, _Event] = {}
    events: list[_Event] = []
    for one in sorted(snapshots, key=lambda one: one.snapshot.time):
        keys: list[_Key] = [(one.module, change.kind, change.path) for change in one.changes]
        if one.first:
            keys = [(one.module, None, b"")]
        time = one.snapshot.time
        for key in keys:
            event = latest.get(key)
            if event is None or time - event.end > APART:
                event = latest[key] = _Event(key, [], {})
                events.append(event)
            event.times.append(time)
            event.hosts[one.host] = None
    together: dict[tuple[str, bool, tuple[str, ...], float], list[list[_Event]]] = defaultdict(list)
    for event in (part for whole in events for part in _parts(whole)):
        moment = event.begin if len(event.hosts) == 1 else 0.0
        same = together[event.key[0], event.key[1] is None, tuple(sorted(event.hosts)), moment]
        if not same or event.begin - same[-1][-1].end > APART:
            same.append([])
        same[-1].append(event)
    groups = [_group(names, each) for (_, _, names, _), same in together.items() for each in same]
    return sorted(groups, key=lambda group: (-group.end, group.module, group.hosts))


def _parts(event: _Event) -> list[_Event]:
    return [_Event(event.key, [time], event.hosts) for time in event.times] if len(event.hosts) == 1 else [event]


def _group(hosts: tuple[str, ...], events: list[_Event]) -> ChangeGroup:
    module, kind, _ = events[0].key
    paths = {PathChange(path, kind) for _, kind, path in (event.key for event in events) if kind}
    changes = sorted(paths, key=lambda one: order(one.path))
    begin, end = min(event.begin for event in events), max(event.end for event in events)
    return ChangeGroup(module, hosts, tuple(changes), kind is None, begin, end)
