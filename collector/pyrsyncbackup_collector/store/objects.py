"""Contents as files named by their SHA-256: written once, never changed, compressed; large ones as lists of chunks.

Decides how an object comes to lie in the store and how it is read back. Which objects are known, and which may go, is
the catalog's.
"""

# ruff: noqa: PTH108, PTH110, PTH116, PTH208
# Names are strings here: making a Path costs as much as the system call it is for

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import threading
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

import zstandard

from pyrsyncbackup_collector.entry import Entry, is_digest
from pyrsyncbackup_collector.errors import StoreDamaged, StoreError
from pyrsyncbackup_collector.store.assembly import Assembled, Whole
from pyrsyncbackup_collector.store.chunks import Chunked, ChunkList, Piece, read_chunks
from pyrsyncbackup_collector.store.cutting import cut
from pyrsyncbackup_collector.store.faults import translate, translated
from pyrsyncbackup_collector.store.gate import Gate
from pyrsyncbackup_collector.store.layout import OBJECTS, TEMPORARY, make_directory, write_all
from pyrsyncbackup_collector.store.object_file import damaged, opened, read_all
from pyrsyncbackup_collector.store.placing import rename, syncfs
from pyrsyncbackup_collector.store.removals import Removals
from pyrsyncbackup_collector.store.spare import SeekableOrSpare, WholeOrSpare, spares_of

# Up to here a content is read, hashed and compressed in one piece each: fewer calls, and no frame buffers.
WHOLE: Final = 1 << 20
# Above, a content is kept in chunks: a change to it costs a few of them then, not all of it once more.
LARGE: Final = 32 << 20
# Large enough to make handing a block to the other thread cheap, small enough that memory stays small.
_BLOCK: Final = 1 << 20
_LEVEL: Final = 3
# Level 3 uses 2 MiB windows; a frame that wants more of our memory was not written by us.
_MAX_WINDOW: Final = 8 << 20
# Two large contents at a time are what two pulls' rsync delivers; more wait for each other's blocks only.
_HASHERS: Final = 4
# What one read of a stream hands out at most.
_MAX_READ: Final = 256 << 10
# Files that one thread removes at a time: each waits for the disk, and four threads took a fifth of the time of one.
_REMOVED: Final = 50
# The name of an object's file in its directory.
_REST: Final = re.compile(r"[0-9a-f]{62}")
# Lies in the directory while drafts may.
_WRITING: Final = "writing"


class Ingested(NamedTuple):
    """What became of a content: its digest (hexadecimal), its size and that of its object, in bytes.

    One in chunks has no object of its own: `stored_size` is 0, and `chunked` says which objects make it up.
    """

    sha256: str
    size: int
    stored_size: int
    chunked: Chunked | None = None


def _nothing_known(_: str) -> bool:
    return False


