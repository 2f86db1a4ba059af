"""Writes the content of one entry into an open file, with holes where the original had some.

The proof that it is the right content is the stream's (`open_entry`), whose last read fails if it is not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Final, Protocol

from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import StoreDamaged

CHUNK: Final = 256 * 1024
# The unit of holes: the block size of the usual file systems.
_BLOCK: Final = 4096
_ZERO_CHUNK: Final = bytes(CHUNK)
_ZERO_BLOCK: Final = bytes(_BLOCK)


class Objects(Protocol):
    """Where content comes from: one thread asks, for one content after the other."""

    def read_entry(self, entry: Entry, /) -> bytes:
        """A small content as a whole, verified; StoreDamaged if it cannot be had or has another size."""
        ...

    def open_entry(self, entry: Entry, /, *, whole: bool = False) -> BinaryIO:
        """The content of a file's entry, to be closed by the caller; StoreDamaged if it cannot be had.

        So does its last read if the content is not the entry's. With `whole` nothing need be proven before.
        """
        ...


def fill(fd: int, entry: Entry, content: Iterable[bytes], told: Callable[[int], object]) -> int:
    """Write the content (`pieces`), telling each one's size; return how many bytes there are.

    StoreDamaged if it is not right.

    An entry that was changing may have the size of another moment; its digest is of what was kept.
    """
    sparse = entry.allocated < entry.size
    written = 0
    for chunk in content:
        written += len(chunk)
        if written > entry.size and not entry.changing:
            raise StoreDamaged("the content is larger than the snapshot says")
        if sparse:
            _write_sparse(fd, chunk)
        else:
            write(fd, chunk)
        told(len(chunk))
    if sparse:
        os.ftruncate(fd, written)
    size = os.fstat(fd).st_size
    if size != written:
        raise OSError(f"the file has {size} bytes where {written} were written")
    return written


def pieces(entry: Entry, objects: Objects, *, proven: bool = False) -> Iterator[bytes]:
    """All of it in pieces of exactly CHUNK bytes but the last, so that blocks of zeros are found where they were.

    Nothing is proven before their end, unless each is to be `proven`: where the content lies in chunks that is for the
    second try, since a chunk that holds something else of the same size only shows at the end of the first.
    """
    if entry.size <= CHUNK and not entry.changing:
        if data := objects.read_entry(entry):
            yield data
        return
    with objects.open_entry(entry, whole=not proven) as content:
        while data := content.read(CHUNK):
            while len(data) < CHUNK and (more := content.read(CHUNK - len(data))):
                data += more
            yield data


def extents(content: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """Where in a content (`pieces`) blocks of zeros are not, as (offset, size), and at its end (size, 0)."""
    begin = at = 0
    for chunk in content:
        if chunk == _ZERO_CHUNK:
            if begin < at:
                yield begin, at - begin
            at += len(chunk)
            begin = at
            continue
        for offset in range(0, len(chunk), _BLOCK):
            block = chunk[offset : offset + _BLOCK]
            if _is_zero(block):
                if begin < at + offset:
                    yield begin, at + offset - begin
                begin = at + offset + len(block)
        at += len(chunk)
    if begin < at:
        yield begin, at - begin
    yield at, 0


def write(fd: int, data: bytes | memoryview) -> None:
    """All of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _write_sparse(fd: int, chunk: bytes) -> None:
    """Write at the current offset, seeking over blocks of zeros; the end may be left for ftruncate."""
    if chunk == _ZERO_CHUNK:
        os.lseek(fd, len(chunk), os.SEEK_CUR)
        return
    view = memoryview(chunk)
    begin = 0  # of the data not yet written
    for at in range(0, len(chunk), _BLOCK):
        block = view[at : at + _BLOCK]
        if _is_zero(block):
            write(fd, view[begin:at])
            os.lseek(fd, len(block), os.SEEK_CUR)
            begin = at + len(block)
    write(fd, view[begin:])


def _is_zero(block: bytes | memoryview) -> bool:
    return block == (_ZERO_BLOCK if len(block) == _BLOCK else _ZERO_BLOCK[: len(block)])
