"""Manifest files: a header and entries as JSON lines, in two zstd frames, written and read as streams.

Decides the form of the lines and what a sound sequence of entries is. Which manifest refers to which, and where they
lie, is decided by others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from math import floor
from typing import Any, BinaryIO, Final

import msgspec
import zstandard

from pyrsyncbackup_collector.entry import (
    DIRECTORY,
    FILE,
    MAX_NAME,
    MAX_PATH,
    TYPES,
    Entry,
    is_digest,
    order,
    printable,
    text_or_bytes,
)
from pyrsyncbackup_collector.errors import BackupError, StoreDamaged
from pyrsyncbackup_collector.store.faults import translate
from pyrsyncbackup_collector.store.snapshot import Change, Facts, Problem, Totals

MANIFEST_FORMAT: Final = "pyrsyncbackup-manifest-1"
# The longest line: a message of an agent has at most 4 MB, a third more in base64.
MAX_LINE: Final = 8 << 20
# Read and decoded at once; small enough to stay in a core's cache, large enough to make calls cheap.
_BLOCK: Final = 256 << 10
_BATCH: Final = 1000
# Level 3 uses 2 MiB; a frame that wants more of our memory was not written by us.
_MAX_WINDOW: Final = 8 << 20
_LEVEL: Final = 3
_BAD_NAMES: Final = frozenset({b"", b".", b".."})
# Where the integers of SQLite end: anyone can make a sparse file of eight exabytes.
_MAX_INTEGER: Final = 2**63 - 1


class PathField(msgspec.Struct, frozen=True, omit_defaults=True):
    """A path in a header, as in an entry."""

    path_text: str = msgspec.field(default="", name="path")
    path_b64: bytes = b""

    @classmethod
    def of(cls, path: bytes) -> PathField:
        """From bytes."""
        return cls(*text_or_bytes(path))

    @property
    def path(self) -> bytes:
        """As bytes."""
        return self.path_b64 or self.path_text.encode()


class Alias(msgspec.Struct, frozen=True):
    """`alias` is how the definition names `root`."""

    alias: PathField
    root: PathField


class Trouble(PathField, frozen=True, omit_defaults=True):
    """A Problem in a header."""

    kind: str = ""
    message: str = ""


class Removal(PathField, frozen=True, omit_defaults=True):
    """A line of a delta that takes a path away; for any other line, `removed` is false."""

    removed: bool = False


class Base(msgspec.Struct, frozen=True):
    """The full manifest that a delta refers to."""

    name: str
    digest: str


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """First line of a manifest. Times are the collector's; `lines` counts what follows."""

    format: str
    kind: str
    host: str
    module: str
    sequence: int
    time_s: int
    time_ns: int
    state: str
    totals: Totals
    lines: int
    base: Base | None = None
    title: str = ""
    roots: tuple[PathField, ...] = ()
    aliases: tuple[Alias, ...] = ()
    excludes: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    problems: tuple[Trouble, ...] = ()
    share: bool = True

    @property
    def time(self) -> float:
        """Seconds since 1970."""
        return self.time_s + self.time_ns / 1e9

    def facts(self) -> Facts:
        """The part that describes the module."""
        return Facts(
            title=self.title,
            roots=tuple(r.path for r in self.roots),
            aliases=tuple((a.alias.path, a.root.path) for a in self.aliases),
            excludes=self.excludes,
            includes=self.includes,
            problems=tuple(Problem(p.path, p.kind, p.message) for p in self.problems),
            share=self.share,
        )


def described(facts: Facts) -> dict[str, Any]:
    """`facts` as fields of a Header."""
    return {
        "title": facts.title,
        "roots": tuple(PathField.of(r) for r in facts.roots),
        "aliases": tuple(Alias(PathField.of(a), PathField.of(r)) for a, r in facts.aliases),
        "excludes": facts.excludes,
        "includes": facts.includes,
        "problems": tuple(Trouble(*text_or_bytes(p.path), p.kind, p.message) for p in facts.problems),
        "share": facts.share,
    }


def split_time(time: float) -> tuple[int, int]:
    """Seconds, rounded down, and the nanoseconds above them."""
    seconds = floor(time)
    return seconds, min(999_999_999, round((time - seconds) * 1e9))


_encoder = msgspec.json.Encoder()
_entries = msgspec.json.Decoder(Entry)
_removal = msgspec.json.Decoder(Removal)
_header = msgspec.json.Decoder(Header)


