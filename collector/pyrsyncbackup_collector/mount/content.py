"""Contents at any offset: small ones whole in memory, large ones through a reader that can go to and fro.

Nothing is handed out that was not verified: a small content as a whole, a large one by the pieces that it is kept in,
and one that can only be read from its begin once all of it was.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import OrderedDict
from typing import IO, Final

from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.store.objects import ObjectStore

# Up to this size a content is read as a whole (bytes), if it is not kept in chunks, as what is larger mostly is.
WHOLE: Final = 32 << 20
# What is held of small contents for those who read them again, in bytes.
HELD: Final = 128 << 20
_PIECE: Final = 1 << 20


class Content:
    """An open content; any thread may read."""

    def __init__(self, source: bytes | IO[bytes]) -> None:
        self._source = source
        self._lock = threading.Lock()

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` on; fewer at its end only. Raises StoreDamaged."""
        if isinstance(self._source, bytes):
            return self._source[offset : offset + size]
        with self._lock:
            self._source.seek(offset)
            parts = []
            while size and (data := self._source.read(size)):
                parts.append(data)
                size -= len(data)
            return b"".join(parts)

    def close(self) -> None:
        """No more is read."""
        if not isinstance(self._source, bytes):
            self._source.close()


class Contents:
    """Opens contents of a store. Any number of threads may use it."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def open(self, entry: Entry) -> Content:
        """The content of a file's entry that has one. Raises StoreDamaged."""
        if entry.size <= WHOLE and not entry.chunks:
            return Content(self._whole(entry))
        source = self._objects.open_entry(entry)
        if source.seekable():
            return Content(source)
        with source:
            spool = tempfile.TemporaryFile()  # noqa: SIM115 - the content closes it
            try:
                shutil.copyfileobj(source, spool, _PIECE)
            except BaseException:
                spool.close()
                raise
        return Content(spool)

    def _whole(self, entry: Entry) -> bytes:
        with self._lock:
            if (data := self._held.get(entry.sha256)) is not None:
                self._held.move_to_end(entry.sha256)
                return data
        data = self._objects.read_entry(entry)
        with self._lock:
            if entry.sha256 not in self._held:
                self._held[entry.sha256] = data
                self._size += len(data)
            while self._size > HELD and len(self._held) > 1:
                self._size -= len(self._held.popitem(last=False)[1])
        return data
