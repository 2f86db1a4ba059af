"""How a draft gets its place beside objects that may be there already, and how all of them become durable.

Decides nothing about what is written; names are strings, as in `objects`.
"""

# ruff: noqa: PTH104

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)
_HERE: Final = -100
_NO_REPLACE: Final = 1


def rename(draft: str, place: str) -> None:
    """Put `draft` at `place`; where a file lies already, only once the draft is durable.

    That file may be one that another pull wrote, synced and recorded just now: what takes its place must survive a
    power loss as it would have.
    """
    if _libc.renameat2(_HERE, os.fsencode(draft), _HERE, os.fsencode(place), _NO_REPLACE) == 0:
        return
    number = ctypes.get_errno()
    if number == errno.ENOENT:
        raise FileNotFoundError(number, os.strerror(number), place)
    # It is there, or this file system cannot tell, or whatever else: the plain call says so.
    file = os.open(draft, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
    os.rename(draft, place)


def syncfs(directory: int) -> None:
    """Write all of the file system that holds an open directory to its disk; OSError where that failed."""
    if _libc.syncfs(ctypes.c_int(directory)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