class _Local(threading.local):
    """What each thread reuses."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True)
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)


class ObjectStore:
    """The objects below one directory. Any number of threads may use it.

    Contents of more than `large` bytes are kept in chunks.
    """

    def __init__(self, path: Path, large: int = LARGE) -> None:
        self.path = path
        self._large = large
        self._prefix = f"{path}/"
        self._local = _Local()
        # Two processes may write at a time only if the lock failed; their drafts still do not meet.
        self._token = os.urandom(8).hex()
        self._numbers = count()
        self._marked = False
        self._hashers: ThreadPoolExecutor | None = None
        self._hashers_lock = threading.Lock()
        # Says of a content in chunks which lists of it there are, for where one is damaged.
        self.other_lists: Callable[[str], Iterable[str]] = lambda _: ()
        # Closed for what is being removed.
        self.gate = Gate()
        self.removals = Removals(path)

    def close(self) -> None:
        """End the threads."""
        if self._hashers:
            self._hashers.shutdown()
        if self._marked:
            with contextlib.suppress(OSError):
                os.unlink(self.path / _WRITING)

    def place(self, sha256: str) -> Path:
        """Where the object of that digest lies, or would."""
        return Path(self._place(sha256))

    def file_name(self, sha256: str) -> str:
        """The object's file, from the top of the store or of the copy that it comes from."""
        return f"{OBJECTS}/{sha256[:2]}/{sha256[2:]}"

    def ingest(
        self,
        source: int,
        limit: int,
        known: Callable[[str], bool] = _nothing_known,
        expected: Callable[[], str] | None = None,
        relied: Callable[[str], bool] = _nothing_known,
    ) -> Ingested:
        """Make an object of what the file descriptor `source` reads, from where it stands to its end.

        `known` tells of a digest whether its object has a row in the catalog: such an object is not written again,
        unless its file is gone. A file without a row is replaced, never trusted. Nothing is durable before `sync`.
        `relied` tells the same of chunks, and keeps those that it knows from being removed; two threads ask it.
        A content whose digest is not the `expected` one becomes no object at all: its stored size is 0. It is asked for
        when the content was read, so that it may be found out meanwhile.
        More than `limit` bytes, and a file that changes while it is read, raise StoreError.
        """
        try:
            size = os.fstat(source).st_size
            if size > limit:
                raise StoreError(f"a content of {size} bytes is over the limit of {limit}")
            if size <= WHOLE:
                return self._ingest_whole(source, size, known, expected)
            if size > self._large:
                return self._ingest_large(source, size, known, expected, relied)
            return self._ingest_stream(source, size, known, expected)
        except OSError as fault:
            raise translate(fault, self.path) from fault

    def _ingest_whole(
        self, source: int, size: int, known: Callable[[str], bool], expected: Callable[[], str] | None
    ) -> Ingested:
        data = os.read(source, size + 1)
        if len(data) < size:
            parts = [data]
            while more := os.read(source, size + 1):
                parts.append(more)
            data = b"".join(parts)
        if len(data) != size:
            raise _changed(size, len(data))
        sha256 = hashlib.sha256(data).hexdigest()
        if expected and sha256 != expected():
            return Ingested(sha256, size, 0)
        if known(sha256) and (stored := self.stored_size(sha256)):
            return Ingested(sha256, size, stored)
        return Ingested(sha256, size, self._write(data, sha256))

    def _write(self, data: bytes, sha256: str) -> int:
        """Make an object of `data`, whose digest that is; return the size of its file."""
        frame = self._local.compressor.compress(data)
        draft, file = self._new_draft(sha256[:2])
        try:
            if os.write(file, frame) != len(frame):
                os.lseek(file, 0, os.SEEK_SET)
                write_all(file, frame)
        except BaseException:
            os.unlink(draft)
            raise
        finally:
            os.close(file)
        self._publish(draft, sha256)
        return len(frame)

    def _ingest_large(
        self,
        source: int,
        size: int,
        known: Callable[[str], bool],
        expected: Callable[[], str] | None,
        relied: Callable[[str], bool],
    ) -> Ingested:
        written: dict[bytes, int] = {}

        def keep(data: bytes) -> tuple[bytes, int]:
            digest = hashlib.sha256(data).digest()
            stored = written.get(digest) or (relied(digest.hex()) and self.stored_size(digest.hex()))
            written[digest] = stored = stored or self._write(data, digest.hex())
            return digest, stored

        done = cut(source, size, keep, self._pool())
        if done.chunks.size != size:
            raise _changed(size, done.chunks.size)
        if expected and done.sha256 != expected():
            return Ingested(done.sha256, size, 0)
        if known(done.sha256) and (stored := self.stored_size(done.sha256)):
            # As one object, from before there were chunks: what refers to it looks for that.
            return Ingested(done.sha256, size, stored)
        lines = done.chunks.encode()
        digest, stored = keep(lines)
        chunked = Chunked(Piece(digest, len(lines), stored), done.chunks, done.stored_sizes)
        return Ingested(done.sha256, size, 0, chunked)

    def _ingest_stream(
        self, source: int, size: int, known: Callable[[str], bool], expected: Callable[[], str] | None
    ) -> Ingested:
        draft, file = self._new_draft("")
        try:
            try:
                sha256, stored_size = self._compress(source, file, size)
            finally:
                os.close(file)
            stored = 0
            wrong = expected and sha256 != expected()
            if wrong or (known(sha256) and (stored := self.stored_size(sha256))):
                os.unlink(draft)
                return Ingested(sha256, size, stored)
        except BaseException:
            os.unlink(draft)
            raise
        self._publish(draft, sha256)
        return Ingested(sha256, size, stored_size)

    def _compress(self, source: int, target: int, size: int) -> tuple[str, int]:
        """Copy as one frame; hash each block in another thread while this one compresses and writes it."""
        digest = hashlib.sha256()
        frame = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj(size=size)
        hashers = self._pool()
        done = stored = 0
        hashing: Future[None] | None = None
        while block := os.read(source, _BLOCK):
            if hashing:
                hashing.result()
            done += len(block)
            if done > size:
                raise _changed(size, done)
            hashing = hashers.submit(digest.update, block)
            piece = frame.compress(block)
            write_all(target, piece)
            stored += len(piece)
        if hashing:
            hashing.result()
        if done != size:
            raise _changed(size, done)
        piece = frame.flush()
        write_all(target, piece)
        return digest.hexdigest(), stored + len(piece)

    def open(self, sha256: str, size: int | None = None) -> io.BufferedReader:
        """A stream of the content of that digest; close it.

        Its last read raises StoreDamaged if what was read does not have that digest, or not `size` bytes where that is
        given; so does an object that is missing, truncated or no zstd frame. Who stops before the end has no proof.
        """
        file, _ = opened(self._place(sha256), sha256)
        return io.BufferedReader(_Verifying(file, sha256, size), _MAX_READ)

    def read(self, sha256: str, size: int, *, proven: bool = True) -> bytes:
        """The whole content, verified; quicker than `open` for small ones. `size` is what the entry says, in bytes.

        Not `proven`: the frame's own checksum was compared, which finds what rotted, but not the digest.
        """
        place = self._place(sha256)
        frame = read_all(place, sha256)
        try:
            # An object in several frames, or one without its size, is not ours; the limit is the entry's size.
            if zstandard.frame_content_size(frame) != size:
                raise damaged(sha256, f"it does not hold {size} bytes")
            data = self._local.decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
        except zstandard.ZstdError as fault:
            raise damaged(sha256, str(fault)) from None
        if proven and hashlib.sha256(data).hexdigest() != sha256:
            raise damaged(sha256, "its content has another digest")
        return data

    def open_entry(self, entry: Entry, *, whole: bool = False) -> io.BufferedReader:
        """A stream of the content of a file's entry, verified as by `open`; close it.

        One can seek in a content in chunks: each chunk is verified before any of it is handed out, and all together
        with the last byte, unless something was left out. With `whole`, for those who believe nothing before the end of
        the stream, it is verified as a whole alone, which takes half the time, and one cannot seek.
        """
        # What was changing may have the size of another moment; its digest is of what was kept.
        one = partial(self.open, entry.sha256, None if entry.changing else entry.size)
        if not entry.chunks:
            return one()
        spares = spares_of(entry, one, self.other_lists, self._whole)
        if whole:
            return io.BufferedReader(WholeOrSpare(partial(self._whole, entry), spares), _MAX_READ)
        return io.BufferedReader(SeekableOrSpare(partial(self._assembled, entry), spares), _MAX_READ)

    def _whole(self, entry: Entry) -> Whole:
        return Whole(self.chunks_of(entry), entry.sha256, self.read, self._pool())

    def _assembled(self, entry: Entry) -> Assembled:
        return Assembled(self.chunks_of(entry), entry.sha256, self.read, self._pool())

    def read_entry(self, entry: Entry) -> bytes:
        """The whole content of a file's entry, verified; for small ones."""
        if not entry.changing and not entry.chunks:
            return self.read(entry.sha256, entry.size)
        with self.open_entry(entry) as content:
            return content.read()

    def chunks_of(self, entry: Entry) -> ChunkList:
        """The chunks of an entry whose content lies in chunks; StoreDamaged names the list, never a guess."""
        with self.open(entry.chunks) as source:
            return read_chunks(source, f"object {entry.chunks}", entry.size)

    def present(self, shard: str, needed: AbstractSet[str]) -> set[str]:  # noqa: ARG002 - for those far away
        """Which objects are there whose digests begin with `shard` (two digits): at least those of `needed`."""
        return self.names(int(shard, 16))[0]

    def expect(self, digests: Iterable[str]) -> None:
        """Be told what will be read next, in that order; of use where objects come from far away."""

    def sync(self) -> None:
        """Make all that was written durable: syncfs(2) of the store's file system."""
        with translated(self.path):
            directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                syncfs(directory)
            finally:
                os.close(directory)

    def names(self, part: int) -> tuple[set[str], int]:
        """The digests of the files in the directory of that number (below 256), and how many files are none of ours."""
        shard = f"{part:02x}"
        with translated(self.path):
            try:
                found = os.listdir(self.path / shard)
            except FileNotFoundError:
                return set(), 0
        ours = {shard + name for name in found if _REST.fullmatch(name)}
        drafts = sum(name.startswith(TEMPORARY) for name in found)
        return ours, len(found) - len(ours) - drafts

    def written(self, sha256: str) -> float:
        """When the file of that digest was written, in seconds since 1970; infinity without one."""
        try:
            return os.stat(self._place(sha256)).st_mtime
        except FileNotFoundError:
            return float("inf")
        except OSError as fault:
            raise translate(fault, self.path) from fault

    def stored_size(self, sha256: str) -> int:
        """Size of the file of that digest in bytes; 0 without one."""
        try:
            return os.stat(self._place(sha256)).st_size
        except FileNotFoundError:
            return 0
        except OSError as fault:
            raise translate(fault, self.path) from fault

    def remove(self, digests: Iterable[str]) -> int:
        """Remove the files of these digests, of which some may be gone; how many bytes. The gate is closed for them."""
        listed = list(digests)
        pieces = [listed[first : first + _REMOVED] for first in range(0, len(listed), _REMOVED)]
        running = [self._pool().submit(self._remove, piece) for piece in pieces]
        # Also if one fails: nobody removes anything any more when this has ended.
        wait(running)
        return sum(each.result() for each in running)

    def _remove(self, digests: list[str]) -> int:
        size = 0
        for digest in digests:
            place = self._place(digest)
            try:
                found = os.lstat(place).st_size
                os.unlink(place)
            except FileNotFoundError:
                continue
            except OSError as fault:
                raise translate(fault, place) from fault
            size += found
        return size

    def clear_temporary(self) -> int:
        """Remove drafts that a crash left; how many. Only while nobody else writes."""
        removed = 0
        with translated(self.path):
            if not os.path.exists(self.path / _WRITING):
                return 0
            with os.scandir(self.path) as items:
                shards = [item.path for item in items if item.is_dir(follow_symlinks=False)]
            for directory in (self._prefix, *shards):
                with os.scandir(directory) as items:
                    drafts = [item.path for item in items if item.name.startswith(TEMPORARY)]
                for draft in drafts:
                    os.unlink(draft)
                removed += len(drafts)
            os.unlink(self.path / _WRITING)
        self._marked = False
        return removed

    def _place(self, sha256: str) -> str:
        if not is_digest(sha256):
            raise StoreDamaged(f"not a SHA-256: {sha256[:100]!r}")
        return f"{self._prefix}{sha256[:2]}/{sha256[2:]}"

    def _new_draft(self, shard: str) -> tuple[str, int]:
        """Make a file to be renamed: in its shard, for renaming across directories costs twice as much."""
        if not self._marked:
            self._mark()
        draft = f"{self._prefix}{shard}/{TEMPORARY}{self._token}-{next(self._numbers)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            return draft, os.open(draft, flags, 0o400)
        except FileNotFoundError:
            make_directory(self.path / shard)
            return draft, os.open(draft, flags, 0o400)

    def _mark(self) -> None:
        """Leave word that drafts may lie around, so that a start after a clean end need not look into each shard."""
        os.close(os.open(self.path / _WRITING, os.O_WRONLY | os.O_CREAT, 0o600))
        self._marked = True

    def _publish(self, draft: str, sha256: str) -> None:
        place = self._place(sha256)
        self.gate.wait(sha256)
        try:
            rename(draft, place)
        except FileNotFoundError:
            make_directory(Path(place).parent)
            rename(draft, place)

    def _pool(self) -> ThreadPoolExecutor:
        with self._hashers_lock:
            if not self._hashers:
                self._hashers = ThreadPoolExecutor(_HASHERS, thread_name_prefix="hash")
            return self._hashers


