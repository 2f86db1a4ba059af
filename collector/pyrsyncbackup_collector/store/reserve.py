"""Space set aside on the store's file system, so that a full one can still be pruned: a removal needs a line first."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

RESERVE: Final = "reserve"
# For the lines and heads of a prune, and for what the catalog writes of it where both share a file system: its
# write-ahead log is folded in at 4 MiB.
SIZE: Final = 8 << 20
# Given back at once: little enough that others on a full file system do not get much of it.
PIECE: Final = 256 << 10
# What the catalog may need for rows that go, before its write-ahead log is folded in.
REMOVAL: Final = SIZE // 2


class Reserve:
    """The file that holds the space. Where it cannot be had there is none: nothing here ever fails."""

    def __init__(self, store: Path) -> None:
        self.path = store / RESERVE

    def fill(self) -> None:
        """Set the space aside, as far as it is not, where as much again is left for others."""
        with contextlib.suppress(OSError):
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                size = os.fstat(file).st_size
                room = os.fstatvfs(file)
                # On a disk that is full this would take away what was given back.
                if size < SIZE and room.f_bavail * room.f_frsize > 2 * SIZE:
                    self._take(file, size)
            finally:
                os.close(file)

    def spend(self) -> bool:
        """Give back a piece of the space; False when there is none left."""
        try:
            size = self.path.stat().st_size
            if not size:
                return False
            os.truncate(self.path, max(0, size - PIECE))
        except OSError:
            return False
        return True

    def lend(self, place: Path, room: int = PIECE) -> None:
        """Give back pieces until `room` bytes are free for who writes at `place`, if that is on the same file system.

        For more than a piece it gives no more than its half: the rest is for the lines of a prune.
        """
        with contextlib.suppress(OSError):
            if place.stat().st_dev != self.path.stat().st_dev:
                return
            while _free(place) < room and self.path.stat().st_size > SIZE // 2 and self.spend():
                pass
            while _free(place) < PIECE and self.spend():
                pass

    @staticmethod
    def _take(file: int, size: int) -> None:
        try:
            os.posix_fallocate(file, size, SIZE - size)
        except OSError:
            # Half a reserve would take the last room from whoever needs it now.
            os.ftruncate(file, size)
            raise


def _free(place: Path) -> int:
    """Bytes that are free for us on the file system of `place`."""
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize
