"""The incoming directory of one rsync run, read as what it is: a tree that a taken-over rsync may have filled.

Every component is opened without following links, and only regular files are given out.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Incoming:
    """Opens files by their names relative to `top`; keeps the last directory open, since names come in order."""

    def __init__(self, top: Path) -> None:
        self._top = os.open(top, DIRECTORY)
        self._name = b""
        self._directory = self._top

    def open(self, name: bytes) -> int | None:
        """A descriptor of the regular file `name`; None if there is no such file."""
        directory, _, base = name.rpartition(b"/")
        try:
            self._enter(directory)
            source = os.open(base, FILE, dir_fd=self._directory)
        except OSError:  # not there, a link, or made unreadable: it did not arrive
            return None
        if not stat.S_ISREG(os.fstat(source).st_mode):
            os.close(source)
            return None
        return source

    def remove(self, name: bytes) -> None:
        """Give the space of a file back that `open` just gave out."""
        with contextlib.suppress(OSError):  # the whole directory is removed later
            os.unlink(name.rpartition(b"/")[2], dir_fd=self._directory)

    def move(self, name: bytes, target: Path) -> None:
        """Move a file that `open` just gave out; raises OSError."""
        os.replace(name.rpartition(b"/")[2], target, src_dir_fd=self._directory)

    def move_begin(self, name: bytes, least: int, target: Path) -> int:
        """Move what rsync had of the unfinished `name` to `target`; its size, 0 if it has less than `least` bytes."""
        directory, _, base = name.rpartition(b"/")
        # rsync's temporary name; of a long name it takes what fits.
        prefix = b"." + base[:200]
        try:
            self._enter(directory)
            for found in map(os.fsencode, os.listdir(self._directory)):  # noqa: PTH208 - a descriptor
                if found.startswith(prefix) and found[-7:-6] == b".":
                    status = os.stat(found, dir_fd=self._directory, follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and status.st_size >= least:
                        os.replace(found, target, src_dir_fd=self._directory)
                        return status.st_size
        except OSError:
            pass  # it goes on without
        return 0

    def close(self) -> None:
        """Close what is open."""
        self._leave()
        os.close(self._top)

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enter(self, directory: bytes) -> None:
        if directory == self._name:
            return
        self._leave()
        try:
            for component in directory.split(b"/") if directory else ():
                inner = os.open(component, DIRECTORY, dir_fd=self._directory)
                if self._directory != self._top:
                    os.close(self._directory)
                self._directory = inner
        except OSError:
            self._leave()  # half of the way is nowhere
            raise
        self._name = directory

    def _leave(self) -> None:
        if self._directory != self._top:
            os.close(self._directory)
        self._directory, self._name = self._top, b""
