"""Restores entries below a target directory, trusting neither the manifest nor what lies in the target.

One pass in the order of the manifest, with a stack of open directories: an entry is made in the open directory that
holds it, by its one name (see `beneath`), and a directory gets its owner, mode and time when everything in it is
there. Until then it is 0700 and ours. Nothing that was in the target before is changed or replaced.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from pyrsyncbackup_collector.entry import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    SOCKET,
    SYMLINK,
    UNKNOWN,
    Entry,
    order,
    printable,
)
from pyrsyncbackup_collector.errors import RestoreError, StoreDamaged
from pyrsyncbackup_collector.store import attributes, beneath
from pyrsyncbackup_collector.store.restore_report import Reason, RestoreReport, Tally
from pyrsyncbackup_collector.store.selection import select

_CHUNK: Final = 256 * 1024
# The unit of holes: the block size of the usual file systems.
_BLOCK: Final = 4096
_ZERO_CHUNK: Final = bytes(_CHUNK)
_ZERO_BLOCK: Final = bytes(_BLOCK)
# Directories held open at a time, however deep the tree; the usual limit of open files is 1024.
_MAX_OPEN: Final = 200
_NOT_MADE: Final = -1
_PARKED: Final = -2
# Nothing more can be written, so there is no point in going on.
_FATAL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE})
_NO_LINK: Final = frozenset({errno.EMLINK, errno.EPERM, errno.EACCES, errno.ENOENT, errno.EXDEV, errno.EOPNOTSUPP})

_DEVICES: Final = {CHARACTER_DEVICE: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK}

# Called with what was added since the last call: entries, bytes. It may raise to stop the restore.
Progress = Callable[[int, int], None]


class Objects(Protocol):
    """Where content comes from: one thread asks, for one content after the other."""

    def read_entry(self, entry: Entry, /) -> bytes:
        """A small content as a whole, verified; StoreDamaged if it cannot be had or has another size."""
        ...

    def open_entry(self, entry: Entry, /) -> BinaryIO:
        """The content of a file's entry, to be closed by the caller; StoreDamaged if it cannot be had."""
        ...


def restore(
    entries: Iterable[Entry],
    objects: Objects,
    target: Path,
    *,
    paths: Sequence[bytes] = (),
    special: bool = False,
    owner: bool | None = None,
    progress: Progress | None = None,
) -> RestoreReport:
    """Restore `entries` (in manifest order) into the directory `target`, which is made (0700) if it is not there.

    `paths` selects some, each with all below it; none means all. `special` brings back devices, set-id bits and file
    capabilities too. `owner` gives numeric owners and groups; None means as root only.

    What cannot be restored is in the report and stops nothing else. Raises NotFound for a path that is not there
    (before anything is done), RestoreError when the target cannot be used or is full, StoreDamaged when the entries
    are not in order or an entry has no directory.
    """
    chosen = select(entries, paths) if paths else entries
    rights = attributes.Rights.of_this_process(owner=os.geteuid() == 0 if owner is None else owner, special=special)
    fd = beneath.open_target(target)
    restoration = _Restoration(fd, objects, rights, progress or (lambda _entries, _bytes: None))
    try:
        restoration.run(chosen)
    finally:
        restoration.close()
    return restoration.tally.report(target)


@dataclass(slots=True)
class _Level:
    """A directory on the way down; `entry` is None where its attributes are not ours to give.

    `fd` is _NOT_MADE where it could not be made, and _PARKED while it is closed to save descriptors.
    """

    path: bytes
    fd: int
    entry: Entry | None
    new: bool
    gives_acls: bool
    # Device and inode while parked.
    identity: tuple[int, int] = (0, 0)


