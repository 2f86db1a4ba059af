"""File system operations that cannot leave the directory in which they are done.

Every call takes an open directory and one plain name, never a path: the kernel resolves one component, and does not
follow it if it is a link. So neither a manifest nor a link that somebody planted in the target leads anywhere else,
and there is no limit on the depth of a path. What to do is decided elsewhere.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from pyrsyncbackup_collector.entry import MAX_NAME, printable
from pyrsyncbackup_collector.errors import RestoreError, StoreDamaged

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2  # linux/fs.h
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES})
_INHERITED_ACLS = ("system.posix_acl_access", "system.posix_acl_default")

_libc = ctypes.CDLL(None, use_errno=True)


def split(path: bytes) -> list[bytes]:
    """The names of a path from a manifest; raise StoreDamaged where one could lead elsewhere."""
    names = path.split(b"/")
    for name in names:
        if name in (b"", b".", b"..") or len(name) > MAX_NAME or 0 in name:
            raise StoreDamaged(
                f"the snapshot holds an impossible path: {printable(path[:200])}",
                "nothing is restored from here on; compare with another snapshot of the module",
            )
    return names


def open_target(target: Path) -> int:
    """Open the directory to restore into, made with mode 0700 if it is not there; the caller closes it.

    Refused with RestoreError: a link, something that is no directory, and a directory that others can write to, who
    could replace what is restored while it is made.
    """
    try:
        with suppress(FileExistsError):
            target.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise _not_a_target(target, error) from error
    return _open_existing(target)


def look_at_target(target: Path) -> int | None:
    """Open the directory to restore into as `open_target` does, but make nothing; None if it is not there."""
    try:
        target.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _not_a_target(target, error) from error
    return _open_existing(target)


def _open_existing(target: Path) -> int:
    try:
        fd = os.open(target, _OPEN_DIRECTORY)
    except OSError as error:
        raise _not_a_target(target, error) from error
    if not others_cannot_write(fd):
        os.close(fd)
        raise RestoreError(
            f"cannot restore into {printable(str(target))}: others may write there",
            "name a new directory, or one that only you may write to; FAT and NTFS are to be mounted with umask=077",
        )
    return fd


def _not_a_target(target: Path, error: OSError) -> RestoreError:
    cause = "it is a link or no directory" if error.errno in (errno.ELOOP, errno.ENOTDIR) else error.strerror
    return RestoreError(f"cannot restore into {printable(str(target))}: {cause}", "name a new directory")


def others_cannot_write(directory: int) -> bool:
    """Whether the directory is ours or root's, and not writable by everybody."""
    status = os.fstat(directory)
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & stat.S_IWOTH


def is_private(directory: int) -> bool:
    """Whether nobody but us gets through this directory, so that it does not matter who may write below it."""
    status = os.fstat(directory)
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def enter(directory: int, name: bytes, *, private: bool = False) -> tuple[int, bool]:
    """Make a directory with mode 0700, or take the one that is there; return it open, and whether it is new.

    Raises FileExistsError where something else has the name, PermissionError where others may write to it, unless all
    of it is `private`.
    """
    new = True
    try:
        os.mkdir(name, 0o700, dir_fd=directory)
    except FileExistsError:
        new = False
    try:
        fd = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        raise
    if not private and not others_cannot_write(fd):
        os.close(fd)
        cause = "others may write to this directory, which was there already: chmod 0700 the target"
        raise PermissionError(errno.EPERM, cause)
    return fd, new


def open_directory(directory: int, name: bytes) -> int:
    """Open the directory `name`, which may be no link; OSError otherwise. The caller closes it."""
    return os.open(name, _OPEN_DIRECTORY, dir_fd=directory)


def open_file(directory: int, name: bytes) -> int:
    """Open a file for reading, without waiting for whom it may be a FIFO; OSError for a link. The caller closes it."""
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)