def write_header(file: BinaryIO, header: Header) -> None:
    """Write the frame of the header."""
    file.write(zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(_encoder.encode(header) + b"\n"))


class BodyWriter:
    """Writes the frame of the lines; `lines` counts them. `close` ends the frame, not the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()
        self._waiting: list[Entry | Removal] = []
        self.lines = 0

    def add(self, change: Change) -> None:
        """Write one line of a delta."""
        line = change.entry if change.entry is not None else Removal(*text_or_bytes(change.path), True)
        self._waiting.append(line)
        if len(self._waiting) >= _BATCH:
            self._flush()

    def extend(self, entries: Iterable[Entry]) -> None:
        """Write entries."""
        source = iter(entries)
        while batch := list(islice(source, _BATCH)):
            self._waiting.extend(batch)
            self._flush()

    def close(self) -> None:
        """End the frame."""
        self._flush()
        self._file.write(self._frame.flush())

    def _flush(self) -> None:
        self.lines += len(self._waiting)
        self._file.write(self._frame.compress(_encoder.encode_lines(self._waiting)))
        self._waiting.clear()


class ManifestReader:
    """Reads one manifest from `file`, which stays open and is read from its beginning; `place` is for errors.

    Reading raises StoreDamaged for whatever does not fit the format. The lines can be read once.
    """

    def __init__(self, file: BinaryIO, place: str) -> None:
        self._place = place
        self._blocks = _line_blocks(file, place)
        self.header, self._rest = self._read_header()

    def _read_header(self) -> tuple[Header, bytes]:
        first = next(self._blocks, b"")
        line, _, rest = first.partition(b"\n")
        try:
            header = _header.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
            raise StoreDamaged(f"{self._place} has no valid header: {fault}") from None
        if header.format != MANIFEST_FORMAT or header.kind not in ("full", "delta"):
            raise StoreDamaged(f"{self._place} has an unknown format: {header.format!r}, {header.kind!r}")
        if (header.kind == "delta") != (header.base is not None):
            raise StoreDamaged(f"{self._place} is a {header.kind} and names {header.base}")
        return header, rest

    def entries(self) -> Iterator[Entry]:
        """The lines of a full manifest, not checked for order."""
        return read_entries(self._lines(), self._place, self.header.lines)

    def changes(self) -> Iterator[Change]:
        """The lines of a delta, in strictly increasing order."""
        return read_changes(self._lines(), self._place, self.header.lines)

    def _lines(self) -> Iterator[bytes]:
        if self._rest:
            yield self._rest
        yield from self._blocks


def read_body(file: BinaryIO, place: str, lines: int) -> Iterator[Change]:
    """The lines of a delta's body that lies in `file` without a header."""
    return read_changes(_line_blocks(file, place), place, lines)


def read_entries(blocks: Iterable[bytes], place: str, lines: int) -> Iterator[Entry]:
    """Decode blocks of whole lines into exactly `lines` entries."""
    count = 0
    try:
        for block in blocks:
            batch = _entries.decode_lines(block)
            count += len(batch)
            yield from batch
    except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
        raise StoreDamaged(f"{place}, near line {count + 2}: {fault}") from None
    if count != lines:
        raise StoreDamaged(f"{place} has {count} entries, its header says {lines}")


def read_changes(blocks: Iterable[bytes], place: str, lines: int) -> Iterator[Change]:
    """Decode blocks of whole lines into exactly `lines` changes in strictly increasing order."""
    count, last = 0, b""
    for block in blocks:
        for line in block[:-1].split(b"\n"):
            try:
                removal = _removal.decode(line)
                change = Change(removal.path, None if removal.removed else _entries.decode(line))
            except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
                raise StoreDamaged(f"{place}, line {count + 2}: {fault}") from None
            key = order(change.path)
            if key <= last:
                raise StoreDamaged(f"{place}, line {count + 2}: not in order: {printable(change.path)}")
            last = key
            count += 1
            yield change
    if count != lines:
        raise StoreDamaged(f"{place} has {count} lines, its header says {lines}")


