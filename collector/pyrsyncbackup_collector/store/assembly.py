"""Contents in chunks, read back as files.

Decides what is proven when. Where one can seek: each chunk before any byte of it is handed out, the whole content with
its last byte if it was read from its first on without a gap. Where one cannot: the whole content at its end.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Protocol

from pyrsyncbackup_collector.errors import StoreDamaged
from pyrsyncbackup_collector.store.chunks import ChunkList


class Read(Protocol):
    """Reads a chunk by digest and size (bytes). Any thread may call it."""

    def __call__(self, sha256: str, size: int, /, *, proven: bool = True) -> bytes:
        """All of it; StoreDamaged names it. Not `proven`: its digest was not compared."""
        ...


class Assembled(io.RawIOBase):
    """A content in chunks. `read` gives a whole chunk by digest and size, verified; the next one is read ahead."""

    def __init__(self, chunks: ChunkList, sha256: str, read: Callable[[str, int], bytes], threads: Executor) -> None:
        self._size = chunks.size
        self._position = 0
        self._chunks = chunks
        self._sha256 = sha256
        self._read = read
        self._threads = threads
        self._number = -1
        self._data = b""
        self._ahead: tuple[int, Future[bytes]] | None = None
        self._digest = hashlib.sha256()
        self._proven = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go there, also past the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("before the begin")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: object) -> int:
        """Fill `buffer` as far as the present chunk goes; 0 at the end."""
        number = self._chunks.find(self._position)
        if number >= len(self._chunks):
            return 0
        if number != self._number:
            self._data = self._chunk(number)
            self._number = number
        within = self._position - self._chunks.start(number)
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        piece = memoryview(self._data)[within : within + len(view)]
        view[: len(piece)] = piece
        self._prove(piece)
        self._position += len(piece)
        return len(piece)

    def close(self) -> None:
        """Forget the chunk that was read ahead."""
        self._ahead = None
        self._data = b""
        super().close()

    def _chunk(self, number: int) -> bytes:
        ahead, self._ahead = self._ahead, None
        follows = number == self._number + 1
        data = ahead[1].result() if ahead is not None and ahead[0] == number else self._read(*self._chunks[number])
        if follows and number + 1 < len(self._chunks):
            self._ahead = (number + 1, self._threads.submit(self._read, *self._chunks[number + 1]))
        return data

    def _prove(self, piece: memoryview) -> None:
        if self._position != self._proven:
            return
        self._digest.update(piece)
        self._proven += len(piece)
        if self._proven == self._size and self._digest.hexdigest() != self._sha256:
            raise StoreDamaged(f"the chunks of {self._sha256} are sound, but make up another content")


class Whole(io.RawIOBase):
    """A content in chunks, once from its begin to its end, which is where StoreDamaged may come.

    Chunks are read, and all together hashed, in other threads, while the reader works on one. Only if the digest is
    not the content's is each of them looked at, so that the damaged one is named.
    """

    def __init__(self, chunks: ChunkList, sha256: str, read: Read, threads: Executor) -> None:
        self._chunks = chunks
        self._sha256 = sha256
        self._read = read
        self._threads = threads
        self._number = -1
        self._rest = memoryview(b"")
        self._digest = hashlib.sha256()
        self._hashing: Future[None] | None = None
        self._ahead: Future[bytes] | None = None

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill `buffer` as far as the present chunk goes; 0 at the end, if all was right."""
        if not self._rest and self._number < len(self._chunks):
            self._next()
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def so_far(self) -> tuple[int, str]:
        """How many bytes were handed out when StoreDamaged was raised, and their SHA-256."""
        if self._hashing is not None:
            self._hashing.result()
        return self._chunks.start(min(self._number + 1, len(self._chunks))), self._digest.hexdigest()

    def close(self) -> None:
        """Forget the chunk that was read ahead."""
        self._ahead = None
        self._rest = memoryview(b"")
        super().close()

    def _next(self) -> None:
        number = self._number + 1
        data = b""
        if number < len(self._chunks):
            data = self._ahead.result() if self._ahead is not None else self._load(number)
            self._ahead = self._threads.submit(self._load, number + 1) if number + 1 < len(self._chunks) else None
        if self._hashing is not None:
            self._hashing.result()
        if number == len(self._chunks):
            self._prove()
        self._hashing = self._threads.submit(self._digest.update, data)
        self._rest = memoryview(data)
        self._number = number

    def _load(self, number: int) -> bytes:
        return self._read(*self._chunks[number], proven=False)

    def _prove(self) -> None:
        if self._digest.hexdigest() == self._sha256:
            return
        for chunk in self._chunks:
            self._read(*chunk)
        raise StoreDamaged(f"the chunks of {self._sha256} are sound, but make up another content")
