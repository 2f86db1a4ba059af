"""Holding catalog and store together: the disk is the truth, the catalog follows or is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Protocol

from pyrsyncbackup_collector.catalog.database import REBUILD_HINT, Database
from pyrsyncbackup_collector.catalog.ledger import add_snapshot, module_row
from pyrsyncbackup_collector.entry import Entry, order
from pyrsyncbackup_collector.errors import CatalogMismatch
from pyrsyncbackup_collector.store.snapshot import Change, Facts, Recorded, Snapshot

# A killed collector leaves at most one snapshot per module that the catalog lacks: pulls of a module never overlap.
# A catalog that lacks more is an old copy, and what it says about objects may be long past.
MAX_BEHIND = 1


class ObjectPlaces(Protocol):
    """Where objects lie."""

    def place(self, sha256: str) -> Path:
        """The file of the object of that digest, or where it would be."""
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

    def modules(self) -> Iterable[tuple[str, str]]:
        """All (host, module)."""
        ...

    def recorded(self, host: str, module: str) -> list[Recorded]:
        """What log and directory say of the module's snapshots, oldest first, without reading manifests."""
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


class Reconciling:
    """The part of the catalog that compares itself with a store."""

    _database: Database

    def check_against(self, store: StoreView) -> list[Snapshot]:
        """Compare with the store by names and digests of manifests; add what a crash left out, and return it.

        For the start, under the store's lock; reads directories and logs, and manifests only of what is added. Raises
        CatalogMismatch if the catalog has what the store does not, or lacks more than a crash can explain.
        """
        return [self._add(store, before, recorded) for before, recorded in self.lacking(store)]

    def lacking(self, store: StoreView) -> list[tuple[Recorded | None, Recorded]]:
        """What `check_against` would add, each with the one before it; changes nothing, raises what it raises."""
        missing = []
        known = self._manifests()
        for host, module in store.modules():
            missing += _missing(host, module, store.recorded(host, module), known.pop((host, module), {}))
        if known:
            host, module = min(known)
            raise _mismatch(f"the catalog has snapshots of {host}/{module}, the store has none")
        return missing

    def catch_up(self, store: StoreView, host: str, module: str) -> None:
        """Add what a commit that did not reach the catalog left of one module; raises as `check_against`.

        For the begin of a pull of the module: a catalog that was locked or full must not stay behind until a restart.
        """
        known = self._manifests(host, module).get((host, module), {})
        for before, recorded in _missing(host, module, store.recorded(host, module), known):
            self._add(store, before, recorded)

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
        snapshot = store.snapshot(recorded)
        changes = changes_between(store, store.snapshot(before) if before else None, snapshot)
        with self._database.writing() as raw:
            row = module_row(raw, snapshot.host, snapshot.module)
            share = store.facts(snapshot).share
            add_snapshot(raw, row, snapshot, changes, previous=before.sequence if before else 0, share=share)
        return snapshot


def changes_between(store: StoreView, older: Snapshot | None, newer: Snapshot) -> Iterator[Change]:
    """What makes `newer` of `older`, the snapshot before it, from files that are verified.

    Where both stand on one full manifest only their differences to it are read, unless something is again as it was
    there. In no particular order.
    """
    if older is None:
        return differences((), store.entries(newer, verify=True))
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


def _missing(
    host: str, module: str, recorded: list[Recorded], known: dict[int, tuple[str, str]]
) -> list[tuple[Recorded | None, Recorded]]:
    """What the catalog lacks of one module, each with the one before it."""
    missing: list[tuple[Recorded | None, Recorded]] = []
    before: Recorded | None = None
    for one in recorded:
        row = known.pop(one.sequence, None)
        if row is None:
            missing.append((before, one))
        elif row != (one.name, one.digest):
            raise _mismatch(f"snapshot {one.name} of {host}/{module} is another one in the store")
        elif missing:
            raise _mismatch(f"the catalog lacks snapshot {missing[0][1].name} of {host}/{module}, and has later ones")
        before = one
    if known:
        raise _mismatch(f"the catalog has snapshot {min(known.values())[0]} of {host}/{module}, the store does not")
    if len(missing) > MAX_BEHIND:
        raise _mismatch(f"the catalog lacks the last {len(missing)} snapshots of {host}/{module}: it is an old one")
    return missing


def _mismatch(cause: str) -> CatalogMismatch:
    return CatalogMismatch(f"catalog and store do not belong together: {cause}", REBUILD_HINT)
