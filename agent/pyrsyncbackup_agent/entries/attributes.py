"""What belongs to an entry beyond its stat data: link target, extended attributes, hard links, change token.

Names are taken relative to an open directory, so that no directory above can be exchanged meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from pyrsyncbackup_agent.entries.entry import REPLACED, Entry, Problem, problem

# A ctime younger than this may be that of a second change in the same clock tick: ext4 ticks at 4-10 ms, network
# file systems and FAT at up to 2 s.
YOUNG_NS = 2_000_000_000
# Hard links of which the first path is remembered: about 250 bytes each. Later ones are listed as files of their own.
MAX_LINKS = 100_000
# All extended attributes of one entry; one message holds 4 MB.
MAX_XATTR_BYTES = 1 << 20

_64_BITS = (1 << 64) - 1
# Odd, so that no inode is lost; its bits (of the golden ratio) take neighbouring inodes far apart.
_SPREAD = 0x9E3779B97F4A7C15

_TYPE_MASK = 0o170000
_LINK = stat.S_IFLNK
_DIRECTORY = stat.S_IFDIR
_READ = stat.S_IROTH
_READ_AND_PASS = stat.S_IROTH | stat.S_IXOTH

_new = tuple.__new__

_NO_XATTRS = {errno.ENOTSUP, errno.ENODATA, errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


def change_token(inode: int, ctime_ns: int) -> int:
    """Digest of inode and ctime: 64 bits, never 0. Of one inode, each ctime gives another."""
    return (inode * _SPREAD ^ ctime_ns) & _64_BITS or 1


class Attributes:
    """Makes entries of names in open directories; remembers hard links for as long as a session lasts."""

    def __init__(self) -> None:
        self._links: dict[tuple[int, int, int], bytes] = {}

    def entry(self, path: bytes, status: os.stat_result, place: bytes, root: int, public: bool, now: int) -> Entry:
        """Return the entry of what can be reached at `place`, which is its name in an open directory (`nearby`).

        `public` says whether anyone can reach that directory; `now` is the time in ns before `status` was read. What it
        is linked to only `linked` says.
        """
        mode = status.st_mode
        kind = mode & _TYPE_MASK
        ctime = status.st_ctime_ns
        target = b""
        xattrs: tuple[tuple[bytes, bytes], ...] = ()
        trouble: Problem | None = None
        if kind == _LINK:
            try:
                target = os.readlink(place)
            except OSError as error:
                # EINVAL: it is no link any more.
                trouble = REPLACED if error.errno == errno.EINVAL else problem(error)
        try:
            if keys := os.listxattr(place, follow_symlinks=False):
                xattrs = _values(place, keys)
        except OSError as error:
            if error.errno not in _NO_XATTRS:
                trouble = problem(error)
        if public:
            needed = _READ_AND_PASS if kind == _DIRECTORY else _READ
            public = mode & needed == needed
        token = change_token(status.st_ino, ctime)
        # Without the constructor's detour through a Python function.
        return _new(Entry, (path, status, root, public, token, ctime > now - YOUNG_NS, target, b"", xattrs, trouble))

    def linked(self, entry: Entry) -> Entry:
        """Return an entry with the path of an earlier one that is the same inode. Ask in the order of the listing."""
        status = entry.stat
        if status is None or status.st_nlink == 1 or stat.S_ISDIR(status.st_mode):
            return entry
        return entry._replace(link_to=self._link(entry.path, status))

    def _link(self, path: bytes, status: os.stat_result) -> bytes:
        # With ctime: the number of an inode that is removed meanwhile may come back as another file's.
        key = (status.st_dev, status.st_ino, status.st_ctime_ns)
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
