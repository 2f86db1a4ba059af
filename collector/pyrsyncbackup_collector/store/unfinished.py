"""What a restore leaves in its target while it runs, so that one that was killed can be gone on with.

A file in the target itself: names of drafts, and the directories that were there before. From it the next restore
knows which directories are its predecessor's own, still without attributes, and which drafts to remove. It goes when
a restore comes to its end. It is believed only if it is a plain file of ours; even a forged one could not do more than
remove drafts and give directories below the target the attributes of the snapshot.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import fcntl
import os
import re
import stat
from dataclasses import dataclass
from typing import Final

from pyrsyncbackup_collector.errors import RestoreError
from pyrsyncbackup_collector.store import beneath

NAME: Final = b".pyrsyncbackup-restore"
# Each line holds one directory; more would be no file of ours.
_MOST: Final = 256 << 20
_DRAFT: Final = re.compile(rb"\.pyrsyncbackup-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Traces:
    """What restores that were ended before left: names of drafts, and directories that were there before them."""

    drafts: tuple[bytes, ...] = ()
    kept: frozenset[bytes] = frozenset()

    def made(self, path: bytes) -> bool:
        """Whether one of them made this directory, if it looks like that."""
        return bool(self.drafts) and path not in self.kept


def look(target: int) -> Traces:
    """The traces in an open directory, which is not changed."""
    try:
        file = os.open(NAME, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
    except OSError:
        return Traces()
    try:
        return _read(file)
    finally:
        os.close(file)


class Unfinished:
    """The file of one target, from begin to end of a restore.

    Raises OSError where the target cannot hold it, RestoreError while another restore has it.
    """

    def __init__(self, target: int, draft: bytes) -> None:
        self._target = target
        before = Traces()
        try:
            self._file = os.open(NAME, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
        except FileNotFoundError:
            self._file = self._new()
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            os.unlink(NAME, dir_fd=target)
            self._file = self._new()
        else:
            self._lock()
            before = _read(self._file)
            if not before.drafts:
                os.close(self._file)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(NAME, dir_fd=target)
                self._file = self._new()
        self.before: Final = before
        self._kept = set(before.kept)
        self._write(b"draft " + draft)

    def keep(self, path: bytes) -> None:
        """Remember that this directory was there before any restore."""
        if path not in self._kept:
            self._kept.add(path)
            self._write(b"kept " + base64.b64encode(path))

    def done(self) -> None:
        """The restore came to its end."""
        with contextlib.suppress(OSError):
            there = os.stat(NAME, dir_fd=self._target, follow_symlinks=False)
            mine = os.fstat(self._file)
            if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                os.unlink(NAME, dir_fd=self._target)

    def close(self) -> None:
        """Close the file, which stays unless `done` was said."""
        os.close(self._file)

    def _new(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(NAME, flags, 0o600, dir_fd=self._target)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file

    def _lock(self) -> None:
        """Two at a time would take each other's drafts away."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._file)
            raise RestoreError("another restore into this directory is running", "wait for it") from error

    def _write(self, line: bytes) -> None:
        os.write(self._file, line + b"\n")


def _read(file: int) -> Traces:
    """What the file says, if it is a plain one of ours that nobody else may write."""
    status = os.fstat(file)
    plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size <= _MOST
    if not plain or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        return Traces()
    drafts, kept = [], set()
    with os.fdopen(os.dup(file), "rb") as lines:
        lines.seek(0)
        for line in lines:
            word, _, value = line.rstrip(b"\n").partition(b" ")
            if word == b"draft" and _DRAFT.fullmatch(value):
                drafts.append(value)
            elif word == b"kept":
                with contextlib.suppress(binascii.Error):
                    kept.add(base64.b64decode(value, validate=True))
    return Traces(tuple(drafts), frozenset(kept))


def clear(directory: int, drafts: tuple[bytes, ...]) -> None:
    """Remove these drafts from a directory."""
    for draft in drafts:
        beneath.discard(directory, draft)
