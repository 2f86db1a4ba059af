"""The open files of this process, to see that a call leaves none behind."""

from __future__ import annotations

import contextlib
import os


def opened() -> set[tuple[str, str]]:
    """Each with what it leads to. Others may be closed meanwhile, by threads that earlier tests left to themselves."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the list itself
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))
    return found
