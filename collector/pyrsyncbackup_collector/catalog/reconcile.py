"""Holding catalog and store together: the disk is the truth, the catalog follows or is refused."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, Protocol

from pyrsyncbackup_collector.catalog.database import REBUILD_HINT, Database
from pyrsyncbackup_collector.catalog.garbage import Garbage
from pyrsyncbackup_collector.catalog.ledger import add_snapshot, module_row
from pyrsyncbackup_collector.catalog.pruning import Pruning
from pyrsyncbackup_collector.catalog.unsound import UnsoundTables
from pyrsyncbackup_collector.entry import Entry, order
from pyrsyncbackup_collector.errors import CatalogMismatch, NotFound, StoreDamaged
from pyrsyncbackup_collector.store.chunks import ChunkList
from pyrsyncbackup_collector.store.log import ModuleLog
from pyrsyncbackup_collector.store.lost import NO_FILE, NO_LINE, NO_MODULE, OTHER, Lost
from pyrsyncbackup_collector.store.snapshot import Change, Facts, Recorded, Snapshot, damaged

# A killed collector leaves at most one snapshot per module that the catalog lacks: pulls of a module never overlap.
# A catalog that lacks more is an old copy, and what it says about objects may be long past.
MAX_BEHIND = 1

_LISTED: Final = "SELECT 1 FROM lists WHERE content = ? AND list = ?"


class ObjectPlaces(Protocol):
    """What is known of objects by their files."""

    def stored_size(self, sha256: str) -> int:
        """Bytes of the file of that object; 0 where there is none; raises StoreError."""
        ...

    def chunks_of(self, entry: Entry) -> ChunkList:
        """The chunks of an entry whose content lies in chunks; raises StoreDamaged."""
        ...


class StoreView(Protocol):
    """What the catalog reads of a store."""

    @property
    def id(self) -> str:
        """The store's id."""
        ...

    @property
    def objects(self) -> ObjectPlaces:
        """Its objects."""
        ...

    def removals(self) -> str:
        """Its mark, that changes whenever contents go; "" while nothing ever went."""
        ...

    def modules(self) -> Iterable[tuple[str, str]]:
        """All (host, module)."""
        ...

    def recorded(self, host: str, module: str) -> list[Recorded]:
        """What log and directory say of the module's snapshots, oldest first, without reading manifests."""
        ...

    def committed(self, host: str, module: str) -> Mapping[int, str]:
        """Digests of the manifests that the module's log names, but for pruned ones, whether they are there or not."""
        ...

    def pruned(self, host: str, module: str) -> Mapping[int, str]:
        """The digests of the manifests that the module's log says were pruned, by sequence number."""
        ...

    def log(self, host: str, module: str) -> ModuleLog:
        """The log of a module."""
        ...

    def snapshot(self, recorded: Recorded) -> Snapshot:
        """Read a manifest's header; raises StoreDamaged."""
        ...

    def facts(self, snapshot: Snapshot) -> Facts:
        """What its header says of the module; raises StoreDamaged."""
        ...

    def entries(self, snapshot: Snapshot, *, verify: bool = False) -> Iterator[Entry]:
        """All entries in order, with `verify` of files that are what the log names; raises StoreDamaged."""
        ...

    def changes(self, snapshot: Snapshot, *, verify: bool = False) -> Iterator[Change]:
        """The differences of a delta to its base, in order, none of them without effect; raises StoreDamaged."""
        ...


@dataclass(slots=True)
class Difference:
    """What a crash left between store and catalog, and what the store lost.

    `lacking` is not in the catalog, each with the one before it; `pruned` still is, although it was pruned in the
    store: sequence numbers by (host, module). `lost` is in the catalog alone, and no prune explains it.
    """

    lacking: list[tuple[Recorded | None, Recorded]] = field(default_factory=list)
    pruned: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)

    def lost_of(self, host: str, module: str) -> frozenset[int]:
        """The sequence numbers of what is lost of a module."""
        return frozenset(one.sequence for one in self.lost if (one.host, one.module) == (host, module))


