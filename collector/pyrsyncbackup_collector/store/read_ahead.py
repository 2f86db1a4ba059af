"""Reads contents a little ahead of a restore into an empty target, in another thread: one reads while the other writes.

Small contents of coming entries in batches, a large one in pieces. Bounded: two batches, or eight pieces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from queue import Full, Queue
from threading import Event
from typing import BinaryIO, Final

from pyrsyncbackup_collector.entry import FILE, Entry
from pyrsyncbackup_collector.errors import BackupError
from pyrsyncbackup_collector.store.filling import CHUNK, Objects, pieces

# Handing a batch over costs as much as reading a file or two.
_BATCH: Final = 64
# Small enough that a batch is at most 4 MiB.
_SMALL: Final = 64 * 1024
# Bytes from which on it is worth the while to hand a content over in pieces.
_LARGE: Final = 4 << 20
_PIECES: Final = 8
# Seconds until the thread looks whether anybody still wants its pieces.
_LOOK: Final = 0.2

_Fault = BackupError | OSError
_Read = dict[str, bytes | _Fault]


class ReadAhead:
    """`Objects` for the entries that `over` yields, one after the other. Close it."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read ahead")
        self._read: _Read = {}
        self._closed = Event()

    def over(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The same entries; when one comes its content is at hand if it is small."""
        source = iter(entries)
        waiting: deque[tuple[list[Entry], Future[_Read]]] = deque()
        while True:
            while len(waiting) < 2 and (batch := list(islice(source, _BATCH))):
                waiting.append((batch, self._pool.submit(self._read_all, batch)))
            if not waiting:
                return
            batch, reading = waiting.popleft()
            self._read = reading.result()
            yield from batch

    def read_entry(self, entry: Entry) -> bytes:
        """What was read ahead, or is read now."""
        found = self._read.get(entry.sha256)
        if isinstance(found, _Fault):
            raise found
        if found is None or len(found) != entry.size:
            return self._objects.read_entry(entry)
        return found

    def open_entry(self, entry: Entry, *, whole: bool = False) -> BinaryIO:
        """A content as a stream; what the other thread reads of it is at most some pieces ahead."""
        return self._objects.open_entry(entry, whole=whole)

    def content(self, entry: Entry, *, proven: bool = False) -> Iterator[bytes]:
        """All of it, as `filling.pieces` has it; a large one is read by the other thread, but for the second try."""
        return self.pieces(entry) if entry.size > _LARGE and not proven else pieces(entry, self, proven=proven)

    def pieces(self, entry: Entry) -> Iterator[bytes]:
        """A content in pieces of CHUNK bytes but the last. Raises as its stream does."""
        queue: Queue[bytes | BaseException] = Queue(_PIECES)
        unwanted = Event()
        pumping = self._pool.submit(self._pump, entry, queue, unwanted)
        try:
            while piece := queue.get():
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            unwanted.set()
            pumping.result()

    def close(self) -> None:
        """End the thread, whatever it reads: where an error ended it all, nobody came to close `pieces`."""
        self._closed.set()
        self._pool.shutdown()

    def _read_all(self, batch: list[Entry]) -> _Read:
        found: _Read = {}
        for entry in batch:
            if entry.type == FILE and entry.sha256 and 0 < entry.size <= _SMALL and not entry.changing:
                try:
                    found[entry.sha256] = self._objects.read_entry(entry)
                except (BackupError, OSError) as error:
                    found[entry.sha256] = error
        return found

    def _pump(self, entry: Entry, queue: Queue[bytes | BaseException], unwanted: Event) -> None:
        try:
            with self._objects.open_entry(entry, whole=True) as content:
                while piece := content.read(CHUNK):
                    if not self._put(queue, piece, unwanted):
                        return
            self._put(queue, b"", unwanted)
        except BaseException as error:  # noqa: BLE001 - it is raised in the other thread
            self._put(queue, error, unwanted)

    def _put(self, queue: Queue[bytes | BaseException], piece: bytes | BaseException, unwanted: Event) -> bool:
        while not unwanted.is_set() and not self._closed.is_set():
            try:
                queue.put(piece, timeout=_LOOK)
            except Full:
                continue
            return True
        return False