class _Verifying(io.RawIOBase):
    """Decompresses one object and proves its digest when its end is reached."""

    def __init__(self, file: int, sha256: str, size: int | None) -> None:
        self._file = file
        self._sha256 = sha256
        self._size = size
        self._done = 0
        self._digest = hashlib.sha256()
        self._source = open(file, "rb", buffering=0)  # noqa: SIM115 - closed by close()
        self._frames = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(
            self._source, read_size=_MAX_READ, read_across_frames=True, closefd=False
        )

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill `buffer` as far as the content goes; 0 at its end."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        try:
            got = self._frames.readinto(view)
        except zstandard.ZstdError as fault:
            raise damaged(self._sha256, str(fault)) from None
        except OSError as fault:
            raise translate(fault, f"object {self._sha256}") from fault
        if got:
            self._done += got
            if self._size is not None and self._done > self._size:
                raise damaged(self._sha256, f"it holds more than {self._size} bytes")
            self._digest.update(view[:got])
        elif self._digest.hexdigest() != self._sha256:
            raise damaged(self._sha256, "its content has another digest, or its end is missing")
        elif self._size is not None and self._done != self._size:
            raise damaged(self._sha256, f"it holds {self._done} bytes, not {self._size}")
        return got

    def close(self) -> None:
        """Close the object's file."""
        self._source.close()
        super().close()


def _changed(size: int, done: int) -> StoreError:
    return StoreError(f"a file changed while it was made an object: {size} bytes, then {done} or more")