class Reconciling(Pruning, Garbage, UnsoundTables):
    """The part of the catalog that compares itself with a store."""

    _database: Database

    def check_against(self, store: StoreView) -> list[Snapshot]:
        """Compare with the store by names and digests of manifests; add what a crash left out, and return it.

        What was pruned there is taken out here too. What the store lost stays, and is recorded as `unsound`: so all
        that it named is kept. For the start, under the store's lock; reads directories and logs, and manifests only of
        what is added. Raises CatalogMismatch if nothing of the catalog is in the store, or if it lacks more than a
        crash can explain.
        """
        found = self.difference(store)
        self.record_lost(found.lost)
        for (host, module), sequences in found.pruned.items():
            self.drop_snapshots(host, module, sequences)
        return [self._add(store, before, recorded) for before, recorded in found.lacking]

    def lacking(self, store: StoreView) -> list[tuple[Recorded | None, Recorded]]:
        """What `check_against` would add, each with the one before it; changes nothing, raises what it raises.

        Also CatalogMismatch where the store has another snapshot of the same number: nobody knows what that names.
        """
        found = self.difference(store)
        for one in found.lost:
            if one.why == OTHER:
                raise _mismatch(f"snapshot {one.name} of {one.host}/{one.module} is another one in the store")
        return found.lacking

    def difference(self, store: StoreView) -> Difference:
        """What `check_against` would put right; changes nothing, raises what it raises."""
        self._check_removals(store)
        found = Difference()
        known = self._manifests()
        there = list(store.modules())
        if known and not there:
            host, module = min(known)
            more = f" and {len(known) - 1} more modules" if len(known) > 1 else ""
            raise _mismatch(f"the catalog has snapshots of {host}/{module}{more}, the store has none at all")
        for host, module in there:
            _compare(store, host, module, known.pop((host, module), {}), found)
        for (host, module), rows in sorted(known.items()):
            found.lost += [Lost(host, module, sequence, name, NO_MODULE) for sequence, (name, _) in rows.items()]
        return found

    def difference_of(self, store: StoreView, host: str, module: str) -> Difference:
        """The same of one module."""
        found = Difference()
        _compare(store, host, module, self._manifests(host, module).get((host, module), {}), found)
        return found

    def catch_up(self, store: StoreView, host: str, module: str) -> None:
        """Add what a commit that did not reach the catalog left of one module; raises as `check_against`.

        For the begin of a pull of the module: a catalog that was locked or full must not stay behind until a restart.
        """
        found = Difference()
        known = self._manifests(host, module).get((host, module), {})
        _compare(store, host, module, known, found)
        for before, recorded in found.lacking:
            self._add(store, before, recorded)

    def _check_removals(self, store: StoreView) -> None:
        """Who removes contents tells the catalog first, then the store; a mark that changes is looked at again."""
        mark, before = store.removals(), None
        while mark and mark != before and mark not in self.removals():
            mark, before = store.removals(), mark
        if mark and mark == before:
            raise _mismatch("one of them is an older copy, contents were removed since")

    def _manifests(
        self, host: str | None = None, module: str | None = None
    ) -> dict[tuple[str, str], dict[int, tuple[str, str]]]:
        found: dict[tuple[str, str], dict[int, tuple[str, str]]] = {}
        with self._database.reading() as raw:
            for host_name, module_name, sequence, name, digest in raw.execute(
                "SELECT hosts.name, modules.name, sequence, snapshots.name, digest FROM snapshots "
                "JOIN modules ON modules.id = module_id JOIN hosts ON hosts.id = host_id "
                "WHERE :host IS NULL OR (hosts.name = :host AND modules.name = :module)",
                {"host": host, "module": module},
            ):
                found.setdefault((host_name, module_name), {})[sequence] = (name, digest.hex())
        return found

    def _add(self, store: StoreView, before: Recorded | None, recorded: Recorded) -> Snapshot:
        """Add a snapshot; whole where the one before is unreadable or lost, its name alone where itself is unreadable.

        The one before is lost if the catalog knows a later one.
        """
        name = (recorded.host, recorded.module)
        newest = max(self._manifests(*name).get(name, {}), default=0)
        follows = newest == (before.sequence if before else 0)
        with contextlib.suppress(StoreDamaged, NotFound):
            snapshot = store.snapshot(recorded)
            if follows:
                with contextlib.suppress(StoreDamaged, NotFound):
                    older = store.snapshot(before) if before else None
                    self._insert(store, newest, snapshot, changes_between(store, older, snapshot))
                    return snapshot
            self._insert(store, newest, snapshot, differences((), store.entries(snapshot, verify=True)), whole=True)
            return snapshot
        unknown = damaged(recorded)
        with self._database.writing() as raw:
            row = module_row(raw, unknown.host, unknown.module)
            add_snapshot(raw, row, unknown, (), previous=newest, share=False)
        return unknown

    def _insert(
        self, store: StoreView, newest: int, snapshot: Snapshot, changes: Iterable[Change], whole: bool = False
    ) -> None:
        with self._database.writing() as raw:
            row = module_row(raw, snapshot.host, snapshot.module)
            share = store.facts(snapshot).share
            seen = _with_known_chunks(raw, snapshot, changes)
            add_snapshot(raw, row, snapshot, seen, previous=newest, share=share, whole=whole)


