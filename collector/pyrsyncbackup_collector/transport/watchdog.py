"""Ends streams whose agent has gone silent: gRPC's keepalive sees a dead path, not an agent that says nothing.

Only the time spent waiting for the agent counts: a consumer that is slow, or paced by a limit, is not the agent's
fault. One thread serves all streams of a connection, and sleeps until the next limit can be reached.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from pyrsyncbackup_collector.clock import Clock


class Guard:
    """One watched stream; `why` says why it was cancelled."""

    def __init__(self, clock: Clock, idle: float, total: float, cancel: Callable[[], object]) -> None:
        self._clock = clock
        self._idle = idle
        self._left = total
        # Seconds that the agent was waited for so far.
        self.waited = 0.0
        self._cancel = cancel
        self._since: float | None = None
        self.why = ""

    def waiting(self) -> None:
        """From now on the agent is waited for."""
        self._since = self._clock.monotonic()

    def heard(self) -> None:
        """The agent said something."""
        if self._since is not None:
            waited = self._clock.monotonic() - self._since
            self._left -= waited
            self.waited += waited
            self._since = None

    def hurry(self, seconds: float) -> None:
        """From now on the agent is waited for this long at most."""
        self._left = min(self._left, seconds)

    def check(self) -> float:
        """Cancel if a limit is reached; return how many seconds from now one could be."""
        since = self._since
        if since is None:
            return self._idle
        waited = self._clock.monotonic() - since
        left = min(self._idle, self._left) - waited
        if left <= 0 and not self.why:
            slow = "was waited for longer than allowed in all" if self._left < self._idle else "was silent"
            self.why = f"the agent {slow} ({waited:.0f} s)"
            self._cancel()
        return left if left > 0 else self._idle


class Watchdog:
    """The guards of one connection. `watch` starts the thread when it is first needed; `close` ends it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._guards: set[Guard] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, idle: float, total: float, cancel: Callable[[], object]) -> Guard:
        """A guard that cancels after `idle` seconds of silence, or `total` seconds of waiting in all."""
        guard = Guard(self._clock, idle, total, cancel)
        with self._changed:
            self._guards.add(guard)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="agent-watchdog", daemon=True)
                self._thread.start()
            self._changed.notify()
        return guard

    def hurry(self, guard: Guard, seconds: float) -> None:
        """Leave a stream so much waiting from now on."""
        with self._changed:
            guard.hurry(seconds)
            self._changed.notify()

    def forget(self, guard: Guard) -> None:
        """The stream has ended."""
        with self._changed:
            self._guards.discard(guard)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                pauses = [guard.check() for guard in self._guards]
                self._changed.wait(min(pauses) + 0.01 if pauses else None)
