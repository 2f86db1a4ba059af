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
        self._names: dict[bytes, str] = {b"": ""}
        self._count = 0
        self._bytes = 0
        self._empty = 0
        # The directories above the last entry, each with the name last seen in it.
        self._above: list[bytes] = [b""]
        self._last: list[bytes] = [b""]
        self._place: tuple[bytes, int] | None = None

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
        above, last = self._above, self._last
        out = []
        for entry in entries:
            path: bytes = entry.path
            parent, _, name = path.rpartition(b"/")
            if parent != above[-1]:
                while len(above) > 1 and parent != above[-1]:
                    above.pop()
                    last.pop()
                if parent != above[-1]:
                    raise AgentMisbehaved(
                        f"the parent of {printable(path[:200])} was not listed before it, or no directory"
                    )
            if name <= last[-1] or name == b"." or name == b".." or len(name) > MAX_NAME or b"\0" in name:
                check_path(path)
                raise AgentMisbehaved(f"the agent's listing is out of order at {printable(path[:200])}")
            if len(path) > MAX_PATH:
                check_path(path)
            last[-1] = name
            listed = self.entry(entry, path)
            if listed.entry.type == DIRECTORY:
                above.append(path)
                last.append(b"")
            self._check_place(path, parent, name, listed)
            out.append(listed)
        return out

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

    def entry(self, entry: Any, path: bytes) -> Listed:
        """One entry whose path was checked."""
        kind: int = entry.type
        if kind > 7 or kind < 0:
            raise _wrong(path, "type")
        mode, mtime_ns = entry.mode, entry.mtime_ns
        if mode > 0o7777 or mtime_ns > 999_999_999:
            raise _wrong(path, "mode or time")
        try:
            text, raw = path.decode(), b""
        except UnicodeDecodeError:
            text, raw = "", path
        user, group = entry.user, entry.group
        names = self._names
        owner = names[user] if user in names else self._name(user)
        owning_group = names[group] if group in names else self._name(group)
        xattrs = entry.xattrs
        if kind == 1:
            size, allocated, link = entry.size, entry.allocated, entry.link_to
            if size > _MAX_SIZE or allocated > _MAX_SIZE:
                raise _wrong(path, "size")
            if not link and not xattrs and not entry.HasField("error"):
                return Listed(
                    Entry(
                        text, raw, FILE, mode, entry.uid, entry.gid, owner, owning_group, size, allocated,
                        entry.mtime_s, mtime_ns, public=entry.public,
                    ),
                    entry.token,
                    entry.root,
                )  # fmt: skip
        else:
            size, allocated, link = 0, 0, entry.link_to
        return self._rare(
            entry, path, kind, (text, raw), (mode, mtime_ns), (owner, owning_group), (size, allocated), link
        )

    def _rare(
        self,
        entry: Any,
        path: bytes,
        kind: int,
        named: tuple[str, bytes],
        stat: tuple[int, int],
        owner: tuple[str, str],
        sizes: tuple[int, int],
        link: bytes,
    ) -> Listed:
        """Whatever is not a plain file."""
        error, why = self._error(entry)
        if kind == 0 and error is None:
            raise _wrong(path, "type")
        target = entry.target if kind == 3 else b""
        if kind == 3 and ((not target and error is None) or len(target) > MAX_PATH or b"\0" in target):
            raise _wrong(path, "link target")
        if link and (kind in (0, 2) or order(check_path(link)) >= order(path)):
            raise _wrong(path, "hard link")
        value = Entry(
            *named, _TYPES[kind], stat[0], entry.uid, entry.gid, *owner, *sizes, entry.mtime_s, stat[1],
            *text_or_bytes(target), (entry.device_major, entry.device_minor) if kind in (6, 7) else (0, 0),
            *text_or_bytes(link), self._xattrs(entry, path), entry.public, error=why,
        )  # fmt: skip
        return Listed(value, entry.token, entry.root, error)

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
            out[name.decode("utf-8", "backslashreplace")] = value
        return dict(sorted(out.items())) if len(out) > 1 else out

    def _name(self, name: bytes) -> str:
        """A user's or group's name as safe text, remembered: a host has few of them."""
        if len(self._names) > 10_000:
            self._names = {b"": ""}
        text = self._names[name] = printable(name[:MAX_NAME])
        return text

    def _check_place(self, path: bytes, parent: bytes, name: bytes, listed: Listed) -> None:
        """Root 0 is for directories above the roots; all else lies in the root that it names."""
        number = listed.root
        if self._place == (parent, number):
            return
        self._place = None
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
            if parent != root.path or name not in root.names:
                raise AgentMisbehaved(f"{printable(path[:200])} is not in the root that it names")
            return
        if root.path and parent != root.path and not parent.startswith(root.path + b"/"):
            raise AgentMisbehaved(f"{printable(path[:200])} is not in the root that it names")
        self._place = (parent, number)


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
