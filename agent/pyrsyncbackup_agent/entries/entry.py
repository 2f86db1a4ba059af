"""What the walk found, as plain values: stat data as the kernel gave it, and why something could not be read."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """Why an entry could not be read; the numbers are those of the protocol."""

    DENIED = 1
    VANISHED = 2
    REPLACED = 3
    IO = 4
    OUTSIDE = 5


class Problem(NamedTuple):
    """Why an entry, or what is below it, could not be read; `message` is one line for an administrator."""

    kind: Kind
    message: str


class Entry(NamedTuple):
    """One name of a module. A tuple, since a walk makes hundreds of thousands.

    `path` is relative to "/", `stat` is None if nothing could be read, `root` is 0 for a directory above the roots,
    `token` the digest of inode and ctime (`young`: not to be kept), `target` where a link points, `link_to` the path of
    an earlier entry that is the same inode, `xattrs` pairs of name and value.
    """

    path: bytes
    stat: os.stat_result | None
    root: int
    public: bool = False
    token: int = 0
    young: bool = False
    target: bytes = b""
    link_to: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    problem: Problem | None = None


@dataclass(frozen=True)
class Fingerprint:
    """Digest over the stat data of all entries; not settled if one was so young that a change could go unseen."""

    digest: bytes
    settled: bool
    entries: int


_KINDS = {
    errno.EACCES: Kind.DENIED,
    errno.EPERM: Kind.DENIED,
    # Not ESTALE: a whole network file system may answer with it for a while, and what vanished counts as removed.
    errno.ENOENT: Kind.VANISHED,
    errno.ELOOP: Kind.REPLACED,
    errno.ENOTDIR: Kind.REPLACED,
    errno.ENXIO: Kind.REPLACED,
}

_WORDS = {
    Kind.DENIED: "permission denied",
    Kind.VANISHED: "it is gone",
    Kind.REPLACED: "something else took its place",
}

OUTSIDE = Problem(Kind.OUTSIDE, "not part of the module")
REPLACED = Problem(Kind.REPLACED, _WORDS[Kind.REPLACED])


def problem(error: OSError) -> Problem:
    """Name the failure of a system call, without the path (the entry has it)."""
    kind = _KINDS.get(error.errno or 0, Kind.IO)
    return Problem(kind, _WORDS.get(kind) or error.strerror or "it cannot be read")
