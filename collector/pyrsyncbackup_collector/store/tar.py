"""A tar archive in the pax format, written to an open file from begin to end; see `pax` for what is in its headers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO, Final

from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.store import pax

# GNU tar reads and writes records of 20 blocks, and complains of less to a tape.
_RECORD: Final = 20 * pax.BLOCK
# Small members are put together to writes of about this size.
_GATHERED: Final = 256 * 1024

Extents = list[tuple[int, int]]


class TarWriter:
    """Writes to `file`, which somebody else closes; see `archive.Writer`."""

    held = pax.HELD
    knows_holes = True
    knows_links = True
    knows_xattrs = True

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._written = 0
        self._waiting: list[bytes] = []
        self._size = 0

    def cannot_hold(self, entry: Entry) -> str:
        """Sockets are what tar has no type for, and that is in `held`."""
        del entry
        return ""

    def add(
        self,
        entry: Entry,
        mode: int,
        xattrs: dict[str, bytes],
        size: int,
        content: Iterable[bytes],
        holes: Extents | None,
    ) -> None:
        """One member."""
        member = pax.Member(entry, mode, size, xattrs=xattrs, extents=holes)
        self._write(pax.header(member) + member.sparse_map)
        for piece in content:
            self._write(piece)
        self._write(pax.padding(member.stored))

    def link(self, entry: Entry, mode: int, xattrs: dict[str, bytes], first: bytes) -> None:
        """One more name."""
        self._write(pax.header(pax.Member(entry, mode, first=first, xattrs=xattrs)))

    def end(self) -> None:
        """The end mark, filled up to a record."""
        self._write(pax.END)
        self._write(bytes(-self._written % _RECORD))
        self._flush()

    def _write(self, data: bytes) -> None:
        self._written += len(data)
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= _GATHERED:
            self._flush()

    def _flush(self) -> None:
        data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
        self._waiting, self._size = [], 0
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
