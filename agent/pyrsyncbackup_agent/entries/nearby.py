"""How calls that take no directory descriptor reach the names of an open directory.

Through /proc/self/fd such a call costs three times as much as by a bare name, most of it the way through procfs. So a
thread that reads many names gets a working directory of its own, which no other thread sees, and goes there for a
moment. Where the kernel or a container refuses that, /proc/self/fd serves.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator
from typing import Final

_CLONE_FS: Final = 0x200  # of unshare(2); needs no privilege
_STAY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

_thread = threading.local()


def directory_path(fd: int) -> bytes:
    """Return what leads to the names of an open directory when it is put before them, from everywhere."""
    return b"/proc/self/fd/%d/" % fd


@contextlib.contextmanager
def inside(fd: int) -> Iterator[bytes]:
    """Give what leads to the names of an open directory when it is put before them, in this thread and block only.

    Never let a generator yield within it: another thread may go on with that.
    """
    back = _enter(fd)
    if back < 0:
        yield directory_path(fd)
        return
    try:
        yield b""
    finally:
        try:
            os.fchdir(back)
        finally:
            os.close(back)


def _enter(fd: int) -> int:
    """Make `fd` the thread's working directory, and return the one before; -1 if that cannot be."""
    if not _is_private():
        return -1
    try:
        back = os.open(".", _STAY)
    except OSError:
        return -1
    try:
        os.fchdir(fd)
    except OSError:
        os.close(back)
        return -1
    return back


def _is_private() -> bool:
    """Give this thread a working directory of its own, once; say whether it has one."""
    private: bool | None = getattr(_thread, "private", None)
    if private is None:
        try:
            private = ctypes.CDLL(None).unshare(_CLONE_FS) == 0
        except AttributeError:  # a C library without it
            private = False
        _thread.private = private
    return private
