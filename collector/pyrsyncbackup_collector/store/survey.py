"""Looks at what lies in a target and says what becomes of each entry; changes nothing.

The rules are in `overwrite`. What has an entry's name counts as the same only if its content, read now, has the
entry's digest, and its attributes are those that a restore would give.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

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
)
from pyrsyncbackup_collector.store import attributes, beneath, overwrite
from pyrsyncbackup_collector.store.descent import ABSENT, Level
from pyrsyncbackup_collector.store.hashes import Hashes
from pyrsyncbackup_collector.store.overwrite import Action, Decision, Overwrite, Present
from pyrsyncbackup_collector.store.restore_report import Reason
from pyrsyncbackup_collector.store.unfinished import NAME, Traces

DEVICES: Final = {CHARACTER_DEVICE: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK}
_TYPES: Final = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFIFO: FIFO,
    stat.S_IFSOCK: SOCKET,
    stat.S_IFCHR: CHARACTER_DEVICE,
    stat.S_IFBLK: BLOCK_DEVICE,
}

# What a host calls so would be taken for our own the next time, or be in its way.
_OURS: Final = Decision(Action.KEEP, Reason.EXISTS, "the name of what a restore itself keeps there")


def _never(_: Entry) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Rules:
    """How a restore deals with what is in its target.

    `exact`: nothing but the snapshot stays, and everything gives way to it (a mirror). `unchanged` says of an entry
    that the same restore wrote its content before, so that it need not be read again to be believed.
    """

    rights: attributes.Rights
    overwrite: Overwrite = Overwrite.NEVER
    exact: bool = False
    unchanged: Callable[[Entry], bool] = _never


def left_out(entry: Entry, *, special: bool) -> Decision | None:
    """Why this entry is not restored anywhere; None if it is."""
    if entry.type == UNKNOWN or (entry.type == FILE and not entry.sha256):
        return Decision(Action.LEAVE_OUT, Reason.NEVER_READ)
    if entry.type in DEVICES and not special:
        return Decision(Action.LEAVE_OUT, Reason.SPECIAL, "devices")
    return None


def held_at(path: bytes, entry: Entry) -> int:
    """A hash of a path and of what lies there: what is to be a hard link, and is not the same, is made on its own."""
    return hash((path, entry.type, entry.sha256, entry.target_text, entry.target_b64))


class Names:
    """The paths that are there by this restore, or were found the same: the only ones a hard link may be made to."""

    def __init__(self, target: int) -> None:
        self._target = target
        # Hashes, as there may be millions.
        self._made = Hashes()
        # The first name of a hard link as the manifest has it -> the path that is there in its place.
        self._instead: dict[bytes, bytes] = {}

    def add(self, entry: Entry) -> None:
        """Count this one as there."""
        if entry.type != DIRECTORY:
            self._made.add(held_at(entry.path, entry))
            if entry.link_to:
                self._instead.setdefault(entry.link_to, entry.path)

    def __contains__(self, entry: Entry) -> bool:
        """Whether this one is there."""
        return held_at(entry.path, entry) in self._made

    def first(self, entry: Entry) -> bytes:
        """The path that `entry` is to be linked to; nothing if it is to be a file of its own."""
        source = self._instead.get(entry.link_to, entry.link_to)
        return source if source and held_at(source, entry) in self._made else b""

    def linked(self, entry: Entry, status: os.stat_result) -> bool:
        """Whether what has this status is the inode that `entry` is to be linked to, if it is to be linked."""
        first = self.first(entry)
        if not first:
            return True
        *directories, name = beneath.split(first)
        try:
            fd = beneath.open_below(self._target, directories)
        except OSError:
            return False
        try:
            there = beneath.status(fd, name)
        finally:
            os.close(fd)
        return there is not None and (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino)


class Survey:
    """Decides for one target."""

    def __init__(self, rules: Rules, traces: Traces, names: Names) -> None:
        self._rules = rules
        self._traces = traces
        self._names = names

    def decide(self, level: Level, name: bytes, entry: Entry) -> Decision:
        """What becomes of `entry` under `name` in the open directory of `level`."""
        if lost := left_out(entry, special=self._rules.rights.special):
            return lost
        if entry.path == NAME:
            return _OURS
        if level.fresh or level.fd == ABSENT:
            return overwrite.MAKE
        present = self._look(level, name, entry)
        decision = overwrite.decide(entry, present, self._rules.overwrite)
        if self._rules.exact and decision.action is Action.KEEP:
            return Decision(Action.REPLACE, Reason.REPLACED)
        return decision

    def _look(self, level: Level, name: bytes, entry: Entry) -> Present | None:
        status = beneath.status(level.fd, name)
        if status is None:
            return None
        kind = _TYPES.get(stat.S_IFMT(status.st_mode), "")
        same = kind == entry.type and self._is_same(level.fd, name, status, entry)
        empty = unfinished = False
        if kind == DIRECTORY:
            empty = entry.type != DIRECTORY and _is_empty(level.fd, name)
            unfinished = entry.type == DIRECTORY and not same and self._is_unfinished(status, entry)
        return Present(kind, status.st_mtime_ns, same, empty, unfinished)

    def _is_unfinished(self, status: os.stat_result, entry: Entry) -> bool:
        ours = status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700
        return ours and self._traces.made(entry.path)

    def _is_same(self, directory: int, name: bytes, status: os.stat_result, entry: Entry) -> bool:
        if entry.link_to and not self._names.linked(entry, status):
            return False
        if entry.type == SYMLINK and os.fsencode(os.readlink(name, dir_fd=directory)) != entry.target:
            return False
        if entry.type in DEVICES and (os.major(status.st_rdev), os.minor(status.st_rdev)) != entry.rdev:
            return False
        if entry.type == FILE and status.st_size != entry.size and not entry.changing:
            return False
        try:
            with beneath.held(directory, name) as handle:
                if not attributes.fits(status, handle, entry, self._rules.rights):
                    return False
            return entry.type != FILE or self._rules.unchanged(entry) or content_is(directory, name, entry.sha256)
        except OSError:
            # What cannot be looked at is not known to be the same.
            return False


def content_is(directory: int, name: bytes, sha256: str) -> bool:
    """Whether the file has this content, read now. OSError where it cannot be read."""
    fd = beneath.open_file(directory, name)
    with open(fd, "rb", buffering=0) as file:
        return stat.S_ISREG(os.fstat(fd).st_mode) and hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _is_empty(directory: int, name: bytes) -> bool:
    try:
        fd = beneath.open_directory(directory, name)
    except OSError:
        return False
    try:
        with os.scandir(fd) as items:
            return next(items, None) is None
    finally:
        os.close(fd)