def _line_blocks(file: BinaryIO, place: str) -> Iterator[bytes]:
    """What the frames in `file` hold, in blocks of whole lines, the header's line at the start of the first."""
    reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(
        file, read_size=_BLOCK, read_across_frames=True, closefd=False
    )
    parts: list[bytes] = []
    held = 0
    try:
        while block := reader.read(_BLOCK):
            end = block.rfind(b"\n") + 1
            if end:
                yield b"".join([*parts, block[:end]])
                parts, held = [], 0
            if end < len(block):
                parts.append(block[end:])
                held += len(block) - end
                if held > MAX_LINE:
                    raise StoreDamaged(f"{place} has a line of over {MAX_LINE} bytes")
    except zstandard.ZstdError as fault:
        raise StoreDamaged(f"{place} is not sound: {fault}") from None
    except OSError as fault:
        raise translate(fault, place) from fault
    if parts:
        raise StoreDamaged(f"{place} ends in the middle of a line")


def damaged(cause: str) -> BackupError:
    """What reading raises for entries that do not fit."""
    return StoreDamaged(cause)


def checked(entries: Iterable[Entry], place: str, fault: Callable[[str], BackupError] = damaged) -> Iterator[Entry]:
    """`entries` as they come, as long as they are a sound snapshot.

    That is: in strictly increasing order, the parent of each a directory among them, names plain, types known, digests
    of the right form. Otherwise raise what `fault` makes of the cause.
    """
    last, top = b"", b""
    above: list[bytes] = []
    for entry in entries:
        path = entry.path_b64 or entry.path_text.encode()
        key = path.replace(b"/", b"\0")
        if key <= last:
            raise fault(f"{place}: not in order: {printable(path[:200])}")
        last = key
        parent, _, name = path.rpartition(b"/")
        while parent != top:
            if not above:
                raise fault(f"{place}: its parent is no directory: {printable(path[:200])}")
            top = above.pop()
        if name in _BAD_NAMES or path[0] == 47 or len(name) > MAX_NAME or len(path) > MAX_PATH or 0 in path:
            raise fault(f"{place}: impossible path: {printable(path[:200])}")
        if entry.type == FILE:
            digest = entry.sha256
            if digest and not is_digest(digest):
                raise fault(f"{place}: not a digest: {printable(digest[:100])}")
        elif entry.type == DIRECTORY:
            above.append(top)
            top = path
        elif entry.type not in TYPES:
            raise fault(f"{place}: unknown type {printable(entry.type[:50])}: {printable(path[:200])}")
        yield entry


def overlay(
    base: Iterable[Entry], delta: Iterable[Change], record: Callable[[Change], None] | None = None
) -> Iterator[Entry]:
    """`base` changed by `delta`, both in order, in one pass.

    `record` is given each change that makes a difference to `base`. Without it, a removal of what `base` does not have
    raises StoreDamaged: a delta in a store has none.
    """
    source = iter(base)
    lower = next(source, None)
    for change in delta:
        key = order(change.path)
        while lower is not None and (lower_key := order(lower.path)) < key:
            yield lower
            lower = next(source, None)
        found = lower if lower is not None and lower_key == key else None
        if found is not None:
            lower = next(source, None)
        if change.entry is not None:
            if record and change.entry != found:
                record(change)
            yield change.entry
        elif found is not None and record:
            record(change)
        elif found is None and not record:
            raise StoreDamaged(f"a delta removes what its base does not have: {printable(change.path)}")
    if lower is not None:
        yield lower
    yield from source


def merged(lower: Iterable[Change], upper: Iterable[Change]) -> Iterator[Change]:
    """Two lists of changes in order as one; where both name a path, `upper` counts."""
    source = iter(lower)
    held = next(source, None)
    for change in upper:
        key = order(change.path)
        while held is not None and (held_key := order(held.path)) < key:
            yield held
            held = next(source, None)
        if held is not None and held_key == key:
            held = next(source, None)
        yield change
    if held is not None:
        yield held
    yield from source


class Count:
    """Adds up the totals of entries that pass through."""

    def __init__(self) -> None:
        self._entries = self._files = self._size = self._stale = self._changing = self._unreadable = 0

    def through(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """`entries`, counted. A content with several hard links counts once in the size."""
        for entry in entries:
            self._entries += 1
            if entry.type == FILE:
                self._files += 1
                if not (entry.link_to_text or entry.link_to_b64):
                    self._size += entry.size
            if entry.stale:
                self._stale += 1
            if entry.changing:
                self._changing += 1
            if entry.error:
                self._unreadable += 1
            yield entry

    def totals(self) -> Totals:
        """What passed so far."""
        size = min(self._size, _MAX_INTEGER)
        return Totals(self._entries, self._files, size, self._stale, self._changing, self._unreadable)
