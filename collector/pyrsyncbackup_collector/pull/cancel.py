"""A request to stop, seen by everything that a pull is waiting for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pyrsyncbackup_collector.errors import BackupError, Cancelled

# Seconds. The system may give a signal to any thread, and Python's handler runs in the main one, which does not hear of
# it while it waits for a lock: so it waits no longer than this at a time.
GLANCE: Final = 0.5


class Cancel:
    """Set from any thread; `check` raises from then on, and registered callbacks end what blocks.

    It is set on request, or because of `reason`, the error that `check` raises then: the first to set it says why.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self.reason: BackupError | None = None
        self._callbacks: list[Callable[[], None]] = []

    @property
    def is_set(self) -> bool:
        """Whether stopping was asked for."""
        return self._set

    def set(self, reason: BackupError | None = None) -> None:
        """Ask to stop; returns when all callbacks ran."""
        with self._lock:
            if not self._set:
                self.reason = reason
            self._set = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def wait(self, seconds: float) -> None:
        """Let so much time pass; raises as `check` as soon as stopping is asked for."""
        asked = threading.Event()
        with self.ends(asked.set):
            asked.wait(seconds)
        self.check()

    def check(self) -> None:
        """Raise Cancelled if stopping was asked for, or the reason for it."""
        self.look()

    def look(self) -> None:
        """Like `check`, for one that only waits for something that may hang: it is no sign of life."""
        if self._set:
            raise self.reason or Cancelled("stopped on request", "run it again; what was transferred is kept")

    @contextmanager
    def resting(self) -> Iterator[None]:
        """While the block runs no sign of life is missed: for who only waits for work that is watched itself."""
        yield

    @contextmanager
    def ends(self, callback: Callable[[], None]) -> Iterator[None]:
        """While the block runs, `set` calls `callback` (thread-safe, quick), at once if it was set already."""
        with self._lock:
            late = self._set
            if not late:
                self._callbacks.append(callback)
        if late:
            callback()
        try:
            yield
        finally:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)
