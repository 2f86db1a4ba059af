"""Large contents cut into chunks where their bytes say so: what was inserted or changed makes few new chunks.

Decides where to cut, and how hashing, compressing and writing share two threads. What becomes of a chunk is decided by
the one who writes it.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from typing import Final

from pyrsyncbackup_collector.store.chunks import ChunkList

# One changed byte costs a chunk, each chunk a file, a row and a line: 1 MiB is what restic and borg settled on (512 KiB
# to 2 MiB), and a TiB has a million. Other values here would cut anew all that is stored.
AVERAGE: Final = 1 << 20
SMALLEST: Final = 256 << 10
LARGEST: Final = 4 << 20
# Chunks in the other thread's hands. One more than it works on, so that it never waits; the rest is done here.
_AHEAD: Final = 2

# Make an object of the bytes, unless it is there; their digest, and the size of the object's file.
Keep = Callable[[bytes], tuple[bytes, int]]


class Cut:
    """A content that was cut: its SHA-256 (hexadecimal), its chunks, and the sizes of their files in bytes."""

    def __init__(self) -> None:
        self.chunks = ChunkList()
        self.stored_sizes = array("Q")
        self.sha256 = ""

    def add(self, size: int, kept: tuple[bytes, int]) -> None:
        """The next chunk, of `size` bytes."""
        digest, stored_size = kept
        self.chunks.append(digest, size)
        self.stored_sizes.append(stored_size)


def cut(source: int, size: int, keep: Keep, threads: Executor) -> Cut:
    """Cut what the file descriptor `source` reads into chunks and give each to `keep`, here and in one of `threads`.

    Reads `size` bytes and what may follow; the caller compares. Memory is that of a few of the largest chunks.
    """
    done = Cut()
    whole = hashlib.sha256()
    running: deque[tuple[int, Future[tuple[bytes, int]]]] = deque()
    # Only here: what reads contents does not wait for it.
    from pyfastcdc import FastCDC

    chunker = FastCDC(AVERAGE, min_size=SMALLEST, max_size=LARGEST)
    try:
        for chunk in chunker.cut_stream(_Bounded(source, size)):
            data = bytes(chunk.data)
            busy = sum(not future.done() for _, future in running) >= _AHEAD
            future = Future[tuple[bytes, int]]() if busy else threads.submit(keep, data)
            running.append((len(data), future))
            whole.update(data)
            if busy:
                future.set_result(keep(data))
            while running and running[0][1].done():
                length, future = running.popleft()
                done.add(length, future.result())
        for length, future in running:
            done.add(length, future.result())
    finally:
        # Only where something failed is there anything left; nobody writes any more when this has ended.
        wait([future for _, future in running if not future.cancel()])
    done.sha256 = whole.hexdigest()
    return done


class _Bounded:
    """Reads a file descriptor, at most one byte more than was said: a file that grows is no reason to read on."""

    def __init__(self, source: int, size: int) -> None:
        self._source = source
        self._left = size + 1

    def readinto(self, buffer: memoryview) -> int:
        """Fill `buffer` as far as there is something; 0 at the end."""
        got = os.readv(self._source, [buffer[: self._left]])
        self._left -= got
        return got
