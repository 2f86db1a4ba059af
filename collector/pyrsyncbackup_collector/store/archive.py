"""Writes entries as an archive, as one stream and in bounded memory: what goes in, what cannot, and in which order.

The archive's own form is the writer's (`tar`, `zip`). A member's size is promised before its content, so every content
is proven first: a small one is read as a whole, a large one is read twice. What is damaged is left out and told, and
the archive stays well formed. If a content that was proven fails while it is written, the archive ends there, without
its end mark.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from pyrsyncbackup_collector.entry import DIRECTORY, FILE, Entry, order, printable
from pyrsyncbackup_collector.errors import RestoreError, StoreDamaged
from pyrsyncbackup_collector.store import acl, attributes, beneath
from pyrsyncbackup_collector.store.filling import CHUNK, Objects, extents
from pyrsyncbackup_collector.store.hashes import Hashes
from pyrsyncbackup_collector.store.read_ahead import ReadAhead
from pyrsyncbackup_collector.store.restore_report import Reason, Tally
from pyrsyncbackup_collector.store.survey import held_at, left_out

Progress = Callable[[int, int], None]
Extents = list[tuple[int, int]]

_SET_ID: Final = 0o6000
_CAPABILITY: Final = "security.capability"
# A file of more pieces is written with its holes filled.
_MAX_EXTENTS: Final = 10_000


class Writer(Protocol):
    """One archive. Raises OSError where it cannot be written, ValueError for what it cannot express."""

    # Types of entries that it can hold.
    held: frozenset[str]
    # Whether holes are kept, names of one file hold together, and xattrs have a place.
    knows_holes: bool
    knows_links: bool
    knows_xattrs: bool

    def cannot_hold(self, entry: Entry) -> str:
        """Why this entry is not for this kind of archive, or nothing."""
        ...

    def add(
        self,
        entry: Entry,
        mode: int,
        xattrs: dict[str, bytes],
        size: int,
        content: Iterable[bytes],
        holes: Extents | None,
    ) -> None:
        """One member; `content` is `size` bytes, without what is in holes where `holes` says what is around them."""
        ...

    def link(self, entry: Entry, mode: int, xattrs: dict[str, bytes], first: bytes) -> None:
        """One more name of the member `first`."""
        ...

    def end(self) -> None:
        """The end mark."""
        ...


def write_archive(
    entries: Iterable[Entry],
    objects: Objects,
    writer: Writer,
    *,
    special: bool = False,
    progress: Progress | None = None,
) -> Tally:
    """Write all of `entries` (in manifest order), then the end. What could not be written is in the tally.

    `special` as for a restore into a directory. Raises StoreDamaged for a manifest out of order, or for a content that
    was sound when it was proven and is not any more; RestoreError where the archive cannot be written.
    """
    ahead = ReadAhead(objects)
    try:
        writing = _Writing(ahead, writer, special, progress or (lambda _entries, _bytes: None))
        for entry in ahead.over(entries):
            try:
                writing.place(entry)
            except OSError as error:
                if isinstance(error, BrokenPipeError):
                    raise
                cause = f"cannot write the archive, at {printable(entry.path)}: {error.strerror or error}"
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                hint = "make room, then start again" if full else "look at where it goes, then start again"
                raise RestoreError(cause, hint) from error
    finally:
        ahead.close()
    writer.end()
    return writing.tally


class _Writing:
    """One run."""

    def __init__(self, objects: ReadAhead, writer: Writer, special: bool, progress: Progress) -> None:
        self.tally = Tally()
        self._objects = objects
        self._writer = writer
        self._special = special
        self._progress = progress
        self._last = b""
        self._above: list[bytes] = []
        # Hashes of the paths in it, and what stands for the first name of a hard link that is not.
        self._made = Hashes()
        self._instead: dict[bytes, bytes] = {}

    def place(self, entry: Entry) -> None:
        """Write one entry, or note why not."""
        self._check_place(entry)
        if lost := left_out(entry, special=self._special):
            self.tally.note(entry.path, lost.reason or Reason.FAILED, lost.what, entry.error)
            return
        why = self._writer.cannot_hold(entry)
        if why or entry.type not in self._writer.held:
            self.tally.note(entry.path, Reason.CANNOT_HOLD, why or f"{entry.type}s")
            return
        try:
            self._write(entry)
        except StoreDamaged as error:
            self.tally.note(entry.path, Reason.DAMAGED, detail=error.cause)
            return
        except (ValueError, OverflowError):
            self.tally.note(entry.path, Reason.FAILED, "impossible value in the snapshot")
            return
        self.tally.counts[entry.type] += 1
        self._progress(1, 0)
        self._made.add(held_at(entry.path, entry))
        if entry.link_to:
            self._instead.setdefault(entry.link_to, entry.path)
        self.tally.note_state(entry)

    def _check_place(self, entry: Entry) -> None:
        path = entry.path
        beneath.split(path)
        key = order(path)
        if key <= self._last:
            raise StoreDamaged(f"the snapshot is not in order at {printable(path)}")
        self._last = key
        directory = path.rpartition(b"/")[0]
        while self._above and self._above[-1] != directory:
            self._above.pop()
        if directory and not self._above:
            raise StoreDamaged(f"the snapshot has no directory for {printable(path)}")
        if entry.type == DIRECTORY:
            self._above.append(path)

    def _write(self, entry: Entry) -> None:
        mode, xattrs = self._attributes(entry)
        first = self._instead.get(entry.link_to, entry.link_to)
        if first and held_at(first, entry) in self._made:
            if self._writer.knows_links:
                self._writer.link(entry, mode, xattrs, first)
                return
            self.tally.note(entry.path, Reason.LINK)
        if entry.type != FILE:
            self._writer.add(entry, mode, xattrs, 0, (), None)
            return
        size, holes, content = self._proven(entry)
        self._writer.add(entry, mode, xattrs, size, self._told(content), holes)
        self.tally.size += size

    def _proven(self, entry: Entry) -> tuple[int, Extents | None, Iterable[bytes]]:
        """Size, what is around holes, and the content, all of which was read once and is right."""
        try:
            return self._read_through(entry, proven=False)
        except StoreDamaged:
            if not entry.chunks:
                raise
        return self._read_through(entry, proven=True)

    def _read_through(self, entry: Entry, *, proven: bool) -> tuple[int, Extents | None, Iterable[bytes]]:
        if self._writer.knows_holes and entry.allocated < entry.size:
            found: Extents = []
            for extent in extents(self._objects.content(entry, proven=proven)):
                if len(found) > _MAX_EXTENTS:
                    found.pop()
                found.append(extent)
            size = found[-1][0]
            if len(found) <= _MAX_EXTENTS:
                return size, found, _parts(self._again(entry, proven=proven), found)
            return size, None, self._again(entry, proven=proven)
        if entry.size <= CHUNK and not entry.changing:
            data = self._objects.read_entry(entry)
            return len(data), None, (data,) if data else ()
        size = sum(map(len, self._objects.content(entry, proven=proven)))
        return size, None, self._again(entry, proven=proven)

    def _again(self, entry: Entry, *, proven: bool) -> Iterator[bytes]:
        try:
            yield from self._objects.content(entry, proven=proven)
        except StoreDamaged as error:
            raise RestoreError(
                f"the archive ends at {printable(entry.path)}: {error.cause}",
                "it was sound when it was read a moment ago: look at the store's disk, then start again",
            ) from error

    def _told(self, content: Iterable[bytes]) -> Iterator[bytes]:
        for piece in content:
            yield piece
            self._progress(0, len(piece))

    def _attributes(self, entry: Entry) -> tuple[int, dict[str, bytes]]:
        mode, xattrs = entry.mode & 0o7777, dict(entry.xattrs)
        if mode & _SET_ID and not attributes.has_owner(entry):
            self.tally.note(entry.path, Reason.ATTRIBUTE, "set-id bits: not without the right owner")
            mode &= ~_SET_ID
        for name in attributes.ACLS:
            if name in xattrs and not acl.is_one(xattrs[name]):
                self.tally.note(entry.path, Reason.ATTRIBUTE, "ACL: impossible value")
                del xattrs[name]
        if not self._special:
            if mode & _SET_ID:
                self.tally.note(entry.path, Reason.SPECIAL, "set-id bits")
                mode &= ~_SET_ID
            if xattrs.pop(_CAPABILITY, None) is not None:
                self.tally.note(entry.path, Reason.SPECIAL, "file capabilities")
        if xattrs and not self._writer.knows_xattrs:
            self.tally.note(entry.path, Reason.ATTRIBUTE, "ACLs and xattrs")
        return mode, xattrs


def _parts(content: Iterable[bytes], wanted: Extents) -> Iterator[bytes]:
    """What lies in the extents `wanted` of a content that comes in pieces."""
    remaining = iter(wanted)
    begin, size = next(remaining)
    at = 0
    for piece in content:
        end = at + len(piece)
        while size and begin < end:
            upto = min(begin + size, end)
            yield piece[begin - at : upto - at]
            begin, size = upto, begin + size - upto
            if not size:
                begin, size = next(remaining)
        at = end
