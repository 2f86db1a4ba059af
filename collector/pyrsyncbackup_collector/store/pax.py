"""Headers of a tar archive in the pax format, for one entry at a time. Pure: bytes out, nothing is written here.

What the old header cannot hold goes into an extended header before it: fractions of a second, long or odd names, large
numbers, xattrs (SCHILY.xattr.*) and ACLs (SCHILY.acl.*), as GNU tar and bsdtar read them. Python's tarfile takes
no bytes for names and xattrs, writes no holes, and needs twice the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from pyrsyncbackup_collector.entry import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    SYMLINK,
    Entry,
    attribute_name,
    text_or_bytes,
)
from pyrsyncbackup_collector.store import acl

BLOCK: Final = 512
# Two empty blocks end an archive.
END: Final = bytes(2 * BLOCK)

_KINDS: Final = {FILE: b"0", SYMLINK: b"2", CHARACTER_DEVICE: b"3", BLOCK_DEVICE: b"4", DIRECTORY: b"5", FIFO: b"6"}
HELD: Final = frozenset(_KINDS)
_HARD_LINK: Final = b"1"
_EXTENDED: Final = b"x"
_ACLS: Final = {"system.posix_acl_access": b"SCHILY.acl.access", "system.posix_acl_default": b"SCHILY.acl.default"}
_MAX_NAME: Final = 100
# What the octal digits of the old header hold.
_MAX_ID: Final = 0o7777777
_MAX_SIZE: Final = 0o77777777777
_MAX_DEVICE: Final = 0o7777777


class Member(NamedTuple):
    """An entry as the archive has it: permission bits as they are given, bytes of content that follow the header.

    `first` is the path that it is a hard link to. `extents`, where it has holes: (offset, size) of all that are none.
    """

    entry: Entry
    mode: int
    size: int = 0
    first: bytes = b""
    xattrs: Mapping[str, bytes] | None = None
    extents: Sequence[tuple[int, int]] | None = None

    @property
    def sparse_map(self) -> bytes:
        """What comes before the data of a file with holes, in the form of GNU's 1.0, filled up to a block."""
        if self.extents is None:
            return b""
        numbers = [len(self.extents), *(number for extent in self.extents for number in extent)]
        text = b"".join(b"%d\n" % number for number in numbers)
        return text + padding(len(text))

    @property
    def stored(self) -> int:
        """Bytes that follow the header, without the filling at the end."""
        return self.size if self.extents is None else len(self.sparse_map) + sum(size for _, size in self.extents)


def padding(size: int) -> bytes:
    """What fills up `size` bytes to whole blocks."""
    return bytes(-size % BLOCK)


def header(member: Member) -> bytes:
    """Everything that comes before the content of this member. ValueError for an ACL that is none."""
    entry = member.entry
    path = entry.path + b"/" if entry.type == DIRECTORY else entry.path
    target = member.first or entry.target
    kind = _HARD_LINK if member.first else _KINDS[entry.type]
    records = _records(member, path, target)
    name = path
    if member.extents is not None:
        directory, slash, last = path.rpartition(b"/")
        name = directory + slash + b"GNUSparseFile.0/" + last
    stored = 0 if member.first else member.stored
    plain = _ustar(entry, name, target, kind, stored, member.mode, max(entry.mtime_s, 0))
    if not records:
        return plain
    body = b"".join(records)
    inside = b"PaxHeaders/" + path.rstrip(b"/").rpartition(b"/")[2]
    extended = _ustar(entry, inside, b"", _EXTENDED, len(body), 0o644, max(entry.mtime_s, 0), devices=False)
    return extended + body + padding(len(body)) + plain


