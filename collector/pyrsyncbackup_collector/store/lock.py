"""One collector at a time: the exclusive lock of a store, and who holds it."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import StoreBusy
from pyrsyncbackup_collector.store.faults import translated
from pyrsyncbackup_collector.store.layout import LOCK

_MAX_HOLDER = 64 << 10


class Holder(msgspec.Struct, frozen=True):
    """Who holds the lock: written into the lock's file for the one who does not get it."""

    pid: int
    host: str
    since: str
    command: str


class StoreLock:
    """The lock of the store at `path`, held from construction to `close`, or to the end of the process.

    `now` is seconds since 1970. StoreBusy names the holder.
    """

    def __init__(self, path: Path, now: float) -> None:
        with translated(path / LOCK):
            # For reading: a file system with a file open for writing cannot be made read-only.
            self._file = os.open(path / LOCK, os.O_RDONLY | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _write(path, now)
            except BlockingIOError:
                held = os.pread(self._file, _MAX_HOLDER, 0)
                os.close(self._file)
                raise _busy(path, held) from None
            except BaseException:
                os.close(self._file)
                raise

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._file)


def _write(path: Path, now: float) -> None:
    since = datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    holder = Holder(os.getpid(), socket.gethostname(), since, " ".join(sys.argv)[:4000])
    (path / LOCK).write_bytes(msgspec.json.encode(holder) + b"\n")


def _busy(path: Path, held: bytes) -> StoreBusy:
    hint = "stop it, or let it do the work: `pyrsyncbackup pull` asks a running daemon"
    try:
        who = msgspec.json.decode(held, type=Holder)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return StoreBusy(f"another collector uses the store {path}", hint)
    by = f"process {who.pid} on {printable(who.host)} since {printable(who.since)}: {printable(who.command)}"
    return StoreBusy(f"the store {path} is in use by {by}", hint)
