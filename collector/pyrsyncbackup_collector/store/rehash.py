"""Reads objects as they lie on the disk and says whether each is what its name says.

Small ones are read in a thread ahead of the consumer, a large one is hashed in another while that one decompresses. It
judges a file alone: who needs it, and what becomes of it, is decided by others.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple, cast

import zstandard

from pyrsyncbackup_collector.store.faults import translate
from pyrsyncbackup_collector.store.findings import MISSING, ROTTEN

# Up to here a file is read, and what it holds decompressed, in one piece.
_WHOLE: Final = 1 << 20
_BLOCK: Final = 1 << 20
_READ: Final = 256 << 10
# What `objects` writes has 2 MiB windows.
_MAX_WINDOW: Final = 8 << 20
# One ahead of the consumer: two hand the interpreter's lock to and fro, which takes 20,000 small objects 1.1 s for 0.6.
_THREADS: Final = 1
# Objects that a thread takes at once, and tasks that wait for each.
_TASK: Final = 32
_AHEAD: Final = 2
# What a disk says that cannot give back what it took. Anything else is about us: rights, a file system that is gone.
_UNREADABLE: Final = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.ENODATA, errno.EILSEQ, errno.ELOOP})


# Device, number, time of writing (ns): which file it was. A number alone is given again at once.
File = tuple[int, int, int]
NO_FILE: Final[File] = (0, 0, 0)


class Examined(NamedTuple):
    """What one object was found to be: `kind` is empty where it is sound, else rotten or missing, and `cause` why.

    `size` is that of its content as far as it was read; `file` says which file that was.
    """

    sha256: str
    kind: str
    cause: str
    size: int
    file: File = NO_FILE


# Told of bytes that were read from the disk; may wait, and may raise to stop.
Tick = Callable[[int], None]


def _no_tick(_: int) -> None:
    return


# Given the bytes of an object's file as they are read.
Raw = Callable[[bytes], object]


def _no_raw(_: bytes) -> None:
    return


class _Local(threading.local):
    """What each thread reuses."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)


class Rehash:
    """Examines objects; `place` says where that of a digest lies. Close it."""

    def __init__(self, place: Callable[[str], Path | str]) -> None:
        self._place = place
        self._local = _Local()
        self._workers = ThreadPoolExecutor(_THREADS, thread_name_prefix="verify")
        self._hashers = ThreadPoolExecutor(_THREADS, thread_name_prefix="hash")

    def close(self) -> None:
        """End the threads, as soon as the files that they read now are done."""
        self._workers.shutdown(cancel_futures=True)
        self._hashers.shutdown(cancel_futures=True)

    def __enter__(self) -> Rehash:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Close."""
        self.close()

    def all(self, digests: Iterable[str]) -> Iterator[Examined]:
        """Examine many, in their order."""
        source = iter(digests)
        waiting: deque[Future[list[Examined]]] = deque()
        try:
            while task := list(islice(source, _TASK)):
                waiting.append(self._workers.submit(self._some, task))
                if len(waiting) >= _THREADS * _AHEAD:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _some(self, digests: list[str]) -> list[Examined]:
        return [self.one(digest) for digest in digests]

    def one(self, sha256: str, tick: Tick = _no_tick, raw: Raw = _no_raw) -> Examined:
        """Examine one. Raises StoreError for what is no fault of the object, and what `tick` raises.

        `raw` gets the bytes of its file: all of them if it is sound.
        """
        place = self._place(sha256)
        try:
            # Without waiting for what a FIFO, laid here by hand, would wait for.
            file = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except FileNotFoundError:
            return Examined(sha256, MISSING, "its file is not there", 0)
        except OSError as fault:
            return _unreadable(sha256, fault, place, NO_FILE)
        which = NO_FILE
        try:
            found = os.fstat(file)
            which = (found.st_dev, found.st_ino, found.st_mtime_ns)
            if not stat.S_ISREG(found.st_mode):
                return Examined(sha256, ROTTEN, "it is no regular file", 0, which)
            return self._content(file, found.st_size, sha256, which, tick, raw)
        except zstandard.ZstdError as fault:
            return Examined(sha256, ROTTEN, _words(fault), 0, which)
        except OSError as fault:
            return _unreadable(sha256, fault, place, which)
        finally:
            os.close(file)

    def _content(self, file: int, stored: int, sha256: str, which: File, tick: Tick, raw: Raw) -> Examined:
        if stored == 0:
            return Examined(sha256, ROTTEN, "its file is empty", 0, which)
        if stored <= _WHOLE:
            frame = os.read(file, stored + 1)
            tick(len(frame))
            size = zstandard.frame_content_size(frame)
            if len(frame) == stored and 0 <= size <= _WHOLE:
                raw(frame)
                data = self._local.decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
                return _judged(sha256, hashlib.sha256(data).hexdigest(), len(data), which)
            os.lseek(file, 0, os.SEEK_SET)
        digest, size = self._stream(file, tick, raw)
        return _judged(sha256, digest, size, which)

    def _stream(self, file: int, tick: Tick, raw: Raw) -> tuple[str, int]:
        """Digest and size of what the frames in `file` hold, decompressed here and hashed beside it."""
        digest = hashlib.sha256()
        size = 0
        hashing: Future[None] | None = None
        with open(file, "rb", buffering=0, closefd=False) as source:
            frames = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(
                cast(BinaryIO, _Counted(source, tick, raw)), read_size=_READ, read_across_frames=True, closefd=False
            )
            # One is hashed while the other is filled.
            buffers = (memoryview(bytearray(_BLOCK)), memoryview(bytearray(_BLOCK)))
            turn = 0
            while got := _fill(frames, buffers[turn]):
                if hashing:
                    hashing.result()
                size += got
                hashing = self._hashers.submit(digest.update, buffers[turn][:got])
                turn = 1 - turn
        if hashing:
            hashing.result()
        return digest.hexdigest(), size


class _Counted:
    """A file that says how much of it was read, and what."""

    def __init__(self, source: object, tick: Tick, raw: Raw) -> None:
        self._read = source.read  # type: ignore[attr-defined]
        self._tick, self._raw = tick, raw

    def read(self, size: int) -> bytes:
        """As of the file."""
        data: bytes = self._read(size)
        self._tick(len(data))
        self._raw(data)
        return data


def _fill(frames: zstandard.ZstdDecompressionReader, buffer: memoryview) -> int:
    done = 0
    while done < len(buffer) and (got := frames.readinto(buffer[done:])):
        done += got
    return done


def _judged(sha256: str, digest: str, size: int, which: File) -> Examined:
    if digest == sha256:
        return Examined(sha256, "", "", size, which)
    return Examined(sha256, ROTTEN, "its content has another digest, or its end is missing", size, which)


def _unreadable(sha256: str, fault: OSError, place: Path | str, which: File) -> Examined:
    if fault.errno not in _UNREADABLE:
        raise translate(fault, place) from fault
    return Examined(sha256, ROTTEN, f"it cannot be read: {os.strerror(fault.errno or 0)}", 0, which)


def _words(fault: zstandard.ZstdError) -> str:
    return f"it is no sound zstd frame: {fault}"
