"""A sequence that is written once and read in order; past a few megabytes on disk, so that memory stays bounded."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

# Bytes kept in memory: some 20,000 entries.
IN_MEMORY = 8 << 20

# Values that are written and read at once.
BLOCK = 256

_LENGTH = struct.Struct("<I")


class Spool(Generic[T]):
    """Values of one msgspec-encodable type. Append, then iterate as often as wanted; close when done."""

    def __init__(self, kind: type[T], directory: Path) -> None:
        """`directory` takes the unnamed file, if one is needed."""
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=str(directory))  # noqa: SIM115 - closed by close
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(list[kind]).decode  # type: ignore[valid-type]
        self._block: list[T] = []
        self._count = 0

    def append(self, value: T) -> None:
        """Write one more value."""
        self._block.append(value)
        self._count += 1
        if len(self._block) == BLOCK:
            data = self._encode(self._block)
            self._file.write(_LENGTH.pack(len(data)) + data)
            self._block.clear()

    def __len__(self) -> int:
        """How many values there are."""
        return self._count

    def __iter__(self) -> Iterator[T]:
        """All values in the order they were written."""
        self._file.seek(0)
        while header := self._file.read(_LENGTH.size):
            yield from self._decode(self._file.read(_LENGTH.unpack(header)[0]))
        yield from self._block
        self._file.seek(0, 2)

    def close(self) -> None:
        """Give the space back."""
        self._file.close()
