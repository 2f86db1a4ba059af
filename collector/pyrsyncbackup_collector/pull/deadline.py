"""Ends a pull whose phase takes longer than its limit: nothing hangs for ever, whatever it is that hangs.

What waits for the agent is ended by the request to stop, and the pull says itself that it failed. What waits for a file
system that does not answer cannot be ended by anybody: then the pull is given up, which is told to somebody else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.errors import BackupError, CommitOverdue, PullOverdue
from pyrsyncbackup_collector.pull.cancel import Cancel

# Seconds that a pull may take to end in order once it was asked to, before it is given up.
GRACE: Final = 30.0
# A transfer may take this much longer for each byte that is to come, in bytes a second; with `bwlimit` half of that.
SLOWEST: Final = 1 << 20
# In words, and the key of its limit.
_PHASES: Final = {
    "room": ("the look at the room in the store", "commit"),
    "list": ("listing", "list"),
    "transfer": ("the transfer", "transfer"),
    "commit": ("the commit", "commit"),
}


@dataclass(frozen=True, slots=True)
class PhaseLimits:
    """Seconds: `list` for a whole listing, `transfer` for all contents and for their size besides, `commit`.

    The last counts for the look at the store's "room" as well: both wait for its file system alone.
    """

    list: float
    transfer: float
    commit: float
    bwlimit: int | None = None

    def allowed(self, phase: str, size: int) -> float | None:
        """How long this phase may take when so many bytes are to come; None for one without a limit of its own."""
        if phase == "transfer":
            rate = min(SLOWEST, max(self.bwlimit // 2, 1)) if self.bwlimit else SLOWEST
            return self.transfer + size / rate
        return {"list": self.list, "commit": self.commit, "room": self.commit}.get(phase)


class Deadline:
    """The present phase of one pull of the module `name`, and a thread that watches it.

    At its end `cancel` is set with the error; a pull that has not ended by so many seconds later is `given_up`, once
    and from that thread. Transfers count together, over all attempts.
    """

    def __init__(
        self,
        name: str,
        limits: PhaseLimits,
        clock: Clock,
        cancel: Cancel,
        given_up: Callable[[BackupError], None],
        grace: float = GRACE,
    ) -> None:
        self._name, self._limits, self._clock, self._cancel = name, limits, clock, cancel
        self._given_up, self._grace = given_up, grace
        self._phase, self._size, self._since = "", 0, clock.monotonic()
        self._transferred = 0.0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name=f"deadline {name}", daemon=True)
        self._thread.start()

    def enter(self, phase: str, size: int = 0) -> None:
        """The pull is in this phase now, with so many bytes to come in all."""
        if phase == self._phase and size == self._size:
            return
        with self._changed:
            if phase != self._phase:
                now = self._clock.monotonic()
                if self._phase == "transfer":
                    self._transferred += now - self._since
                self._phase, self._since = phase, now
            self._size = size
            self._changed.notify()

    def close(self) -> None:
        """The pull has ended; when this returns it was given up, or never will be."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed and (left := self._left()) > 0:
                self._changed.wait(min(left, threading.TIMEOUT_MAX))
            if self._closed:
                return
            error = self._error()
        self._cancel.set(error)
        with self._changed:
            if self._changed.wait_for(lambda: self._closed, self._grace):
                return
        self._given_up(error)

    def _allowed(self) -> float | None:
        return self._limits.allowed(self._phase, self._size)

    def _left(self) -> float:
        allowed = self._allowed()
        if allowed is None:
            return threading.TIMEOUT_MAX
        before = self._transferred if self._phase == "transfer" else 0.0
        return allowed - before - (self._clock.monotonic() - self._since)

    def _error(self) -> BackupError:
        words, key = _PHASES[self._phase]
        cause = f"{self._name}: {words} did not end within {self._allowed():.0f} s (`limits.{key}`)"
        if key == "commit":
            return CommitOverdue(cause, "look whether the store's file system answers: `dmesg`, `ls` in the store")
        return PullOverdue(cause, "what came is kept; look at the host and the line, or raise the limit")