def status(directory: int, name: bytes) -> os.stat_result | None:
    """What has this name, a link itself included; None if nothing has."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def open_below(directory: int, names: list[bytes]) -> int:
    """Open the directory that is `names` below `directory`, step by step, no link among them; the caller closes it."""
    fd = os.dup(directory)
    for name in names:
        try:
            below = os.open(name, _OPEN_DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def open_above(directory: int) -> int:
    """Open the directory that holds an open one. The caller checks that it is the one that it knows, and closes it."""
    return os.open(b"..", _OPEN_DIRECTORY, dir_fd=directory)


def link(source: int, first: bytes, directory: int, name: bytes) -> None:
    """Give the inode `first` in `source` a second name; neither is followed, nothing is replaced."""
    os.link(first, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)


def inherits_acls(directory: int) -> bool:
    """Whether what is made in this directory gets an ACL from it."""
    try:
        os.getxattr(directory, "system.posix_acl_default")
    except OSError:
        return False
    return True


def drop_acls(handle: int | str) -> None:
    """Take the ACLs away that were inherited from a directory which was there before."""
    for name in _INHERITED_ACLS:
        with suppress(OSError):
            os.removexattr(handle, name)


def names(directory: int) -> set[bytes]:
    """All names in an open directory."""
    with os.scandir(directory) as items:
        return {os.fsencode(item.name) for item in items}


@contextmanager
def held(directory: int, name: bytes) -> Iterator[str]:
    """A path that stands for what has this name now, a link itself included, whatever happens to the name."""
    fd = os.open(name, _HANDLE, dir_fd=directory)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


@contextmanager
def node(directory: int, name: bytes) -> Iterator[str]:
    """A path that stands for what was just made under `name` (a link, a device, ...), whatever happens to the name."""
    fd = os.open(name, _HANDLE, dir_fd=directory)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or status.st_nlink != 1 or stat.S_ISREG(status.st_mode):
            raise PermissionError(errno.EPERM, "it was replaced while it was restored")
        # The kernel goes from here to the very inode, and not on from there if that is a link.
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


class Draft:
    """A new file under a temporary name, mode 0600; it vanishes unless it is `published` under its own."""

    def __init__(self, directory: int, temporary: bytes) -> None:
        self._directory = directory
        self._temporary = temporary
        self.published = False
        self.fd = os.open(temporary, _CREATE_FILE, 0o600, dir_fd=directory)

    def publish(self, name: bytes, *, replace: bool = False) -> None:
        """Give the file its name, whole; FileExistsError if anything has it, with `replace` only for a directory."""
        publish(self._directory, self._temporary, name, replace=replace)
        self.published = True

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self.fd)
        if not self.published:
            with suppress(FileNotFoundError):
                os.unlink(self._temporary, dir_fd=self._directory)


def publish(directory: int, temporary: bytes, name: bytes, *, replace: bool = False) -> None:
    """Give what lies under `temporary` its name; FileExistsError if anything has it, with `replace` a directory only.

    An empty directory is replaced too. What is replaced goes in the moment in which the new one is there.
    """
    if not replace:
        _rename_without_replacing(directory, temporary, name)
        return
    try:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except IsADirectoryError:
        try:
            os.rmdir(name, dir_fd=directory)
        except OSError as error:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        _rename_without_replacing(directory, temporary, name)


def exchange(directory: int, one: bytes, other: bytes) -> None:
    """Swap two names at one stroke."""
    if _libc.renameat2(directory, one, directory, other, _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def discard(directory: int, name: bytes) -> None:
    """Remove a file, a link or an empty directory, if it is there."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        with suppress(OSError):
            os.rmdir(name, dir_fd=directory)


def remove_tree(directory: int, name: bytes) -> None:
    """Remove what has this name with all below it; nothing is followed, and no depth is too deep.

    Directories below are first moved up beside the one that is emptied.
    """
    pending = [name]
    while pending:
        each = pending.pop()
        try:
            os.unlink(each, dir_fd=directory)
            continue
        except FileNotFoundError:
            continue
        except (IsADirectoryError, PermissionError):
            fd = os.open(each, _OPEN_DIRECTORY, dir_fd=directory)
        try:
            with os.scandir(fd) as items:
                below = [(os.fsencode(item.name), item.is_dir(follow_symlinks=False)) for item in items]
            for inner, is_directory in below:
                if is_directory:
                    pending.append(temporary_name())
                    os.rename(inner, pending[-1], src_dir_fd=fd, dst_dir_fd=directory)
                else:
                    os.unlink(inner, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(each, dir_fd=directory)


def sync(directory: int) -> None:
    """Write all of the file system that holds `directory` to its disk; OSError where that failed."""
    if _libc.syncfs(directory) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def temporary_name() -> bytes:
    """A name that no entry has."""
    return b".pyrsyncbackup-" + secrets.token_hex(8).encode()


def _rename_without_replacing(directory: int, old: bytes, new: bytes) -> None:
    if _libc.renameat2(directory, old, directory, new, _RENAME_NOREPLACE) == 0:
        return
    code = ctypes.get_errno()
    if code not in _UNSUPPORTED:
        raise OSError(code, os.strerror(code))
    # Some network file systems do not know the flag; they know hard links.
    try:
        link(directory, old, directory, new)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_if_free(directory, old, new)
    else:
        os.unlink(old, dir_fd=directory)


def _rename_if_free(directory: int, old: bytes, new: bytes) -> None:
    """For file systems that know neither (exFAT and others by FUSE). Whoever took the name in between would lose it.

    That can only be the user whose restore this is: nobody else may write here.
    """
    if status(directory, new) is not None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(old, new, src_dir_fd=directory, dst_dir_fd=directory)
