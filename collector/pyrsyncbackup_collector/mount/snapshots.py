"""Which hosts, modules and snapshots there are, and the entries of those that somebody looks into.

A snapshot that is looked into is kept from being pruned as long as its entries are held.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import ExitStack
from typing import Final

from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.errors import BackupError, NotFound
from pyrsyncbackup_collector.mount.index import Index
from pyrsyncbackup_collector.store.snapshot import Recorded, Snapshot
from pyrsyncbackup_collector.store.store import Store

# What there is in a directory of hosts, modules or snapshots is looked up again after so many seconds.
FRESH: Final = 5.0
# Snapshots that are held at a time, and their entries in all: some 25 bytes each.
MOST_OPEN: Final = 64
MOST_ENTRIES: Final = 20_000_000


class Opened:
    """A snapshot with its entries; `number` tells it from others that were opened."""

    def __init__(self, store: Store, recorded: Recorded, number: int) -> None:
        self.number = number
        self._stack = ExitStack()
        with ExitStack() as stack:
            self.snapshot: Snapshot = store.snapshot(recorded)
            stack.enter_context(store.reading(self.snapshot))
            self.index = Index(store.entries(self.snapshot))
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Let the snapshot go."""
        self._stack.close()


class Snapshots:
    """What a store has. Any number of threads may ask."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._opened: OrderedDict[Recorded, Opened] = OrderedDict()
        self._numbers: dict[Recorded, int] = {}
        self._modules: tuple[float, dict[str, list[str]]] = (float("-inf"), {})
        self._recorded: dict[tuple[str, str], tuple[float, dict[str, Recorded]]] = {}
        self._lock = threading.RLock()

    def close(self) -> None:
        """Let all snapshots go."""
        with self._lock:
            while self._opened:
                self._opened.popitem()[1].close()

    def modules(self) -> dict[str, list[str]]:
        """The modules of each host that has snapshots."""
        with self._lock:
            looked, found = self._modules
            now = self._clock.monotonic()
            if now >= looked + FRESH:
                found = {}
                for host, module in self._store.modules():
                    found.setdefault(host, []).append(module)
                self._modules = now, found
            return found

    def of_module(self, host: str, module: str) -> dict[str, Recorded]:
        """The snapshots of a module by name, oldest first. Raises NotFound for a module that is not there."""
        if module not in self.modules().get(host, ()):
            raise NotFound(f"there is no module {host}/{module} in the store")
        with self._lock:
            looked, found = self._recorded.get((host, module), (float("-inf"), {}))
            now = self._clock.monotonic()
            if now >= looked + FRESH:
                found = {one.name: one for one in self._store.recorded(host, module)}
                self._recorded[host, module] = now, found
            return found

    def open(self, host: str, module: str, name: str) -> Opened:
        """The snapshot of that name with its entries. Raises NotFound, StoreDamaged."""
        recorded = self.of_module(host, module).get(name)
        if recorded is None:
            raise NotFound(f"there is no snapshot {host}/{module}@{name}")
        with self._lock:
            if found := self._opened.get(recorded):
                self._opened.move_to_end(recorded)
                return found
            number = self._numbers.setdefault(recorded, len(self._numbers) + 1)
            try:
                opened = Opened(self._store, recorded, number)
            except BackupError:
                # Pruned since it was listed is no damage.
                self._recorded.pop((host, module), None)
                if name not in self.of_module(host, module):
                    raise NotFound(f"there is no snapshot {host}/{module}@{name} any more") from None
                raise
            self._opened[recorded] = opened
            self._make_room()
            return opened

    def _make_room(self) -> None:
        held = sum(len(opened.index) for opened in self._opened.values())
        while len(self._opened) > 1 and (len(self._opened) > MOST_OPEN or held > MOST_ENTRIES):
            _, oldest = self._opened.popitem(last=False)
            held -= len(oldest.index)
            oldest.close()