def changes_between(store: StoreView, older: Snapshot | None, newer: Snapshot) -> Iterator[Change]:
    """What makes `newer` of `older`, the snapshot before it, from files that are verified.

    Where both stand on one full manifest only their differences to it are read, unless something is again as it was
    there. In no particular order.
    """
    if older is None:
        return (Change(entry.path, entry) for entry in store.entries(newer, verify=True))
    if newer.base is None or newer.base != (older.base or older.name):
        return differences(store.entries(older), store.entries(newer, verify=True))
    below = store.changes(older) if older.base else iter(())
    return _between_deltas(below, store.changes(newer, verify=True), lambda: store.entries(newer))


def _between_deltas(
    below: Iterable[Change], above: Iterable[Change], entries: Callable[[], Iterator[Entry]]
) -> Iterator[Change]:
    """What leads from one delta to another of the same base; `entries` are those of the second."""
    source = iter(below)
    old = next(source, None)
    undone: set[bytes] = set()  # different from the base before, and no more
    for new in above:
        key = order(new.path)
        while old is not None and order(old.path) < key:
            undone.add(old.path)
            old = next(source, None)
        if old is not None and old.path == new.path:
            if old.entry != new.entry:
                yield new
            old = next(source, None)
        else:
            yield new
    if old is not None:
        undone.update(change.path for change in chain((old,), source))
    if undone:
        for entry in entries():
            if entry.path in undone:
                undone.remove(entry.path)
                yield Change(entry.path, entry)
        yield from (Change(path, None) for path in undone)


def _with_known_chunks(raw: sqlite3.Connection, snapshot: Snapshot, changes: Iterable[Change]) -> Iterator[Change]:
    """`changes`; CatalogMismatch where one has a content in chunks that are not known, and would be garbage here.

    A pull records its chunks, durably, before its snapshot can be there: it is no crash that left them out.
    """
    for change in changes:
        entry = change.entry
        if entry is not None and entry.chunks:
            listed = (bytes.fromhex(entry.sha256), bytes.fromhex(entry.chunks))
            if raw.execute(_LISTED, listed).fetchone() is None:
                name = f"{snapshot.name} of {snapshot.host}/{snapshot.module}"
                raise _mismatch(f"it is an old one, it does not know the chunks of what {name} holds")
        yield change


def differences(older: Iterable[Entry], newer: Iterable[Entry]) -> Iterator[Change]:
    """What makes `newer` of `older`, in order; both are in order and read once."""
    source = iter(older)
    old = next(source, None)
    for new in newer:
        key = order(new.path)
        while old is not None and order(old.path) < key:
            yield Change(old.path, None)
            old = next(source, None)
        if old is not None and old.path == new.path:
            if old != new:
                yield Change(new.path, new)
            old = next(source, None)
        else:
            yield Change(new.path, new)
    while old is not None:
        yield Change(old.path, None)
        old = next(source, None)


def _compare(store: StoreView, host: str, module: str, known: dict[int, tuple[str, str]], found: Difference) -> None:
    """Add to `found` how the catalog, which knows `known`, differs of one module."""
    missing: list[tuple[Recorded | None, Recorded]] = []
    before: Recorded | None = None
    for one in store.recorded(host, module):
        row = known.pop(one.sequence, None)
        if row is None:
            missing.append((before, one))
        elif row != (one.name, one.digest):
            found.lost.append(Lost(host, module, one.sequence, row[0], OTHER))
        elif missing:
            raise _mismatch(f"the catalog lacks snapshot {missing[0][1].name} of {host}/{module}, and has later ones")
        before = one
    pruned = store.pruned(host, module) if known else {}
    going = [sequence for sequence, (_, digest) in known.items() if pruned.get(sequence) == digest]
    if going:
        found.pruned[host, module] = sorted(going)
    logged = store.committed(host, module) if len(known) > len(going) else {}
    for sequence, (name, digest) in known.items():
        if sequence not in going:
            why = NO_FILE if logged.get(sequence) == digest else NO_LINE
            found.lost.append(Lost(host, module, sequence, name, why))
    if len(missing) > MAX_BEHIND:
        raise _mismatch(f"the catalog lacks the last {len(missing)} snapshots of {host}/{module}: it is an old one")
    found.lacking += missing


def _mismatch(cause: str) -> CatalogMismatch:
    return CatalogMismatch(f"catalog and store do not belong together: {cause}", REBUILD_HINT)