class _Restoration:
    """One run: the stack of open directories, and what was done."""

    def __init__(self, target: int, objects: Objects, rights: attributes.Rights, progress: Progress) -> None:
        self.tally = Tally()
        self._objects = objects
        self._rights = rights
        self._progress = progress
        self._levels = [_Level(b"", target, None, new=False, gives_acls=beneath.inherits_acls(target))]
        self._temporary = beneath.temporary_name()
        self._last = b""
        # Hashes of the paths made in this run: the only ones a hard link may be made to.
        self._made: set[int] = set()
        # The first name of a hard link as the manifest has it -> the path that was made in its place.
        self._instead: dict[bytes, bytes] = {}

    def run(self, entries: Iterable[Entry]) -> None:
        """Make every entry, then give the directories that are still open their attributes."""
        for entry in entries:
            path = entry.path
            beneath.split(path)
            key = order(path)
            if key <= self._last:
                raise StoreDamaged(f"the snapshot is not in order at {printable(path)}")
            self._last = key
            directory, _, name = path.rpartition(b"/")
            self._leave_until(directory, path)
            self._place(self._levels[-1], name, path, entry)
        while len(self._levels) > 1:
            self._leave()

    def close(self) -> None:
        """Close what is open; after an error these directories stay as they are, 0700."""
        while self._levels:
            level = self._levels.pop()
            if level.fd >= 0:
                os.close(level.fd)

    def _leave_until(self, directory: bytes, path: bytes) -> None:
        while self._levels[-1].path != directory:
            if len(self._levels) == 1:
                raise StoreDamaged(f"the snapshot has no directory for {printable(path)}")
            self._leave()

    def _leave(self) -> None:
        level = self._levels.pop()
        if level.fd < 0:
            return
        try:
            if self._levels[-1].fd == _PARKED:
                self._unpark(self._levels[-1], level.fd)
            if level.entry is not None:
                self._apply(level.fd, level.path, level.entry)
        finally:
            os.close(level.fd)

    def _enter(self, level: _Level) -> None:
        self._levels.append(level)
        if len(self._levels) > _MAX_OPEN + 1:
            # The target itself stays open: hard links are looked up from there.
            outer = self._levels[-_MAX_OPEN - 1]
            status = os.fstat(outer.fd)
            outer.identity = (status.st_dev, status.st_ino)
            os.close(outer.fd)
            outer.fd = _PARKED

    def _unpark(self, outer: _Level, inner: int) -> None:
        """Open again the directory that holds `inner`, if it still is the same."""
        fd = beneath.open_above(inner)
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != outer.identity:
            os.close(fd)
            raise RestoreError(f"{printable(outer.path[:200])} was moved while it was restored", "what is there stays")
        outer.fd = fd

    def _place(self, level: _Level, name: bytes, path: bytes, entry: Entry) -> None:
        if level.fd < 0:
            self.tally.note(path, Reason.BELOW)
            if entry.type == DIRECTORY:
                self._levels.append(_Level(path, _NOT_MADE, None, new=False, gives_acls=False))
            return
        try:
            made = self._make(level, name, path, entry)
        except FileExistsError:
            self._lost(path, entry, Reason.EXISTS)
        except OSError as error:
            why = error.strerror or str(error)
            if error.errno in _FATAL:
                raise RestoreError(f"cannot restore {printable(path)}: {why}", "what is there so far stays") from error
            self._lost(path, entry, Reason.FAILED, why)
        except (OverflowError, ValueError):
            self._lost(path, entry, Reason.FAILED, "impossible value in the snapshot")
        except StoreDamaged as error:
            self._lost(path, entry, Reason.DAMAGED, detail=error.cause)
        else:
            if made:
                self._done(path, entry)

    def _lost(self, path: bytes, entry: Entry, reason: Reason, what: str = "", detail: str = "") -> None:
        self.tally.note(path, reason, what, detail)
        if entry.type == DIRECTORY:
            self._levels.append(_Level(path, _NOT_MADE, None, new=False, gives_acls=False))

    def _done(self, path: bytes, entry: Entry) -> None:
        self.tally.counts[entry.type] += 1
        self._progress(1, 0)
        if entry.type != DIRECTORY:
            self._made.add(hash(path))
            if entry.link_to:
                self._instead.setdefault(entry.link_to, path)
        if entry.stale:
            self.tally.note(path, Reason.STALE, detail=entry.error)
        elif entry.changing:
            self.tally.note(path, Reason.CHANGING)
        elif entry.error:
            self.tally.note(path, Reason.NEVER_READ, "its content" if entry.type == DIRECTORY else "", entry.error)

    def _make(self, level: _Level, name: bytes, path: bytes, entry: Entry) -> bool:
        """Make one entry; False where that is left out for a reason that was noted."""
        if entry.type == DIRECTORY:
            self._make_directory(level, name, path, entry)
            return True
        if entry.type == UNKNOWN or (entry.type == FILE and not entry.sha256):
            self.tally.note(path, Reason.NEVER_READ, detail=entry.error)
            return False
        if entry.type in _DEVICES and not self._rights.special:
            self.tally.note(path, Reason.SPECIAL, "devices")
            return False
        if entry.link_to and self._make_hard_link(level, name, path, entry.link_to):
            return True
        if entry.type == FILE:
            self._make_file(level, name, path, entry)
        else:
            self._make_node(level, name, path, entry)
        return True

    def _make_directory(self, level: _Level, name: bytes, path: bytes, entry: Entry) -> None:
        fd, new = beneath.enter(level.fd, name)
        if new:
            if level.gives_acls:
                beneath.drop_acls(fd)
            self._enter(_Level(path, fd, entry, new=True, gives_acls=False))
        else:
            self.tally.note(path, Reason.DIRECTORY_KEPT)
            self._enter(_Level(path, fd, None, new=False, gives_acls=beneath.inherits_acls(fd)))

    def _make_hard_link(self, level: _Level, name: bytes, path: bytes, first: bytes) -> bool:
        """Link to what was made for `first`; False where the content has to be restored on its own."""
        source = self._instead.get(first, first)
        if hash(source) not in self._made:
            return False
        *directories, source_name = beneath.split(source)
        try:
            fd = beneath.open_below(self._levels[0].fd, directories)
            try:
                beneath.link(fd, source_name, level.fd, name)
            finally:
                os.close(fd)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self.tally.note(path, Reason.LINK, error.strerror or "")
            return False
        return True

    def _make_file(self, level: _Level, name: bytes, path: bytes, entry: Entry) -> None:
        if not level.new and beneath.exists(level.fd, name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        with beneath.Draft(level.fd, self._temporary) as draft:
            if level.gives_acls:
                beneath.drop_acls(draft.fd)
            written = self._fill(draft.fd, entry)
            self._apply(draft.fd, path, entry)
            draft.publish(name)
        self.tally.size += written

    def _make_node(self, level: _Level, name: bytes, path: bytes, entry: Entry) -> None:
        if entry.type == SYMLINK:
            os.symlink(entry.target, name, dir_fd=level.fd)
        elif entry.type == FIFO:
            os.mkfifo(name, 0o600, dir_fd=level.fd)
        elif entry.type == SOCKET:
            os.mknod(name, stat.S_IFSOCK | 0o600, dir_fd=level.fd)
        elif entry.type in _DEVICES:
            os.mknod(name, _DEVICES[entry.type] | 0o600, os.makedev(*entry.rdev), dir_fd=level.fd)
        else:
            raise ValueError(entry.type)
        with beneath.node(level.fd, name) as handle:
            if level.gives_acls:
                beneath.drop_acls(handle)
            self._apply(handle, path, entry)

    def _apply(self, handle: int | str, path: bytes, entry: Entry) -> None:
        attributes.apply(handle, entry, self._rights, lambda reason, what: self.tally.note(path, reason, what))

    def _fill(self, fd: int, entry: Entry) -> int:
        """Write the content, with holes where the original had some; StoreDamaged unless its digest is the entry's."""
        sparse = entry.allocated < entry.size
        if entry.size <= _CHUNK and not entry.changing:
            data = self._objects.read_entry(entry)
            if sparse:
                _write_sparse(fd, data)
                os.ftruncate(fd, len(data))
            else:
                _write(fd, data)
            self._progress(0, len(data))
            return len(data)
        digest = hashlib.sha256()
        written = 0
        with self._objects.open_entry(entry) as content:
            for chunk in _chunks(content):
                digest.update(chunk)
                written += len(chunk)
                # An entry that was changing may have the size of another moment; its digest is of what was kept.
                if written > entry.size and not entry.changing:
                    raise StoreDamaged("the content is larger than the snapshot says")
                if sparse:
                    _write_sparse(fd, chunk)
                else:
                    _write(fd, chunk)
                self._progress(0, len(chunk))
        if digest.hexdigest() != entry.sha256:
            raise StoreDamaged("the content does not have the digest that the snapshot says")
        if sparse:
            os.ftruncate(fd, written)
        return written


def _chunks(content: BinaryIO) -> Iterator[bytes]:
    """All of it in pieces of exactly _CHUNK bytes but the last, so that blocks of zeros are found where they were."""
    while data := content.read(_CHUNK):
        while len(data) < _CHUNK and (more := content.read(_CHUNK - len(data))):
            data += more
        yield data


def _write(fd: int, data: bytes | memoryview) -> None:
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
        if block == (_ZERO_BLOCK if len(block) == _BLOCK else _ZERO_BLOCK[: len(block)]):
            _write(fd, view[begin:at])
            os.lseek(fd, len(block), os.SEEK_CUR)
            begin = at + len(block)
    _write(fd, view[begin:])
