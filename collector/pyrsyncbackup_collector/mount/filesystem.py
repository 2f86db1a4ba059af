"""What the kernel asks of the mounted past: HOST/MODULE/SNAPSHOT/PATH, and `latest` beside the snapshots.

The one owner of the FUSE binding. Modes, owners and times are the host's; who may see them decides the mount.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.entry import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    SOCKET,
    SYMLINK,
    UNKNOWN,
    Entry,
    attribute_name,
    attribute_text,
    printable,
)
from pyrsyncbackup_collector.errors import BackupError, NotFound, RestoreError, StoreDamaged
from pyrsyncbackup_collector.mount.content import Content, Contents
from pyrsyncbackup_collector.mount.index import Found
from pyrsyncbackup_collector.mount.snapshots import Opened, Snapshots
from pyrsyncbackup_collector.store.store import Store

LATEST: Final = "latest"
_KINDS: Final = {
    FILE: stat.S_IFREG,
    DIRECTORY: stat.S_IFDIR,
    SYMLINK: stat.S_IFLNK,
    FIFO: stat.S_IFIFO,
    SOCKET: stat.S_IFSOCK,
    CHARACTER_DEVICE: stat.S_IFCHR,
    BLOCK_DEVICE: stat.S_IFBLK,
    # Nothing is known of it but its name.
    UNKNOWN: stat.S_IFREG,
}
# Inode numbers: places within a snapshot below, the snapshot's number above.
_PLACES: Final = 40
# What libfuse itself says where it knows no number.
_UNKNOWN_PLACE: Final = 0xFFFFFFFF
_HERE: Final = {"st_mode": stat.S_IFDIR, "st_ino": _UNKNOWN_PLACE}
# What lies in a snapshot never changes, which ones there are does seldom: seconds that the kernel may remember it.
_REMEMBER: Final = 30

# Told of what could not be read: where, and why.
Told = Callable[[str, BackupError], None]


class _Place(NamedTuple):
    """A path inside a snapshot; `found` None is its top."""

    opened: Opened
    found: Found | None

    @property
    def path(self) -> bytes:
        return self.found.entry.path if self.found else b""


class Past:
    """The operations of the file system. Called by libfuse from several threads; raises OSError alone."""

    use_ns = True

    def __init__(self, store: Store, clock: Clock, told: Told, begun: Callable[[], object]) -> None:
        """`begun` is called when it is mounted."""
        self._store, self._told, self._begun = store, told, begun
        self.mounted = False
        self._snapshots = Snapshots(store, clock)
        self._contents = Contents(store.objects)
        self._open: dict[int, Content] = {}
        self._handles = count(1)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let everything go."""
        self._snapshots.close()
        for content in self._open.values():
            content.close()

    def init(self, _: str) -> None:
        """It is mounted."""
        self.mounted = True
        self._begun()

    def getattr(self, path: str, _: int | None = None) -> dict[str, int]:
        """What stat(2) says."""
        with self._answering(path):
            names = _names(path)
            if len(names) == 3 and names[2] == LATEST:
                self._latest(names[0], names[1])
                return _stat(stat.S_IFLNK | 0o777) | {"st_ino": _named(names)}
            if len(names) < 3:
                self._exists(names)
                return _stat(stat.S_IFDIR | 0o555) | {"st_ino": _named(names)}
            return self._attributes(self._place(names))

    def readdir(self, path: str, _: int) -> list[tuple[str, dict[str, int], int]]:
        """The names in a directory, with kind and inode number of each."""
        with self._answering(path):
            return [(".", _HERE, 0), ("..", _HERE, 0), *self._listed(_names(path))]

    def readlink(self, path: str) -> str:
        """Where a symbolic link points."""
        with self._answering(path):
            names = _names(path)
            if len(names) == 3 and names[2] == LATEST:
                return self._latest(names[0], names[1])
            return os.fsdecode(self._entry(names).target)

    def open(self, path: str, _: int) -> int:
        """A handle for reading."""
        with self._answering(path):
            entry = self._entry(_names(path))
            if not entry.sha256:
                raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
            content = self._contents.open(entry)
            with self._lock:
                handle = next(self._handles)
                self._open[handle] = content
            return handle

    def read(self, path: str, size: int, offset: int, handle: int) -> bytes:
        """Up to `size` bytes from `offset` on."""
        with self._answering(path):
            return self._open[handle].read(offset, size)

    def release(self, _: str, handle: int) -> int:
        """A handle is not needed any more."""
        with self._lock:
            content = self._open.pop(handle)
        content.close()
        return 0

    def listxattr(self, path: str) -> list[str]:
        """The names of extended attributes."""
        with self._answering(path):
            names = _names(path)
            return [os.fsdecode(attribute_name(each)) for each in self._entry(names).xattrs] if len(names) > 3 else []

    def getxattr(self, path: str, name: str, _: int = 0) -> bytes:
        """The value of an extended attribute."""
        with self._answering(path):
            names = _names(path)
            value = None
            if len(names) > 3:
                value = self._entry(names).xattrs.get(attribute_text(os.fsencode(name)))
            if value is None:
                raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
            return value

    def statfs(self, _: str) -> dict[str, int]:
        """The size of the store's file system."""
        found = os.statvfs(self._store.path)
        return {name: getattr(found, name) for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_namemax")}

    @contextlib.contextmanager
    def _answering(self, path: str) -> Iterator[None]:
        """What is not there is no news; what cannot be read is told, and the kernel hears of an I/O error."""
        try:
            yield
        except NotFound:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
        except BackupError as error:
            self._told(path, error)
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
        except (OverflowError, ValueError):
            self._told(path, StoreDamaged("impossible value in the snapshot", "it is what the host had sent"))
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None

    def _exists(self, names: list[str]) -> None:
        modules = self._snapshots.modules()
        if (names and names[0] not in modules) or (len(names) == 2 and names[1] not in modules[names[0]]):
            raise NotFound("/".join(names))

    def _latest(self, host: str, module: str) -> str:
        known = self._snapshots.of_module(host, module)
        if not known:
            raise NotFound(f"{host}/{module} has no snapshot")
        return next(reversed(known))

    def _listed(self, names: list[str]) -> Iterator[tuple[str, dict[str, int], int]]:
        if len(names) < 2:
            self._exists(names)
            modules = self._snapshots.modules()
            for name in modules[names[0]] if names else modules:
                yield name, {"st_mode": stat.S_IFDIR, "st_ino": _named([*names, name])}, 0
        elif len(names) == 2:
            known = self._snapshots.of_module(*names)
            yield from ((name, _HERE, 0) for name in known)
            if known:
                yield LATEST, {"st_mode": stat.S_IFLNK, "st_ino": _named([*names, LATEST])}, 0
        else:
            place = self._place(names)
            if place.found and place.found.entry.type != DIRECTORY:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            for found in place.opened.index.children(place.path):
                kind = {"st_mode": _KINDS[found.entry.type], "st_ino": _number(place.opened, found)}
                yield os.fsdecode(found.entry.path.rpartition(b"/")[2]), kind, 0

    def _place(self, names: list[str]) -> _Place:
        opened = self._snapshots.open(*names[:3])
        if len(names) == 3:
            return _Place(opened, None)
        found = opened.index.get(os.fsencode("/".join(names[3:])))
        if found is None:
            raise NotFound("/".join(names))
        return _Place(opened, found)

    def _entry(self, names: list[str]) -> Entry:
        place = self._place(names) if len(names) > 3 else None
        if place is None or place.found is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return place.found.entry

    def _attributes(self, place: _Place) -> dict[str, int]:
        opened, found = place
        if found is None:
            time = int(opened.snapshot.time * 1e9)
            return _stat(stat.S_IFDIR | 0o555, time) | {"st_ino": opened.number << _PLACES}
        entry = found.entry
        return _stat(_KINDS[entry.type] | entry.mode, entry.mtime_s * 10**9 + entry.mtime_ns) | {
            "st_nlink": 1 if entry.type == DIRECTORY else opened.index.names(entry),
            "st_ino": _number(opened, found),
            "st_uid": entry.uid,
            "st_gid": entry.gid,
            "st_size": len(entry.target) if entry.type == SYMLINK else entry.size,
            "st_blocks": -(-entry.allocated // 512),
            "st_rdev": os.makedev(*entry.rdev),
        }


def mount(
    store: Store, target: Path, clock: Clock, told: Told, begun: Callable[[], object], *, others: bool = False
) -> None:
    """Show `store` at the directory `target` until it is unmounted, or SIGINT or SIGTERM comes; main thread only.

    `begun` is called once it is there. `others`: all users of this machine may look, as far as the modes of the host's
    files let them; otherwise whoever mounts it sees all of it. Raises RestoreError where it cannot be mounted.
    """
    fuse = _binding()
    said = _Said()

    def mounted() -> None:
        said.end()
        begun()

    past = Past(store, clock, told, mounted)
    options = {"allow_other": True, "default_permissions": True} if others else {}
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # so that libfuse unmounts
    try:
        fuse.FUSE(
            past,
            str(target),
            foreground=True,
            ro=True,
            nosuid=True,
            nodev=True,
            fsname=f"pyrsyncbackup:{store.id}",
            subtype="pyrsyncbackup",
            use_ino=True,
            kernel_cache=True,
            attr_timeout=_REMEMBER,
            entry_timeout=_REMEMBER,
            **options,
        )
    except RuntimeError as error:
        if not past.mounted:  # else a signal ended it
            why = said.end() or str(error)
            raise RestoreError(f"{target} could not be mounted: {why}", _remedy(why)) from error
    finally:
        said.end()
        signal.signal(signal.SIGTERM, before)
        past.close()


def _remedy(why: str) -> str:
    if "/dev/fuse" in why:
        return "`modprobe fuse` where it is not there; other users than root need mode 0666: `chmod 0666 /dev/fuse`"
    if "allow_other" in why:
        return "write the line `user_allow_other` into /etc/fuse.conf, or leave --allow-other out"
    return "users other than root need fusermount3 (package fuse3), and a directory of their own"


class _Said:
    """What libfuse writes to standard error until it is mounted: the cause where it fails, else of no interest.

    3.14 complains about its own default then.
    """

    def __init__(self) -> None:
        self._stderr = os.dup(2)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - end() closes it
        self._ended = False
        os.dup2(self._file.fileno(), 2)

    def end(self) -> str:
        """Give standard error back; what was written, in one line. A second time does nothing."""
        if self._ended:
            return ""
        self._ended = True
        os.dup2(self._stderr, 2)
        os.close(self._stderr)
        with self._file:
            self._file.seek(0)
            return printable(b"; ".join(self._file.read(4096).strip().split(b"\n")))


def _binding() -> Any:
    try:
        import mfusepy
    except OSError as error:
        raise RestoreError("libfuse is not installed", "install fuse3 (Debian, Fedora: package `fuse3`)") from error
    return mfusepy


def _number(opened: Opened, found: Found) -> int:
    """The inode number: names of one inode share it."""
    entry, position = found
    if entry.link_to and (first := opened.index.get(entry.link_to)):
        position = first.position
    return (opened.number << _PLACES) + position + 1


def _named(names: list[str]) -> int:
    """The inode number of what lies above the snapshots: below all of theirs, the same at every mount."""
    return zlib.crc32("/".join(names).encode()) + 2


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name]


def _stat(mode: int, time: int = 0) -> dict[str, int]:
    return {
        "st_mode": mode,
        "st_nlink": 1,
        "st_uid": os.getuid(),
        "st_gid": os.getgid(),
        "st_mtime": time,
        "st_atime": time,
        "st_ctime": time,
    }
