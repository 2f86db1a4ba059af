"""SHA-256 of files of a module: only regular files are opened, without blocking, and compared before and after."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import NamedTuple

from pyrsyncbackup_agent.entries.attributes import change_token
from pyrsyncbackup_agent.entries.entry import OUTSIDE, REPLACED, Problem, problem
from pyrsyncbackup_agent.entries.lookup import Directories
from pyrsyncbackup_agent.entries.tree import Tree
from pyrsyncbackup_agent.entries.walk import MAX_PATH

FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# One read; larger ones are no faster, and between two of them the work can be stopped.
CHUNK = 1 << 20


class FileDigest(NamedTuple):
    """Digest of `size` bytes; `token` is 0 if the file changed while it was read. With a problem, no digest."""

    path: bytes
    sha256: bytes = b""
    size: int = 0
    token: int = 0
    problem: Problem | None = None


def hash_files(tree: Tree, paths: Iterable[bytes], stopped: Callable[[], bool] = lambda: False) -> Iterator[FileDigest]:
    """Yield the digest of each path in order. Ends early, also within a file, when `stopped` says so."""
    with Directories() as directories:
        buffer = bytearray(CHUNK)
        for path in paths:
            if stopped():
                return
            yield _hash(tree, directories, path, buffer, stopped)


def _hash(
    tree: Tree, directories: Directories, path: bytes, buffer: bytearray, stopped: Callable[[], bool]
) -> FileDigest:
    place = tree.locate(path) if len(path) <= MAX_PATH else None
    if place is None or not place.relative or tree.excluded(place.relative, False):
        return FileDigest(path, problem=OUTSIDE)
    try:
        parent, _ = directories.parent(path)
        name = path.rpartition(b"/")[2]
        # A device or FIFO must not even be opened: that alone can have effects.
        if not stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            return FileDigest(path, problem=REPLACED)
        fd = os.open(name, FILE_FLAGS, dir_fd=parent)
    except OSError as error:
        return FileDigest(path, problem=problem(error))
    try:
        return _hash_open(path, fd, buffer, stopped)
    except OSError as error:
        return FileDigest(path, problem=problem(error))
    finally:
        os.close(fd)


def _hash_open(path: bytes, fd: int, buffer: bytearray, stopped: Callable[[], bool]) -> FileDigest:
    before = os.fstat(fd)
    if not stat.S_ISREG(before.st_mode):
        return FileDigest(path, problem=REPLACED)
    digest = sha256()
    size = 0
    view = memoryview(buffer)
    while not stopped():
        count = os.readv(fd, [view])
        if not count:
            break
        digest.update(view[:count])
        size += count
    after = os.fstat(fd)
    same = (before.st_ino, before.st_ctime_ns, before.st_size) == (after.st_ino, after.st_ctime_ns, size)
    return FileDigest(path, digest.digest(), size, change_token(after.st_ino, after.st_ctime_ns) if same else 0)
