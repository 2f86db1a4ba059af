"""A mark in the store that changes whenever contents go: so that a catalog from before is known to be one.

A catalog that was put back from a copy may still take for known what went since; what a pull relies on then is lost,
and nothing else would tell. What is marked is decided by who removes; the comparison is the catalog's.
"""

from __future__ import annotations

import secrets
import threading
from pathlib import Path
from typing import Final, Protocol

from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.faults import translated

REMOVALS: Final = "removals"
# What a mark takes, and far more than that.
_MOST: Final = 100


class Marks(Protocol):
    """Who has to know of removals."""

    def removing(self, mark: str, before: str) -> None:
        """Durably: the store's mark is `mark`, or still `before` if that could not be written."""
        ...


class Removals:
    """The mark of the store whose objects lie at `objects`."""

    def __init__(self, objects: Path) -> None:
        self._path = objects.parent / REMOVALS
        self._turn = threading.Lock()

    def mark(self) -> str:
        """The present one; "" while nothing ever went. Raises StoreError."""
        with translated(self._path):
            try:
                with self._path.open("rb") as file:
                    return file.read(_MOST).decode("ascii", "replace").strip()
            except FileNotFoundError:
                return ""

    def begin(self, marks: Marks) -> None:
        """Before anything goes, and once more after the last: copies of the catalog that were made before are old."""
        mark = secrets.token_hex(8)
        with self._turn, translated(self._path):
            marks.removing(mark, self.mark())
            layout.write_durably(self._path, f"{mark}\n".encode())
