"""A set of hash values that only grows, in a quarter of the memory that Python's own takes: 12 to 24 bytes for each."""

from __future__ import annotations

from array import array
from typing import Final

# 64 bits; 0 is a place that is free.
_BITS: Final = 2**64 - 1
_FIRST: Final = 1024


class Hashes:
    """Values of `hash`, looked for one place after the other from where they should be."""

    def __init__(self) -> None:
        self._places = array("Q", bytes(8 * _FIRST))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, value: int) -> None:
        """Count this one as there."""
        places, value = self._places, value & _BITS or 1
        place = self._find(value)
        if places[place]:
            return
        places[place] = value
        self._count += 1
        if 3 * self._count > 2 * len(places):
            self._places = array("Q", bytes(16 * len(places)))
            for each in filter(None, places):
                self._places[self._find(each)] = each

    def __contains__(self, value: int) -> bool:
        return self._places[self._find(value & _BITS or 1)] != 0

    def _find(self, value: int) -> int:
        """The place of `value`, or the free one where it would be."""
        places = self._places
        mask = len(places) - 1
        place = value & mask
        while places[place] not in (0, value):
            place = (place + 1) & mask
        return place
