"""Reads a real tree into entries by itself, so that the store's half is tested without an agent."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
from pyrsyncbackup_collector import entry
from pyrsyncbackup_collector.entry import Entry, attribute_text, text_or_bytes
from pyrsyncbackup_collector.errors import StoreDamaged
from pyrsyncbackup_collector.store.objects import Ingested

TYPES = {
    stat.S_IFREG: entry.FILE,
    stat.S_IFDIR: entry.DIRECTORY,
    stat.S_IFLNK: entry.SYMLINK,
    stat.S_IFIFO: entry.FIFO,
    stat.S_IFSOCK: entry.SOCKET,
    stat.S_IFCHR: entry.CHARACTER_DEVICE,
    stat.S_IFBLK: entry.BLOCK_DEVICE,
}


class Contents:
    """Objects by digest, in memory; `open_entry` and `read_entry` as the store has them."""

    def __init__(self) -> None:
        self.by_digest: dict[str, bytes] = {}

    def add(self, content: bytes) -> str | Ingested:
        digest = hashlib.sha256(content).hexdigest()
        self.by_digest[digest] = content
        return digest

    def open(self, sha256: str) -> BinaryIO:
        try:
            return io.BytesIO(self.by_digest[sha256])
        except KeyError:
            raise StoreDamaged(f"object {sha256} is missing") from None

    def open_entry(self, entry: Entry, *, whole: bool = False) -> BinaryIO:
        del whole  # each is one object
        return self.open(entry.sha256)

    def read_entry(self, entry: Entry) -> bytes:
        with self.open_entry(entry) as file:
            content = file.read()
        if len(content) != entry.size or hashlib.sha256(content).hexdigest() != entry.sha256:
            raise StoreDamaged(f"object {entry.sha256} is damaged")
        return content


def named(found: str | Ingested) -> dict[str, object]:
    """The fields of an entry that name a content: its digest, and its list of chunks if it has one."""
    if isinstance(found, str):
        return {"sha256": found}
    return {"sha256": found.sha256, "chunks": found.chunked.list.sha256.hex() if found.chunked else ""}


def make(path: bytes, type: str = entry.FILE, **fields: object) -> Entry:
    """An entry with `path`, and `target` or `link_to` as bytes."""
    for name in ("path", "target", "link_to"):
        value = path if name == "path" else fields.pop(name, None)
        if value is not None:
            assert isinstance(value, bytes)
            fields[f"{name}_text"], fields[f"{name}_b64"] = text_or_bytes(value)
    return Entry(type=type, **fields)  # type: ignore[arg-type]


def comparable(entries: Iterable[Entry]) -> list[Entry]:
    """Without the allocated size, which is the file system's own affair, and without the store's lists of chunks."""
    return [msgspec.structs.replace(each, allocated=0, chunks="") for each in entries]


def read(root: Path, contents: Contents) -> Iterator[Entry]:
    """Entries of what is below `root`, sorted, with paths relative to it; contents go into `contents`."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield from _read(fd, b"", contents, {})
    finally:
        os.close(fd)


def _read(directory: int, prefix: bytes, contents: Contents, inodes: dict[int, bytes]) -> Iterator[Entry]:
    for name in sorted(os.fsencode(each) for each in os.listdir(directory)):
        path = prefix + name
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        kind = TYPES[stat.S_IFMT(status.st_mode)]
        fields: dict[str, object] = {}
        if kind == entry.FILE:
            fd = os.open(name, os.O_RDONLY, dir_fd=directory)
            with open(fd, "rb") as file:
                fields |= named(contents.add(file.read()))
            fields["size"] = status.st_size
            fields["allocated"] = status.st_blocks * 512
        elif kind == entry.SYMLINK:
            fields["target"] = os.fsencode(os.readlink(name, dir_fd=directory))
        elif kind in (entry.CHARACTER_DEVICE, entry.BLOCK_DEVICE):
            fields["rdev"] = (os.major(status.st_rdev), os.minor(status.st_rdev))
        if kind != entry.DIRECTORY and status.st_nlink > 1:
            first = inodes.setdefault(status.st_ino, path)
            if first != path:
                fields["link_to"] = first
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
        where = f"/proc/self/fd/{handle}"
        fields["xattrs"] = {attribute_text(os.fsencode(each)): os.getxattr(where, each) for each in os.listxattr(where)}
        os.close(handle)
        mtime_s, mtime_ns = divmod(status.st_mtime_ns, 1_000_000_000)
        yield make(
            path,
            kind,
            mode=stat.S_IMODE(status.st_mode) if kind != entry.SYMLINK else 0o777,
            uid=status.st_uid,
            gid=status.st_gid,
            mtime_s=mtime_s,
            mtime_ns=mtime_ns,
            **fields,
        )
        if kind == entry.DIRECTORY:
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            try:
                yield from _read(below, path + b"/", contents, inodes)
            finally:
                os.close(below)