def _records(member: Member, path: bytes, target: bytes) -> list[bytes]:
    entry = member.entry
    found: list[tuple[bytes, bytes]] = []
    for key, value in ((b"path", path), (b"linkpath", target)):
        if (len(value) > _MAX_NAME or not value.isascii()) and not (key == b"path" and member.extents is not None):
            found.append((key, value))
    names = [value for _, value in found]
    found += _of_owner(entry.uid, entry.user, entry.gid, entry.group)
    if member.stored > _MAX_SIZE and not member.first:
        found.append((b"size", b"%d" % member.stored))
    if entry.mtime_ns or not 0 <= entry.mtime_s <= _MAX_SIZE:
        found.append((b"mtime", _seconds(entry.mtime_s, entry.mtime_ns)))
    if member.extents is not None:
        found += [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]
        found += [(b"GNU.sparse.name", path), (b"GNU.sparse.realsize", b"%d" % member.size)]
        names.append(path)
    if member.xattrs:
        found += _attributes(member.xattrs)
    if names and any(text_or_bytes(name)[1] for name in names):
        found.insert(0, (b"hdrcharset", b"BINARY"))
    return [_record(key, value) for key, value in found]


# A snapshot has few owners, and they are the same for thousands of members.
@lru_cache(maxsize=1024)
def _of_owner(uid: int, user: str, gid: int, group: str) -> tuple[tuple[bytes, bytes], ...]:
    names = ((b"uname", user), (b"gname", group))
    long = tuple((key, name.encode("utf-8", "surrogateescape")) for key, name in names if _is_long(name))
    return long + tuple((key, b"%d" % number) for key, number in ((b"uid", uid), (b"gid", gid)) if number > _MAX_ID)


def _is_long(name: str) -> bool:
    return len(name) > 31 or not name.isascii()


def _attributes(xattrs: Mapping[str, bytes]) -> list[tuple[bytes, bytes]]:
    found = []
    for name, value in xattrs.items():
        if name in _ACLS:
            found.append((_ACLS[name], acl.as_text(value).encode()))
        else:
            key = attribute_name(name).replace(b"%", b"%25").replace(b"=", b"%3D")
            found.append((b"SCHILY.xattr." + key, value))
    return found


def _seconds(seconds: int, nanoseconds: int) -> bytes:
    """As decimal fraction: -1 s and 999,999,999 ns above it are -0.000000001."""
    total = seconds * 1_000_000_000 + nanoseconds
    sign = b"-" if total < 0 else b""
    whole, rest = divmod(abs(total), 1_000_000_000)
    return sign + (b"%d.%09d" % (whole, rest) if rest else b"%d" % whole)


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE` and a line end, the length that of all of it."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _ustar(
    entry: Entry, name: bytes, target: bytes, kind: bytes, size: int, mode: int, mtime: int, *, devices: bool = True
) -> bytes:
    rdev = entry.rdev if devices else (0, 0)
    before, after, checksum = _frame(mode & 0o7777, entry.uid, entry.gid, kind, entry.user, entry.group, rdev)
    name, target = name[:_MAX_NAME], target[:_MAX_NAME]
    numbers = b"%011o\0%011o\0" % (min(size, _MAX_SIZE), min(mtime, _MAX_SIZE))
    checksum += sum(name) + sum(numbers) + sum(target)
    return b"".join(
        (
            name.ljust(_MAX_NAME, b"\0"),
            before,
            numbers,
            b"%06o\0 " % checksum,
            kind,
            target.ljust(_MAX_NAME, b"\0"),
            after,
        )
    )


@lru_cache(maxsize=1024)
def _frame(
    mode: int, uid: int, gid: int, kind: bytes, user: str, group: str, rdev: tuple[int, int]
) -> tuple[bytes, bytes, int]:
    """What the headers of many members share: before size and time, after the target, and its part of the checksum.

    To add up 512 bytes takes longer than all the rest of a header; for the checksum its own field is blanks.
    """
    before = b"%07o\0%07o\0%07o\0" % (mode, min(uid, _MAX_ID), min(gid, _MAX_ID))
    devices = b"%07o\0%07o\0" % (min(rdev[0], _MAX_DEVICE), min(rdev[1], _MAX_DEVICE))
    after = b"ustar\x0000" + _short(user) + _short(group) + devices + bytes(167)
    return before, after, sum(before) + sum(b" " * 8) + sum(kind) + sum(after)


def _short(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")[:31].ljust(32, b"\0")
