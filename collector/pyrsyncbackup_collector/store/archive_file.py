"""The file that an archive is written to: a draft beside it, which gets its name when it is whole and on the disk.

Decides what may be replaced: nothing, unless it was asked for, and never a directory. A draft that a killed run left is
removed; one that another run writes to is not.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from pyrsyncbackup_collector.entry import MAX_NAME, printable
from pyrsyncbackup_collector.errors import RestoreError
from pyrsyncbackup_collector.store import beneath

_SUFFIX: Final = b".pyrsyncbackup-part"
_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@contextmanager
def archive_file(path: Path, *, replace: bool = False) -> Iterator[BinaryIO]:
    """A new file, mode 0600, to be filled in the block; it becomes `path` when the block ends well.

    Raises RestoreError for a name that is taken (before anything is written), and for what the disk refuses.
    """
    name = os.fsencode(path.name)
    if not name or len(name) > MAX_NAME:
        raise RestoreError(f"{printable(str(path))} is not a file's name", "name a new file")
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _cannot(path, error) from error
    try:
        _must_be_free(directory, name, path, replace=replace)
        draft = b"." + name[: MAX_NAME - len(_SUFFIX) - 1] + _SUFFIX
        fd = _open_draft(directory, draft, path)
        try:
            with open(fd, "wb", closefd=True) as file:
                yield file
                file.flush()
                os.fsync(fd)
                _must_be_free(directory, name, path, replace=replace)
                beneath.publish(directory, draft, name, replace=replace)
            os.fsync(directory)
        except FileExistsError as error:
            beneath.discard(directory, draft)
            raise _taken(path) from error
        except OSError as error:
            beneath.discard(directory, draft)
            raise _cannot(path, error) from error
        except BaseException:
            beneath.discard(directory, draft)
            raise
    finally:
        os.close(directory)


def _must_be_free(directory: int, name: bytes, path: Path, *, replace: bool) -> None:
    there = beneath.status(directory, name)
    if there is None:
        return
    if not stat.S_ISREG(there.st_mode):
        raise RestoreError(f"{printable(str(path))} is there already, and no file", "name a new file, or - for a pipe")
    if not replace:
        raise _taken(path)


def _open_draft(directory: int, draft: bytes, path: Path) -> int:
    try:
        fd = os.open(draft, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
    except FileExistsError:
        _remove_left_over(directory, draft, path)
        fd = os.open(draft, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
    except OSError as error:
        raise _cannot(path, error) from error
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def _remove_left_over(directory: int, draft: bytes, path: Path) -> None:
    try:
        fd = os.open(draft, _FLAGS, dir_fd=directory)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(draft, dir_fd=directory)
        finally:
            os.close(fd)
    except BlockingIOError as error:
        raise RestoreError(
            f"another run is writing {printable(str(path))}", "wait for it, or name another file"
        ) from error
    except OSError as error:
        raise _cannot(path.parent / os.fsdecode(draft), error) from error


def _taken(path: Path) -> RestoreError:
    return RestoreError(
        f"{printable(str(path))} is there already", "name a new file, or say --overwrite always to replace a file"
    )


def _cannot(path: Path, error: OSError) -> RestoreError:
    hint = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "name another file"
    return RestoreError(f"cannot write {printable(str(path))}: {error.strerror or error}", hint)
