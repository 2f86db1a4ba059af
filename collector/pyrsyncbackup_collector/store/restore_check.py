"""Reads back what a restore wrote: from the disk, not from memory, and compares each content with its digest."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable

from pyrsyncbackup_collector.entry import DIRECTORY, FILE, Entry
from pyrsyncbackup_collector.errors import RestoreError
from pyrsyncbackup_collector.store import beneath
from pyrsyncbackup_collector.store.descent import NOT_MADE, Descent, Level
from pyrsyncbackup_collector.store.restore_report import Reason, Tally
from pyrsyncbackup_collector.store.survey import Names, content_is

Progress = Callable[[int, int], None]


def check_files(
    target: int, entries: Iterable[Entry], names: Names, tally: Tally, progress: Progress | None = None
) -> None:
    """Compare every file of `names` below `target`; those that differ are noted.

    RestoreError if what was written cannot be brought to the disk.
    """
    try:
        beneath.sync(target)
    except OSError as error:
        why = error.strerror or str(error)
        raise RestoreError(f"what was restored could not be written to the disk: {why}", "look at the disk") from error
    descent = Descent(Level(b"", os.dup(target)))
    try:
        for entry in entries:
            level, name = descent.at(entry.path)
            if entry.type == DIRECTORY:
                descent.enter(Level(entry.path, _opened(level, name)))
            elif entry.type == FILE and entry in names:
                _check(level, name, entry, tally)
                if progress:
                    progress(0, entry.size)
    finally:
        descent.close()


def _opened(level: Level, name: bytes) -> int:
    if level.fd < 0:
        return NOT_MADE
    try:
        return beneath.open_directory(level.fd, name)
    except OSError:
        return NOT_MADE


def _check(level: Level, name: bytes, entry: Entry, tally: Tally) -> None:
    try:
        if level.fd < 0:
            raise FileNotFoundError(2, "its directory cannot be entered any more")
        _forget(level.fd, name)
        if not content_is(level.fd, name, entry.sha256):
            tally.note(entry.path, Reason.UNSOUND)
        tally.checked += 1
    except OSError as error:
        tally.note(entry.path, Reason.UNSOUND, error.strerror or str(error))


def _forget(directory: int, name: bytes) -> None:
    """Have the kernel drop what it holds of this file, so that it comes from the disk."""
    fd = beneath.open_file(directory, name)
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
