"""Sees that work on the store still goes on, and ends what gives no sign of life for too long.

A sign is each look whether to stop, and so each word about progress. What can be ended says itself why; what waits for
a file system that does not answer cannot be ended by anybody: it is given up, and its run is recorded as failed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.catalog.journal import FAILED
from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import BackupError, CatalogError, ChoreOverdue
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.deadline import GRACE

HINT: Final = (
    "look whether the file systems of the store and of its copies answer: `dmesg`, `ls` there; "
    "it is tried again, and goes on"
)


class Vigil(Cancel):
    """The request to stop of the work `name`, and a thread that watches whether the work still asks for it.

    After `silence` seconds without a sign it is set with the error; work that has not ended `grace` seconds later is
    `given_up`, once and from that thread.
    """

    def __init__(
        self, name: str, silence: float, clock: Clock, given_up: Callable[[BackupError], None], grace: float = GRACE
    ) -> None:
        super().__init__()
        self._name, self._silence, self._clock = name, silence, clock
        self._given_up, self._grace = given_up, grace
        self._sign = clock.monotonic()
        self._resting = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"vigil {name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise if stopping was asked for; a sign of life."""
        self._sign = self._clock.monotonic()
        super().check()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """As of any Cancel; not to be nested."""
        self._resting = True
        try:
            yield
        finally:
            self._sign = self._clock.monotonic()
            self._resting = False

    def close(self) -> None:
        """The work has ended; when this returns it was given up, or never will be."""
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        while (left := self._left()) > 0:
            if self._closed.wait(min(left, threading.TIMEOUT_MAX)):
                return
        error = ChoreOverdue(f"{self._name}: no sign of life for {self._silence:.0f} s (`limits.chore`)", HINT)
        self.set(error)
        if not self._closed.wait(self._grace):
            self._given_up(error)

    def _left(self) -> float:
        return self._silence if self._resting else self._sign + self._silence - self._clock.monotonic()


class GivenUp:
    """Records the `run` of work that hangs and cannot be ended; `told` says whether it did.

    `run` may be set later: what hangs before it begins has none.
    """

    def __init__(
        self, parts: Parts, what: str, then: Callable[[BackupError], None] | None = None, *, run: str = ""
    ) -> None:
        self._parts, self._what, self._then = parts, what, then
        self._log: Any = logs.get()
        self.run = run
        self.told = False

    def __call__(self, error: BackupError) -> None:
        """It was given up because of `error`."""
        self.told = True
        cause, step = printable(error.cause), printable(error.hint)
        fields = {"run": self.run, "error": type(error).__name__, "cause": cause, "next": step}
        self._log.error(f"{self._what} hangs and is given up", **fields)
        try:
            if self.run:
                self._parts.catalog.run_end(self.run, FAILED, error=error)
        except CatalogError as fault:
            self._log.error(f"the end of a {self._what} could not be recorded", cause=printable(fault.cause))
        if self._then is not None:
            self._then(error)
