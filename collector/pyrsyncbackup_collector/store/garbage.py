"""Garbage: contents that nothing names go, first their row, then their file; so do files that have no row.

Decides in which steps, how fast, and what is looked at. Whether something names a content is the catalog's to say
(`Books`), in the transaction that drops its row.

Why no pull loses a file by it, whatever the clock shows. A pull pins each digest before it relies on it or writes it,
which takes the mark "unnamed" away, and drops its pins when its snapshot is in the catalog. A row goes in a transaction
that sees a mark from before this collection began, no version and no pin; a file without a row goes after a transaction
that sees no version and no pin. From before that transaction until the file is unlinked the gate is closed for the
digest. So a pin that came first keeps row and file; one that comes later belongs to a pull that finds no row, writes
the file, and gives it its name when the gate is open again. A snapshot that reaches the store and never the catalog
named, at its commit, what the one before names or what was pinned after this collection began: no mark is that old.
Before the next collection the lists of snapshots are compared.

A row is dropped durably before its file: after a power loss a file may be left without a row, never the other way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.store.objects import ObjectStore

# The catalog goes through all objects in so many parts, by the first byte of their digests, as the directories do.
PARTS: Final = 256
# Rows in one transaction: few enough that a pull waits some milliseconds for it, and that a full disk has room for it.
BATCH: Final = 500
# Transactions that share an fsync where nothing slows them down: on a busy disk one takes as long as all the rest.
TOGETHER: Final = 10


class Due(NamedTuple):
    """An object that is to go, by its digest, and the size of its file in bytes."""

    sha256: str
    stored_size: int


@dataclass(slots=True)
class Collected:
    """What went: objects and their bytes as they lay there, files without a row; `foreign` names were left alone."""

    objects: int = 0
    bytes: int = 0
    files: int = 0
    file_bytes: int = 0
    foreign: int = 0


class Books(Protocol):
    """What garbage needs of the catalog. Each call is one short transaction; a part is a number below PARTS."""

    def mark_unnamed(self, part: int) -> None:
        """Note of the objects of a part what nothing names now, and what something names again."""
        ...

    def due(self, before: float, limit: int) -> list[Due]:
        """Up to `limit` objects that nothing named since `before` (seconds since 1970), and nobody pins."""
        ...

    def drop(self, digests: Collection[str], before: float) -> list[Due]:
        """Drop the rows of those that are still due; return them."""
        ...

    def make_durable(self) -> None:
        """What was dropped stays so, also after a power loss."""
        ...

    def removing(self, mark: str, before: str) -> None:
        """Durably: the store's mark is `mark`, or still `before`: a catalog without it knows too much."""
        ...

    def recorded_in(self, part: int) -> set[str]:
        """The digests of a part that have a row."""
        ...

    def nameless(self, digests: Collection[str]) -> list[str]:
        """Those of `digests` that have no row, and that nothing names or pins."""
        ...

    def sweeping_since(self) -> float:
        """Since when this catalog knows which files belong to it; infinity if no collection began with it yet."""
        ...

    def begin_sweeping(self) -> None:
        """From now on it does, if it did not yet."""
        ...

    def forget_sent(self) -> int:
        """Drop what is remembered of contents that are no objects any more."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast it goes: at most `rate` objects a second (0: as fast as they can); `wait` pauses, and may raise."""

    rate: float
    clock: Clock
    wait: Callable[[float], None]

    def after(self, count: int, began: float) -> None:
        """Pause until `count` objects may have taken so long. `began` is monotonic. Raises what `wait` does."""
        rest = count / self.rate - (self.clock.monotonic() - began) if self.rate else 0.0
        self.wait(max(0.0, rest))


class Collector:
    """One collection over the objects of a store; `tell` is told the phase, what is done, what there is (0: unknown).

    It may end anywhere, by an exception or the process's end: the next one goes on.
    """

    def __init__(
        self, objects: ObjectStore, books: Books, pace: Pace, grace: float, tell: Callable[[str, int, int], None]
    ) -> None:
        self._objects, self._books, self._pace, self._tell = objects, books, pace, tell
        # Read once: what is marked from here on belongs to the next collection, wherever the clock jumps.
        self._before = pace.clock.now() - grace
        self._marked = False
        self.collected = Collected()

    def run(self) -> Collected:
        """Mark, drop what is due, then sweep. Raises what the store, the catalog and the pace raise."""
        self._mark()
        self._drop()
        self._sweep()
        if self._marked:
            self._objects.removals.begin(self._books)
        if self.collected.objects:
            self._books.forget_sent()
        return self.collected

    def _mark(self) -> None:
        for part in range(PARTS):
            self._tell("looking", part, PARTS)
            self._pace.wait(0.0)
            self._books.mark_unnamed(part)

    def _drop(self) -> None:
        while True:
            began = self._pace.clock.monotonic()
            most = BATCH if self._pace.rate else BATCH * TOGETHER
            due = [each.sha256 for each in self._books.due(self._before, most)]
            if not due:
                return
            with self._objects.gate.closed(due):
                self._drop_these(due)
            self._tell("freeing", self.collected.objects, 0)
            self._pace.after(len(due), began)

    def _mark_removals(self) -> None:
        if not self._marked:
            self._objects.removals.begin(self._books)
            self._marked = True

    def _drop_these(self, due: list[str]) -> None:
        self._mark_removals()
        dropped: list[Due] = []
        try:
            for first in range(0, len(due), BATCH):
                dropped += self._books.drop(due[first : first + BATCH], self._before)
        finally:
            # On a full disk some are dropped before it is.
            if dropped:
                self._books.make_durable()
                self._objects.remove(each.sha256 for each in dropped)
                self.collected.objects += len(dropped)
                self.collected.bytes += sum(each.stored_size for each in dropped)

    def _sweep(self) -> None:
        """Files that a crash left, written before their row or after it: no row, and older than the grace."""
        self._books.begin_sweeping()
        if self._books.sweeping_since() > self._before:
            return
        for part in range(PARTS):
            began = self._pace.clock.monotonic()
            self._tell("sweeping", part, PARTS)
            names, foreign = self._objects.names(part)
            self.collected.foreign += foreign
            unknown = sorted(names - self._books.recorded_in(part)) if names else []
            for first in range(0, len(unknown), BATCH):
                self._sweep_files(unknown[first : first + BATCH])
            self._pace.after(len(unknown), began)

    def _sweep_files(self, digests: list[str]) -> None:
        old = [digest for digest in digests if self._objects.written(digest) <= self._before]
        if not old:
            return
        with self._objects.gate.closed(old):
            nameless = self._books.nameless(old)
            if nameless:
                self._mark_removals()
            self.collected.file_bytes += self._objects.remove(nameless)
        self.collected.files += len(nameless)


def unknown_files(objects: ObjectStore, books: Books, before: float) -> tuple[int, int]:
    """How many files a sweep would remove, and their bytes. Changes nothing."""
    count = size = 0
    if books.sweeping_since() > before:
        return count, size
    for part in range(PARTS):
        names, _ = objects.names(part)
        unknown = names - books.recorded_in(part) if names else set()
        old = [digest for digest in unknown if objects.written(digest) <= before]
        for digest in books.nameless(old) if old else ():
            count, size = count + 1, size + objects.stored_size(digest)
    return count, size
