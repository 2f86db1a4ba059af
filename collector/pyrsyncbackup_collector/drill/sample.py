"""Which entries of a snapshot a drill restores: all of a small one, a random part of a large one. Pure.

The same sample comes out however often it is asked for: it is restored first, and compared afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random

from pyrsyncbackup_collector.entry import DIRECTORY, Entry, parent
from pyrsyncbackup_collector.store.snapshot import Totals


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that one drill restores: entries, and bytes of content."""

    entries: int = 20_000
    size: int = 1 << 30

    def hold(self, parts: Iterable[Totals]) -> bool:
        """Whether all these together may be restored as a whole."""
        totals = list(parts)
        entries, size = sum(each.entries for each in totals), sum(each.size for each in totals)
        return entries <= self.entries and size <= self.size


@dataclass(frozen=True, slots=True)
class Sample:
    """A choice of entries, the same for the same `seed`."""

    totals: Totals
    bounds: Bounds
    seed: int

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return self.bounds.hold([self.totals])

    def of(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The chosen ones of all `entries` of the snapshot, in order, with the directories that they lie in."""
        if self.whole:
            yield from entries
            return
        random = Random(self.seed)  # noqa: S311 - nobody has to be kept from guessing it
        share = min(self.bounds.entries / self.totals.entries, self.bounds.size / max(self.totals.size, 1))
        left = self.bounds.size
        # The directories above the present entry, until one of their entries is chosen.
        pending: list[Entry] = []
        for entry in entries:
            above = parent(entry.path)
            while pending and pending[-1].path != above and not above.startswith(pending[-1].path + b"/"):
                pending.pop()
            if entry.type == DIRECTORY:
                pending.append(entry)
            elif random.random() < share and entry.size <= left:
                left -= entry.size
                yield from pending
                pending.clear()
                yield entry
