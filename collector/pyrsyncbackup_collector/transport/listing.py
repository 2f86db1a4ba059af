"""Entries and digests from the wire, checked and turned into values, at a microsecond or two each.

The agent may be hostile: whatever an honest one could not send ends the listing with AgentMisbehaved. A whole listing
must be a tree in preorder with the names of each directory strictly increasing, which is the same as increasing
`entry.order` with every parent present; a stack of the directories above is all the memory that this needs. That a hard
link's first name exists is left to the one who merges: only its order is checked here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pyrsyncbackup_collector.entry import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    MAX_NAME,
    MAX_PATH,
    SOCKET,
    SYMLINK,
    UNKNOWN,
    Entry,
    attribute_text,
    check_path,
    order,
    printable,
    text_or_bytes,
)
from pyrsyncbackup_collector.errors import AgentMisbehaved
from pyrsyncbackup_collector.transport.offer import ErrorKind, FileHash, Listed, Root

_TYPES = (UNKNOWN, FILE, DIRECTORY, SYMLINK, FIFO, SOCKET, CHARACTER_DEVICE, BLOCK_DEVICE)
_ERRORS = (
    ErrorKind.IO,
    ErrorKind.DENIED,
    ErrorKind.VANISHED,
    ErrorKind.REPLACED,
    ErrorKind.IO,
    ErrorKind.OUTSIDE,
)
# SQLite's integers, and the kernel's sizes, end here.
_MAX_SIZE = 2**63 - 1
_MAX_NS = 999_999_999
# Linux: XATTR_NAME_MAX and XATTR_SIZE_MAX; one entry fits in one message anyway.
_MAX_XATTR_NAME = 255
_MAX_XATTR_VALUE = 65536
_MAX_XATTRS = 1024
_MAX_TEXT = 500
# Messages without anything in them that an agent may send in a row.
_MAX_EMPTY = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """What one listing may hold at most; `bytes` counts paths, targets and attributes as they came."""

    entries: int = 5_000_000
    bytes: int = 4 * 2**30


class EntryReader:
    """Turns the entries of one stream into values; one for each stream, used by one thread."""

    def __init__(self, roots: Iterable[Root], limits: Limits | None = None) -> None:
        self._roots = {root.id: root for root in roots}
        self._limits = limits or Limits()
        self._names: dict[bytes, str] = {}
        self._count = 0
        self._bytes = 0
        self._empty = 0
        # The directory that entries are in now, and the name last seen there; the same of those above it.
        self._parent = b""
        self._before = b""
        self._above: list[tuple[bytes, bytes]] = []
        # The root that everything in this directory belongs to, once that was checked.
        self._placed: int | None = None

    def measure(self, entries: Sequence[Any], size: int) -> None:
        """Count one message of `size` bytes against the limits."""
        self._count += len(entries)
        self._bytes += size
        self._empty = 0 if entries else self._empty + 1
        if self._count > self._limits.entries:
            raise AgentMisbehaved(f"the agent listed more than {self._limits.entries} entries")
        if self._bytes > self._limits.bytes:
            raise AgentMisbehaved(f"the agent's listing is larger than {self._limits.bytes} bytes")
        if self._empty > _MAX_EMPTY:
            raise AgentMisbehaved("the agent sends messages without content")

    def whole(self, entries: Sequence[Any]) -> list[Listed]:
        """The next entries of a whole listing."""
        out = []
        plain = self.plain
        for entry in entries:
            path: bytes = entry.path
            parent, _, name = path.rpartition(b"/")
            if parent != self._parent:
                self._climb(path, parent)
            if name <= self._before or name == b"." or name == b".." or len(name) > MAX_NAME or b"\0" in name:
                check_path(path)
                raise AgentMisbehaved(f"the agent's listing is out of order at {printable(path[:200])}")
            self._before = name
            listed = plain(entry, path) if entry.type == 1 else self.entry(entry, path)
            if listed.root != self._placed:
                self._check_place(path, parent, name, listed.root)
            if listed.entry.type == DIRECTORY:
                self._descend(path)
            out.append(listed)
        return out

    def _descend(self, path: bytes) -> None:
        """What follows may lie in this directory."""
        if len(path) > MAX_PATH - MAX_NAME:
            raise AgentMisbehaved(f"the agent sent an impossible path: {printable(path[:200])}")
        self._above.append((self._parent, self._before))
        self._parent, self._before, self._placed = path, b"", None

    def _climb(self, path: bytes, parent: bytes) -> None:
        """Go up to the directory of `path`, which must be one of those above."""
        self._placed = None
        while parent != self._parent:
            if not self._above:
                check_path(path)
                raise AgentMisbehaved(
                    f"the agent listed {printable(path[:200])} without the directory above it, or out of order"
                )
            self._parent, self._before = self._above.pop()

    def looked_up(self, entries: Sequence[Any], asked: deque[bytes]) -> list[Listed]:
        """The answers to the paths in `asked`, which are taken out of it."""
        out = []
        for entry in entries:
            path = check_path(entry.path)
            if not asked or asked.popleft() != path:
                raise AgentMisbehaved(f"the agent answered for {printable(path[:200])}, which was not asked here")
            listed = self.entry(entry, path)
            if listed.root and listed.root not in self._roots:
                raise AgentMisbehaved(f"{printable(path[:200])} belongs to a root that is not there")
            out.append(listed)
        return out

    def plain(self, entry: Any, path: bytes) -> Listed:
        """A file whose path was checked; nearly all entries are plain ones, so this is the fast way for them."""
        if entry.link_to or entry.xattrs or entry.HasField("error"):
            return self.entry(entry, path)
        mode, mtime_ns, size, allocated = entry.mode, entry.mtime_ns, entry.size, entry.allocated
        if mode > 0o7777 or mtime_ns > _MAX_NS or size > _MAX_SIZE or allocated > _MAX_SIZE:
            raise _wrong(path, "mode, time or size")
        try:
            text, raw = path.decode(), b""
        except UnicodeDecodeError:
            text, raw = "", path
        user, group, names = entry.user, entry.group, self._names
        return Listed(
            Entry(
                text, raw, FILE, mode, entry.uid, entry.gid, names.get(user) or self._name(user),
                names.get(group) or self._name(group), size, allocated, entry.mtime_s, mtime_ns, public=entry.public,
            ),
            entry.token,
            entry.root,
            None,
            entry.young,
        )  # fmt: skip

    def entry(self, entry: Any, path: bytes) -> Listed:
        """Any entry whose path was checked."""
        kind: int = entry.type
        error, why = self._error(entry)
        if not 0 <= kind <= 7 or (kind == 0 and error is None):
            raise _wrong(path, "type")
        if entry.mode > 0o7777 or entry.mtime_ns > _MAX_NS:
            raise _wrong(path, "mode or time")
        size, allocated = (entry.size, entry.allocated) if kind == 1 else (0, 0)
        if size > _MAX_SIZE or allocated > _MAX_SIZE:
            raise _wrong(path, "size")
        target = entry.target if kind == 3 else b""
        if kind == 3 and ((not target and error is None) or len(target) > MAX_PATH or b"\0" in target):
            raise _wrong(path, "link target")
        link = entry.link_to
        if link and (kind in (0, 2) or order(check_path(link)) >= order(path)):
            raise _wrong(path, "hard link")
        value = Entry(
            *text_or_bytes(path), _TYPES[kind], entry.mode, entry.uid, entry.gid, self._name(entry.user),
            self._name(entry.group), size, allocated, entry.mtime_s, entry.mtime_ns, *text_or_bytes(target),
            (entry.device_major, entry.device_minor) if kind in (6, 7) else (0, 0), *text_or_bytes(link),
            self._xattrs(entry, path), entry.public, error=why,
        )  # fmt: skip
        return Listed(value, entry.token, entry.root, error, entry.young)

    @staticmethod
    def _error(entry: Any) -> tuple[ErrorKind | None, str]:
        if not entry.HasField("error"):
            return None, ""
        error = entry.error
        kind = _ERRORS[error.kind] if 0 <= error.kind < len(_ERRORS) else ErrorKind.IO
        return kind, printable(error.message[:_MAX_TEXT]) or kind.value

    @staticmethod
    def _xattrs(entry: Any, path: bytes) -> dict[str, bytes]:
        xattrs = entry.xattrs
        if len(xattrs) > _MAX_XATTRS:
            raise _wrong(path, "extended attributes")
        out = {}
        for xattr in xattrs:
            name, value = xattr.name, xattr.value
            if not 0 < len(name) <= _MAX_XATTR_NAME or len(value) > _MAX_XATTR_VALUE or b"\0" in name:
                raise _wrong(path, "extended attributes")
            out[attribute_text(name)] = value
        return dict(sorted(out.items())) if len(out) > 1 else out

    def _name(self, name: bytes) -> str:
        """A user's or group's name as safe text, remembered: a host has few of them."""
        text = self._names.get(name)
        if text is None:
            if len(self._names) > 10_000:
                self._names.clear()
            text = self._names[name] = printable(name[:MAX_NAME])
        return text

    def _check_place(self, path: bytes, parent: bytes, name: bytes, number: int) -> None:
        """Root 0 is for directories above the roots; all else lies in the root that it names."""
        if number == 0:
            below = path + b"/"
            if not any(root.path == path or root.path.startswith(below) for root in self._roots.values()):
                raise AgentMisbehaved(f"{printable(path[:200])} belongs to no root")
            return
        root = self._roots.get(number)
        if root is None:
            raise AgentMisbehaved(f"{printable(path[:200])} belongs to a root that is not there")
        if path == root.path:
            return
        if root.names:
            inside = parent == root.path and name in root.names
        else:
            inside = not root.path or parent == root.path or parent.startswith(root.path + b"/")
            self._placed = number if inside else None
        if not inside:
            raise AgentMisbehaved(f"{printable(path[:200])} is not in the root that it names")


def hashed(hashes: Sequence[Any], asked: deque[bytes]) -> list[FileHash]:
    """The digests for the paths in `asked`, which are taken out of it."""
    out = []
    for answer in hashes:
        path = answer.path
        if not asked or asked.popleft() != path:
            raise AgentMisbehaved(f"the agent hashed {printable(path[:200])}, which was not asked here")
        if answer.HasField("error"):
            kind, message = EntryReader._error(answer)
            out.append(FileHash(path, "", 0, 0, kind, message))
            continue
        if len(answer.sha256) != 32 or answer.size > _MAX_SIZE:
            raise _wrong(path, "digest")
        out.append(FileHash(path, answer.sha256.hex(), answer.size, answer.token))
    return out


def _wrong(path: bytes, what: str) -> AgentMisbehaved:
    return AgentMisbehaved(f"the agent sent an impossible {what} for {printable(path[:200])}")
