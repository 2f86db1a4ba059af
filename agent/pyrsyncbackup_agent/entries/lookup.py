"""Single paths of a module: opened component by component from "/", following no link."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator

from pyrsyncbackup_agent.entries.attributes import Attributes
from pyrsyncbackup_agent.entries.entry import OUTSIDE, REPLACED, Entry, problem
from pyrsyncbackup_agent.entries.nearby import directory_path
from pyrsyncbackup_agent.entries.tree import Tree
from pyrsyncbackup_agent.entries.walk import DIRECTORY_FLAGS, MAX_PATH, above

# Descriptors of the last path that are kept for the next one, which mostly is a neighbour.
KEPT_LEVELS = 64


class Directories:
    """The directories above a path, open; those that the next path shares are kept. Close it after use."""

    def __init__(self) -> None:
        fd = os.open("/", DIRECTORY_FLAGS)
        self._names: list[bytes] = []
        self._open: list[tuple[int, bool]] = [(fd, _reachable(fd))]

    def __enter__(self) -> Directories:
        return self

    def __exit__(self, *_: object) -> None:
        self._cut(-1)

    def parent(self, path: bytes) -> tuple[int, bool]:
        """Return descriptor of the directory that holds `path`, and whether anyone can reach it. Raise OSError."""
        names = path.split(b"/")[:-1]
        same = 0
        while same < len(self._names) and same < len(names) and self._names[same] == names[same]:
            same += 1
        self._cut(same)
        fd, public = self._open[-1]
        passing = -1
        try:
            for index in range(same, len(names)):
                below = os.open(names[index], DIRECTORY_FLAGS, dir_fd=fd)
                if passing >= 0:
                    os.close(passing)
                    passing = -1
                fd, public = below, public and _reachable(below)
                if index < KEPT_LEVELS:
                    self._names.append(names[index])
                    self._open.append((fd, public))
                else:
                    passing = below
        except OSError:
            if passing >= 0:
                os.close(passing)
            raise
        if passing >= 0:
            # Too deep to be kept in line: it takes the last place, under a name that no path has.
            self._names.append(b"/")
            self._open.append((fd, public))
        return fd, public

    def _cut(self, length: int) -> None:
        while len(self._open) > length + 1:
            os.close(self._open.pop()[0])
        del self._names[max(length, 0) :]


class Lookup:
    """Entries of given paths, in their order."""

    def __init__(self, tree: Tree, attributes: Attributes) -> None:
        self._tree = tree
        self._attributes = attributes

    def entries(self, paths: Iterable[bytes]) -> Iterator[Entry]:
        """Yield one entry for each path: as the walk lists it, or with the reason why not."""
        with Directories() as directories:
            for path in paths:
                yield self._entry(directories, path)

    def _entry(self, directories: Directories, path: bytes) -> Entry:
        place = self._tree.locate(path) if len(path) <= MAX_PATH else None
        if place is None:
            return Entry(path, None, 0, problem=OUTSIDE)
        try:
            fd, public = directories.parent(path)
            name = path.rpartition(b"/")[2]
            now = time.time_ns()
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            return Entry(path, None, place.root, problem=problem(error))
        directory = stat.S_ISDIR(status.st_mode)
        if self._tree.excluded(place.relative, directory):
            return Entry(path, None, place.root, problem=OUTSIDE)
        if not place.relative and not directory:
            return Entry(path, None, place.root, problem=REPLACED)
        entry = self._attributes.entry(path, status, directory_path(fd) + name, place.root, public, now)
        return self._attributes.linked(entry) if place.root else above(entry)


def open_directory(path: bytes) -> int:
    """Open a directory by its path relative to "/", following no link; the caller closes it. Raise OSError."""
    with Directories() as directories:
        fd, _ = directories.parent(path + b"/." if path else b".")
        return os.dup(fd)


def _reachable(fd: int) -> bool:
    return bool(os.fstat(fd).st_mode & stat.S_IXOTH)
