"""What belongs to an entry beyond its stat data: link target, extended attributes, hard links, change token.

Names are taken relative to an open directory, so that no directory above can be exchanged meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from hashlib import blake2b

from pyrsyncbackup_agent.entries.entry import REPLACED, Entry, Problem, problem

# A ctime younger than this may be that of a second change in the same clock tick: ext4 ticks at 4-10 ms, network
# file systems and FAT at up to 2 s.
YOUNG_NS = 2_000_000_000
# Hard links of which the first path is remembered: about 250 bytes each. Later ones are listed as files of their own.
MAX_LINKS = 100_000
# All extended attributes of one entry; one message holds 4 MB.
MAX_XATTR_BYTES = 1 << 20

_NO_XATTRS = {errno.ENOTSUP, errno.ENODATA, errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


def change_token(inode: int, ctime_ns: int) -> int:
    """Digest of inode and ctime: 64 bits, never 0."""
    return int.from_bytes(blake2b(b"%d %d" % (inode, ctime_ns), digest_size=8).digest(), "little") or 1


def directory_path(fd: int) -> bytes:
    """Path through which calls that take no directory descriptor reach the names of an open directory."""
    return b"/proc/self/fd/%d/" % fd


class Attributes:
    """Makes entries of names in open directories; remembers hard links for as long as a session lasts."""

    def __init__(self) -> None:
        self._links: dict[tuple[int, int], bytes] = {}

    def entry(
        self, path: bytes, name: bytes, status: os.stat_result, base: bytes, *, root: int, public: bool, now: int
    ) -> Entry:
        """Return the entry of `name` in the directory that `base` (`directory_path`) leads to.

        `public` says whether anyone can reach that directory; `now` is the time in ns before `status` was read.
        """
        mode = status.st_mode
        ctime = status.st_ctime_ns
        target = link_to = b""
        trouble: Problem | None = None
        if stat.S_ISLNK(mode):
            try:
                target = os.readlink(base + name)
            except OSError as error:
                # EINVAL: it is no link any more.
                trouble = REPLACED if error.errno == errno.EINVAL else problem(error)
        if status.st_nlink > 1 and not stat.S_ISDIR(mode):
            link_to = self._link(path, status)
        xattrs: tuple[tuple[bytes, bytes], ...] = ()
        try:
            if keys := os.listxattr(base + name, follow_symlinks=False):
                xattrs = _values(base + name, keys)
        except OSError as error:
            if error.errno not in _NO_XATTRS:
                trouble = problem(error)
        return Entry(
            path,
            status,
            root,
            public and bool(mode & stat.S_IROTH) and (not stat.S_ISDIR(mode) or bool(mode & stat.S_IXOTH)),
            change_token(status.st_ino, ctime),
            ctime > now - YOUNG_NS,
            target,
            link_to,
            xattrs,
            trouble,
        )

    def _link(self, path: bytes, status: os.stat_result) -> bytes:
        key = (status.st_dev, status.st_ino)
        first = self._links.get(key)
        if first is None:
            if len(self._links) < MAX_LINKS:
                self._links[key] = path
            return b""
        return b"" if first == path else first


def _values(path: bytes, keys: Iterable[str]) -> tuple[tuple[bytes, bytes], ...]:
    """Read the values; one that vanishes or may not be read meanwhile is left out."""
    found = []
    total = 0
    for key in sorted(keys):
        try:
            value = os.getxattr(path, key, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NO_XATTRS or error.errno in (errno.EACCES, errno.EPERM):
                continue
            raise
        total += len(value) + len(key)
        if total > MAX_XATTR_BYTES:
            raise OSError(errno.E2BIG, "its extended attributes are too large to be listed")
        found.append((os.fsencode(key), value))
    return tuple(found)
