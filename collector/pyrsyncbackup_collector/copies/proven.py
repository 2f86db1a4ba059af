"""A file of the store as it was when it was proven: who reads it to its end hears of it if it is another one by now."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final

from pyrsyncbackup_collector.errors import StoreDamaged

# SHA-256 (hexadecimal) of files as they lie there, by their names; of those that are not in it nothing is known.
Sums = Mapping[str, str]
NO_SUMS: Final[Sums] = MappingProxyType({})


class Proven:
    """Reads `file`; its last read raises StoreDamaged if it does not have the digest `sum` ("": any will do)."""

    def __init__(self, file: BinaryIO, sum: str, place: Path) -> None:
        self._file, self._sum, self._place = file, sum, place
        self._digest = hashlib.sha256()
        # What was raised, for where a library on the way makes it another error.
        self.fault: StoreDamaged | None = None

    def read(self, size: int = -1) -> bytes:
        """As of the file."""
        data = self._file.read(size)
        if self._sum:
            self._digest.update(data)
            if (not data or size < 0) and self._digest.hexdigest() != self._sum:
                cause = f"{self._place} changed on the disk after it was proven"
                self.fault = StoreDamaged(cause, "`pyrsyncbackup verify` says more; the next round leaves it out")
                raise self.fault
        return data

    def blocks(self, size: int) -> Iterator[bytes]:
        """All of it."""
        while data := self.read(size):
            yield data
