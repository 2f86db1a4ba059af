"""Where damaged objects go: out of the way of those that read and write, and never away.

Decides that what is moved is the very file that was found damaged. Whether it is, and who is told, is for others.
"""

from __future__ import annotations

import contextlib
import os
import stat
from itertools import count
from pathlib import Path

from pyrsyncbackup_collector.store.faults import translated
from pyrsyncbackup_collector.store.layout import ASIDE, make_directory, sync_directory
from pyrsyncbackup_collector.store.rehash import NO_FILE, File


def is_same(place: Path, file: File) -> bool:
    """Whether the file at `place` is the one of that identity; for NO_FILE, whether there is none."""
    if file == NO_FILE:
        return not place.exists()
    try:
        found = place.lstat()
    except FileNotFoundError:
        return False
    # What no pull ever made: links and directories, laid here by hand, were found damaged as what they are.
    return (found.st_dev, found.st_ino, found.st_mtime_ns) == file or not stat.S_ISREG(found.st_mode)


def set_aside(store: Path, place: Path, sha256: str, file: File) -> Path | None:
    """Move the damaged object at `place` to the store's directory of damaged ones; where to.

    None if another file lies there by now, or none. Never replaces one that was set aside before.
    """
    directory = store / ASIDE
    with translated(directory):
        make_directory(directory)
        for number in count(1):
            target = directory / (sha256 if number == 1 else f"{sha256}.{number}")
            try:
                # Taken first, so that two of a name never meet.
                os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400))
            except FileExistsError:
                continue
            if not is_same(place, file):
                target.unlink()
                return None
            if place.is_dir() and not place.is_symlink():
                target.unlink()  # a directory takes no file's place
            place.rename(target)
            if not is_same(target, file):
                _put_back(target, place)  # it came in just this moment
                return None
            sync_directory(directory)
            return target
    return None


def _put_back(target: Path, place: Path) -> None:
    """Give a sound object its name again, unless another one has it by now."""
    with contextlib.suppress(FileExistsError):
        place.hardlink_to(target)
    target.unlink()
    sync_directory(place.parent)
