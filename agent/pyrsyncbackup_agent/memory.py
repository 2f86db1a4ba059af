"""Keeping the idle process small: what glibc holds back for later is given back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from typing import Final

_M_ARENA_MAX: Final = -8  # of mallopt(3)
_MADV_DONTNEED: Final = 4


def settle() -> None:
    """Call once, before threads are started: two arenas for all of them instead of eight per core."""
    with contextlib.suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
    gc.collect()
    gc.freeze()
    give_back()


def give_back() -> None:
    """Return free memory to the system; takes milliseconds."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        _unmap_code()


def _unmap_code() -> None:
    """Code that ran at start or in a session counts as ours for as long as it stays mapped: 10 MB and more, of gRPC's.

    Code is never written, so the kernel maps it again from the file when it runs. How much it maps at once depends on
    how the file lies in the page cache: without this, the size differs from machine to machine.
    """
    libc = ctypes.CDLL(None)
    with open("/proc/self/maps") as maps:
        for line in maps.readlines():
            addresses, mode, _, _, _, *file = line.split(maxsplit=5)
            if mode == "r-xp" and file and file[0].startswith("/"):
                begin, end = (int(address, 16) for address in addresses.split("-"))
                libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_DONTNEED)
