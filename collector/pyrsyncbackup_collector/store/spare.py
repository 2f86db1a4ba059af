"""Goes on reading a content in chunks whose list or chunk is damaged, where the store has the same content once more.

As one object, or cut otherwise, with another list. Nothing of such a spare is believed for what a catalog says of it:
it is the content only if all of it has the content's digest. What was handed out before the damage was met must be what
the spare begins with.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import BinaryIO, Final, Protocol, cast

import msgspec

from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import StoreDamaged

_BLOCK: Final = 1 << 20

# Opens a content as a stream whose last read raises StoreDamaged if it was another one.
Open = Callable[[], BinaryIO]


class Streamed(Protocol):
    """What is read from its begin to its end."""

    def readinto(self, buffer: object, /) -> int:
        """Fill `buffer`; 0 at the end, if all was right. StoreDamaged hands out nothing."""
        ...

    def so_far(self) -> tuple[int, str]:
        """How many bytes were handed out, and their SHA-256."""
        ...

    def close(self) -> None:
        """Nothing more is read."""
        ...


class WholeOrSpare(io.RawIOBase):
    """A content from its begin to its end, by `first` or by one of `spares`."""

    def __init__(self, first: Callable[[], Streamed], spares: Iterable[Open]) -> None:
        self._spares = spares
        self._first: Streamed | None = None
        self._spare: BinaryIO | None = None
        try:
            self._first = first()
        except StoreDamaged as damage:
            self._spare = self._instead(damage, 0, hashlib.sha256().hexdigest())

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill `buffer`; 0 at the end, if all was right."""
        if self._first is not None:
            try:
                return self._first.readinto(buffer)
            except StoreDamaged as damage:
                self._spare = self._instead(damage, *self._first.so_far())
                self._first.close()
                self._first = None
        return _into(cast(BinaryIO, self._spare), buffer)

    def close(self) -> None:
        """Close what is read."""
        for each in (self._first, self._spare):
            if each is not None:
                each.close()
        super().close()

    def _instead(self, damage: StoreDamaged, done: int, digest: str) -> BinaryIO:
        """A spare after its first `done` bytes, if they have this digest; `damage` again if there is none.

        It is read twice, so that one which is damaged further on leads to the next one.
        """
        for spare in self._spares:
            if _begins_with(spare, done, digest):
                source = spare()
                _digest(source, done)
                return source
        raise damage


class SeekableOrSpare(io.RawIOBase):
    """A content in which one can seek, by `first`, or by one of `spares` that was read to its end before."""

    def __init__(self, first: Callable[[], io.RawIOBase], spares: Iterable[Open]) -> None:
        self._spares = spares
        # Closed where neither can be opened.
        self._source: io.RawIOBase | BinaryIO = io.BytesIO()
        self._is_spare = False
        try:
            self._source = first()
        except StoreDamaged as damage:
            self._instead(damage)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._source.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go there, also past the end."""
        return self._source.seek(offset, whence)

    def readinto(self, buffer: object) -> int:
        """Fill `buffer` as far as it goes at once; 0 at the end."""
        if self._is_spare:
            return _into(cast(BinaryIO, self._source), buffer)
        at = self._source.tell()
        try:
            return cast(int, self._source.readinto(buffer))  # type: ignore[arg-type, union-attr]
        except StoreDamaged as damage:
            damaged = self._source
            self._instead(damage)
            damaged.close()
            self._source.seek(at)
            return self.readinto(buffer)

    def close(self) -> None:
        """Close what is read."""
        if not self.closed:
            self._source.close()
        super().close()

    def _instead(self, damage: StoreDamaged) -> None:
        for spare in self._spares:
            spool = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it
            try:
                with closing(spare()) as source:
                    shutil.copyfileobj(source, spool, _BLOCK)
            except StoreDamaged:
                spool.close()
                continue
            except BaseException:
                spool.close()
                raise
            spool.seek(0)
            self._source, self._is_spare = cast(BinaryIO, spool), True
            return
        raise damage


def spares_of(
    entry: Entry,
    one: Callable[[], BinaryIO],
    lists: Callable[[str], Iterable[str]],
    cut: Callable[[Entry], io.RawIOBase],
) -> Iterator[Open]:
    """Where the content of an entry in chunks may be once more: as `one` object, or by `lists`, as `cut` reads it."""
    yield one
    for digest in lists(entry.sha256):
        if digest != entry.chunks:
            other = msgspec.structs.replace(entry, chunks=digest)
            yield lambda other=other: io.BufferedReader(cut(other), _BLOCK)  # type: ignore[misc]


def _begins_with(spare: Open, size: int, digest: str) -> bool:
    """Whether it is sound, and its first `size` bytes have this digest."""
    try:
        with closing(spare()) as source:
            if _digest(source, size) != digest:
                return False
            while source.read(_BLOCK):
                pass
    except StoreDamaged:
        return False
    return True


def _digest(source: BinaryIO, size: int) -> str:
    """The SHA-256 of the next `size` bytes."""
    digest = hashlib.sha256()
    while size and (data := source.read(min(size, _BLOCK))):
        digest.update(data)
        size -= len(data)
    return digest.hexdigest()


def _into(source: BinaryIO, buffer: object) -> int:
    view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
    data = source.read(len(view))
    view[: len(data)] = data
    return len(data)
