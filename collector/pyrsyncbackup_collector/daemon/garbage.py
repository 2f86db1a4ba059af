"""The chore "gc": whether a collection may be, and one at the pace that the rota or a command asks for.

It may while the catalog has all snapshots that the store has: what it lacks would be taken for garbage. What it has
more, while a prune is under way or of snapshots that the store lost, keeps too much for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any, Final

from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.database import REBUILD_HINT
from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.daemon.chore import Work
from pyrsyncbackup_collector.daemon.retention import check_clock
from pyrsyncbackup_collector.errors import CatalogMismatch
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.store.garbage import Collector, Pace
from pyrsyncbackup_collector.store.prune import with_room
from pyrsyncbackup_collector.store.readers import still_read
from pyrsyncbackup_collector.store.store import Store

# A commit is in the store before it is in the catalog; one of a million paths takes some seconds. In seconds.
SETTLE: Final = 15.0
_LOOK_AGAIN: Final = 0.25
# The holder of the pins on what readers of pruned snapshots need.
_READERS: Final = "gc"
_BATCH: Final = 10_000


def collect(work: Work, options: Mapping[str, Any]) -> dict[str, Any]:
    """Remove what nothing names since the grace. Options: `grace` in seconds, `rate` in objects a second (0: any).

    Raises ClockDoubtful, CatalogMismatch where the catalog lacks a snapshot, StoreError, CatalogError, Cancelled.
    """
    store, catalog, space = work.parts.store, work.parts.catalog, work.config.space
    grace = float(options.get("grace", space.grace))
    check_clock(work.parts)
    agree(store, catalog, work.parts.clock, work.cancel)
    pace = Pace(float(options.get("rate", space.gc_rate)), work.parts.clock, _waiting(work.cancel))
    catalog.unpin(_READERS)
    try:
        for batch in _batches(still_read(store)):
            catalog.pin(_READERS, batch)
        # On a full disk the catalog gets room from the reserve for the rows that go.
        collected = with_room(store.reserve, Collector(store.objects, catalog, pace, grace, work.tell).run)
    finally:
        catalog.unpin(_READERS)
    store.reserve.fill()
    waiting = [each for each in catalog.unnamed(grace) if not each.due]
    return {
        **asdict(collected),
        "grace": grace,
        "waiting_objects": sum(each.objects for each in waiting),
        "waiting_bytes": sum(each.bytes for each in waiting),
    }


def agree(store: Store, catalog: Catalog, clock: Clock, cancel: Cancel) -> None:
    """Return when the catalog has all snapshots of the store; CatalogMismatch where that does not come by itself."""
    deadline = clock.monotonic() + SETTLE
    while True:
        try:
            lacking = catalog.lacking(store)
            if not lacking:
                return
            one = lacking[0][1]
            mismatch = CatalogMismatch(
                f"the catalog lacks snapshot {one.name} of {one.host}/{one.module}: nothing is removed",
                f"`pyrsyncbackup pull {one.host}/{one.module}` or a restart of the daemon adds it, else {REBUILD_HINT}",
            )
        except CatalogMismatch as error:
            mismatch = error
        if clock.monotonic() >= deadline:
            raise mismatch
        cancel.wait(_LOOK_AGAIN)


def _waiting(cancel: Cancel) -> Callable[[float], None]:
    return lambda seconds: cancel.wait(seconds) if seconds else cancel.check()


def _batches(digests: Iterable[str]) -> Iterator[set[str]]:
    iterator = iter(digests)
    while batch := set(islice(iterator, _BATCH)):
        yield batch
