"""The one SQLite connection of a process, its lock, and the one place where foreign errors become ours.

A catalog has one connection, shared by all threads under one lock: transactions are short, and a thread that ends
leaves nothing open. Other processes (a command beside the daemon) are kept apart by SQLite's write-ahead log:
readers never wait, writers wait up to `BUSY_SECONDS` for each other. Knows nothing of tables.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import peewee

from pyrsyncbackup_collector.errors import CatalogDamaged, CatalogError, CatalogFull, CatalogLocked

# Longer than the longest transaction (a commit of a million paths takes a few seconds).
BUSY_SECONDS: Final = 15.0

REBUILD_HINT: Final = "run `pyrsyncbackup catalog rebuild`; the snapshots in the store are not touched by it"

# What peewee and sqlite3 raise; OverflowError for a number beyond 64 bits.
FOREIGN: Final = (peewee.PeeweeException, sqlite3.Error, OverflowError)

_PRAGMAS: Final = {
    "journal_mode": "wal",
    "foreign_keys": 1,
    # With WAL, a power loss may undo the last transactions, never tear one; start-up adds what the store has more.
    "synchronous": "normal",
    "cache_size": -16000,
    "temp_store": "memory",
    "journal_size_limit": 1024 * 1024,
}


# 64 MB of pages; the log in memory is for taking back what turns out to be damaged. What is sorted for an index may be
# gigabytes: it goes to a file.
_HURRY: Final = (
    "journal_mode = memory",
    "synchronous = off",
    "foreign_keys = off",
    "cache_size = -64000",
    "temp_store = file",
)


class Database:
    """An open SQLite file. `peewee` executes queries, `raw` is for statements by the ten thousand."""

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._closed = False
        self.peewee = peewee.SqliteDatabase(
            f"file:{quote(str(path.absolute()))}?mode=rw",
            pragmas=_PRAGMAS,
            uri=True,
            thread_safe=False,
            autoconnect=False,
            check_same_thread=False,
            timeout=busy_seconds,
        )
        with translated(path):
            try:
                self.peewee.connect()
            except BaseException:
                self.peewee.close()
                raise

    @property
    def raw(self) -> sqlite3.Connection:
        """The connection itself; use it inside `reading` or `writing` only."""
        connection: sqlite3.Connection = self.peewee.connection()  # type: ignore[no-untyped-call]
        return connection

    def hurry(self) -> None:
        """For a file that nobody else sees, and that is thrown away if anything goes wrong: no log, nothing synced.

        Rows may refer to what does not exist. It lasts until `close`; who keeps the file syncs it.
        """
        for pragma in _HURRY:
            self.raw.execute(f"PRAGMA {pragma}")

    @contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """One write transaction: committed at the end, undone by an exception.

        A `durable` one, and all before it, survive a power loss once it is committed; it stands in no other one.
        """
        with self._lock:
            if durable:
                self._pragma("synchronous", "full")
            try:
                with self._used("immediate") as raw:
                    yield raw
            finally:
                if durable:
                    self._pragma("synchronous", _PRAGMAS["synchronous"])

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent view of everything; other processes may write meanwhile."""
        with self._used("deferred") as raw:
            yield raw

    @contextmanager
    def _used(self, lock_type: str) -> Iterator[sqlite3.Connection]:
        failed: BaseException | None = None
        with self._lock:
            if self._closed:
                raise CatalogError(f"the catalog {self.path} is closed")
            try:
                with self.peewee.atomic(lock_type):
                    try:
                        yield self.raw
                    except BaseException as error:
                        failed = error
                        raise
            except FOREIGN as error:
                # On a full disk SQLite ends the transaction by itself and undoing it fails too: the first error counts.
                first = failed or _before_rollback(error)
                if isinstance(first, FOREIGN):
                    raise _translate(self.path, first) from first
                raise first from None

    def _pragma(self, name: str, value: object) -> None:
        if not self._closed:
            with translated(self.path):
                self.raw.execute(f"PRAGMA {name} = {value}")

    def close(self) -> None:
        """End the connection; a second time does nothing."""
        with self._lock:
            self._closed = True
            self.peewee.close()


def _before_rollback(error: BaseException) -> BaseException:
    """What made SQLite end the transaction, where all that is said is that it cannot be undone."""
    while "cannot rollback" in str(error) and error.__context__ is not None:
        error = error.__context__
    return error


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the errors of peewee and sqlite3 that arise inside into CatalogError and its kin."""
    try:
        yield
    except FOREIGN as error:
        raise _translate(path, error) from error


def _translate(path: Path, error: Exception) -> CatalogError:
    code = _result_code(error)
    text = str(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return CatalogLocked(
            f"the catalog {path} is locked by another process",
            "wait for the other command to end; `fuser` on the file names it",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT):
        return CatalogDamaged(f"the catalog {path} is damaged: {text}", REBUILD_HINT)
    if code == sqlite3.SQLITE_FULL:
        return CatalogFull(f"no space left for the catalog {path}", "free space on its file system")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
        return CatalogError(
            f"the catalog {path} cannot be read or written: {text}",
            "check the file system, and that owner and mode of the file and its directory fit the collector's user",
        )
    if "no such table" in text or "no such column" in text:
        return CatalogDamaged(f"the catalog {path} lacks a part: {text}", REBUILD_HINT)
    return CatalogError(f"the catalog {path} refused: {text}")


def _result_code(error: BaseException) -> int:
    """SQLite's primary result code, from the error or from the one that peewee wrapped; 0 if there is none."""
    seen: BaseException | None = error
    while seen is not None:
        code: Any = getattr(seen, "sqlite_errorcode", None)
        if isinstance(code, int):
            return code & 0xFF
        original = getattr(seen, "orig", None)
        seen = original if isinstance(original, BaseException) else (seen.__cause__ or seen.__context__)
    return 0
