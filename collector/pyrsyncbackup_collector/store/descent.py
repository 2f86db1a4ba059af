"""The way down a target in the order of a manifest: a stack of open directories, however deep the tree.

Decides which directories are open, and says when one is left. What is made, looked at or removed in them is decided
by who goes down: `restore`, `restore_plan`, `restore_check`.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pyrsyncbackup_collector.entry import Entry, order, printable
from pyrsyncbackup_collector.errors import RestoreError, StoreDamaged
from pyrsyncbackup_collector.store import beneath

# Directories held open at a time; the usual limit of open files is 1024.
_MAX_OPEN: Final = 200
# What a level has instead of a descriptor: it could not be made, it would be made, it is closed to save descriptors.
NOT_MADE: Final = -1
ABSENT: Final = -2
_PARKED: Final = -3


@dataclass(slots=True)
class Taken:
    """The names that a directory held before, and those that were made there or found the same since."""

    known: set[bytes]
    folded: set[str] = field(default_factory=set)

    def add(self, name: bytes) -> None:
        """Count this one as ours."""
        self.known.add(name)
        self.folded.add(_folded(name))

    def is_another(self, name: bytes) -> bool:
        """Whether `name`, if something has it, is one of ours: the file system takes README and readme for one.

        By the names alone: such file systems often have no inode numbers to be asked for.
        """
        return name not in self.known and _folded(name) in self.folded


def _folded(name: bytes) -> str:
    return unicodedata.normalize("NFC", os.fsdecode(name)).casefold()


@dataclass(slots=True)
class Level:
    """A directory on the way down.

    `fresh`: nothing was in it before. `entry` is what it gets its attributes from when it is left; None where they are
    not ours to give. `strangers` are the names in it that no entry has claimed yet, where somebody asks for them, and
    `names` what is in it, where something may be replaced.
    """

    path: bytes
    fd: int
    entry: Entry | None = None
    fresh: bool = False
    gives_acls: bool = False
    strangers: set[bytes] | None = None
    names: Taken | None = None
    # Device and inode while parked.
    identity: tuple[int, int] = (0, 0)


class Descent:
    """The stack; the lowest level is the target and stays open. `leave` is called with each other that is left open."""

    def __init__(self, target: Level, leave: Callable[[Level], None] = lambda _: None) -> None:
        self._levels = [target]
        self._on_leave = leave
        self._last = b""

    @property
    def target(self) -> Level:
        """The level that everything is below."""
        return self._levels[0]

    def at(self, path: bytes) -> tuple[Level, bytes]:
        """Go to the directory that holds `path`; return its level, and the name there.

        Raises StoreDamaged where the path is impossible, out of order, or without its directory.
        """
        beneath.split(path)
        key = order(path)
        if key <= self._last:
            raise StoreDamaged(f"the snapshot is not in order at {printable(path)}")
        self._last = key
        directory, _, name = path.rpartition(b"/")
        while self._levels[-1].path != directory:
            if len(self._levels) == 1:
                raise StoreDamaged(f"the snapshot has no directory for {printable(path)}")
            self._leave()
        return self._levels[-1], name

    def enter(self, level: Level) -> None:
        """Go on in this directory."""
        self._levels.append(level)
        if len(self._levels) > _MAX_OPEN + 1:
            # The target itself stays open: hard links are looked up from there.
            outer = self._levels[-_MAX_OPEN - 1]
            if outer.fd >= 0:
                status = os.fstat(outer.fd)
                outer.identity = (status.st_dev, status.st_ino)
                os.close(outer.fd)
                outer.fd = _PARKED

    def up(self) -> None:
        """Leave everything but the target."""
        while len(self._levels) > 1:
            self._leave()

    def close(self) -> None:
        """Close what is open, without a word to anybody."""
        while self._levels:
            level = self._levels.pop()
            if level.fd >= 0:
                os.close(level.fd)

    def _leave(self) -> None:
        level = self._levels.pop()
        if level.fd < 0:
            return
        try:
            if self._levels[-1].fd == _PARKED:
                self._unpark(self._levels[-1], level.fd)
            self._on_leave(level)
        finally:
            os.close(level.fd)

    def _unpark(self, outer: Level, inner: int) -> None:
        """Open again the directory that holds `inner`, if it still is the same."""
        fd = beneath.open_above(inner)
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != outer.identity:
            os.close(fd)
            raise RestoreError(f"{printable(outer.path[:200])} was moved while it was restored", "what is there stays")
        outer.fd = fd
