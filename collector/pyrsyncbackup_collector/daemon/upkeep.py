"""Chores in the daemon: those that commands ask for, and those that are due by the rota, one of each name at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.catalog.journal import CANCELLED, CHECK, FAILED, PULL
from pyrsyncbackup_collector.config import Config
from pyrsyncbackup_collector.config.calendar import Calendar
from pyrsyncbackup_collector.config.spans import Hours
from pyrsyncbackup_collector.daemon import chores, copying
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.daemon.work import described
from pyrsyncbackup_collector.errors import BackupError, CatalogError
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.deadline import GRACE
from pyrsyncbackup_collector.schedule.rota import is_due

# A chore that never ran begins so long after the daemon: first come the pulls.
FIRST: Final = 300.0
# A chore that failed is tried again so soon at the latest, also one with moments of the calendar.
AGAIN: Final = 3600.0
# Whether something is due by the rota is looked up so often, in seconds.
LOOK_EVERY: Final = 10.0
# The trigger of a run that the rota began.
_ROTA: Final = "schedule"


class Upkeep:
    """The chores that run. `poll` is called by one thread; the rest by any."""

    def __init__(self, parts: Parts, config: Config, grace: float = GRACE) -> None:
        """A chore that hangs is given up so many seconds after it was asked to end."""
        self._parts, self._config, self._grace = parts, config, grace
        self._started = parts.clock.monotonic()
        self._running: dict[str, tuple[threading.Thread, Cancel, int | None]] = {}
        # Those that hang and were given up: no other of their name begins meanwhile, or ever more would hang.
        self._hanging: dict[str, BackupError] = {}
        # Answers that could not be written yet, because the catalog was locked.
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._lock = threading.Lock()
        self._next_look = 0.0
        self._stopping = False

    def set_config(self, config: Config) -> None:
        """What begins from now on goes by this configuration."""
        self._config = config

    def poll(self) -> None:
        """Begin what was asked for or is due, stop what was withdrawn. Raises CatalogError."""
        self._write_answers()
        for row in self._parts.catalog.requests():
            if row.kind in (CHECK, PULL):
                continue
            if row.cancelled is not None:
                self._withdraw(row.id)
            elif row.taken is None and (hangs := self._hangs(row.kind)) and self._parts.catalog.request_take(row.id):
                self._parts.catalog.request_done(row.id, {"document": {}, "error": _error(hangs)})
            elif row.taken is None and not self._runs(row.kind) and self._parts.catalog.request_take(row.id):
                self._begin(row.kind, row.options, "request", row.id)
        now = self._parts.clock.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_EVERY
            moment = self._parts.clock.now()
            for name in self._due(moment):
                self._begin(name, {}, _ROTA, None)
            if copies := self._copies_due(moment):
                self._begin("replicate", {"names": copies}, _ROTA, None)

    def stop(self) -> None:
        """Ask all to stop, and begin no more."""
        with self._lock:
            self._stopping = True
            running = list(self._running.values())
        for _, cancel, _ in running:
            cancel.set()

    def joined(self, seconds: float) -> bool:
        """Whether all ended within that time, after `stop`."""
        deadline = self._parts.clock.monotonic() + seconds
        with self._lock:
            running = list(self._running.values())
        for thread, _, _ in running:
            thread.join(max(0.0, deadline - self._parts.clock.monotonic()))
        return not any(thread.is_alive() for thread, _, _ in running)

    def _due(self, now: float) -> list[str]:
        upkeep = self._config.upkeep
        rota = upkeep.rota()
        names = [name for name in chores.CHORES if name in rota and not self._runs(name)]
        return [name for name in names if self._is_due(name, rota[name], upkeep.hours, now)]

    def _is_due(self, name: str, every: float | Calendar, hours: Hours, now: float) -> bool:
        # What a command asks for may be of one host alone, and puts off nothing; nor does a run from a time when the
        # clock was ahead.
        last = self._parts.catalog.runs(kind=name, trigger=_ROTA, until=now, limit=1)
        if last:
            # One that the daemon's end cut short is no better than one that failed.
            early = last[0].outcome in (FAILED, CANCELLED) and is_due(AGAIN, hours, last[0].begin, now)
            return early or is_due(every, hours, last[0].begin, now)
        return is_due(every if isinstance(every, Calendar) else FIRST, hours, self._begun_at(now), now)

    def _copies_due(self, now: float) -> list[str]:
        """Names of the second copies whose time has come: each has its own."""
        if not self._config.copies or self._runs("replicate"):
            return []
        known = {view.name: view for view in self._parts.catalog.copies()}
        begun, hours = self._begun_at(now), self._config.upkeep.hours
        found = [
            copy.name
            for copy in self._config.copies
            if copying.is_due(copy, known.get(copy.name), hours, now, begun=begun, first=FIRST, again=AGAIN)
        ]
        last = self._parts.catalog.runs(kind="replicate", until=now, limit=1) if found else []
        # One that failed before it could say so of a copy is not begun over and over.
        return [] if last and last[0].outcome == FAILED and 0 <= now - last[0].begin < FIRST else found

    def _begun_at(self, now: float) -> float:
        """When the service began, by a clock that nobody sets: how long it has been running."""
        return now - (self._parts.clock.monotonic() - self._started)

    def _runs(self, name: str) -> bool:
        with self._lock:
            return name in self._running

    def _hangs(self, name: str) -> BackupError | None:
        with self._lock:
            return self._hanging.get(name)

    def _begin(self, name: str, options: Mapping[str, Any], trigger: str, request: int | None) -> None:
        cancel = Cancel()
        work = self._work(name, options, trigger, request, cancel)
        thread = threading.Thread(target=work, name=f"chore {name}", daemon=True)
        with self._lock:
            if self._stopping:
                return
            self._running[name] = thread, cancel, request
        thread.start()

    def _work(
        self, name: str, options: Mapping[str, Any], trigger: str, request: int | None, cancel: Cancel
    ) -> Callable[[], None]:
        def begun(run: str) -> None:
            if request is not None:
                with contextlib.suppress(CatalogError):
                    self._parts.catalog.request_runs(request, [run])

        def given_up(error: BackupError) -> None:
            with self._lock:
                self._hanging[name] = error
            self._answer(request, {"document": {}, "error": _error(error)})

        def work() -> None:
            answer: dict[str, Any] = {}
            try:
                done = chores.do(
                    name, self._parts, self._config, options, cancel,
                    trigger=trigger, begun=begun, given_up=given_up, grace=self._grace,
                )  # fmt: skip
                answer = {"document": done.document, "error": _error(done.error)}
            except BackupError as error:
                answer = {"document": {}, "error": _error(error)}
                logs.get().error("chore could not begin", chore=name, **described(error))
            finally:
                with self._lock:
                    del self._running[name]
                    told = self._hanging.pop(name, None)
                self._answer(request if told is None else None, answer)

        return work

    def _answer(self, request: int | None, answer: Mapping[str, Any]) -> None:
        if request is not None:
            with self._lock:
                self._answers[request] = answer
        with contextlib.suppress(CatalogError):
            self._write_answers()

    def _withdraw(self, request: int) -> None:
        with self._lock:
            found = [cancel for _, cancel, asked in self._running.values() if asked == request]
        for cancel in found:
            cancel.set()

    def _write_answers(self) -> None:
        with self._lock:
            waiting = dict(self._answers)
        for request, answer in waiting.items():
            self._parts.catalog.request_done(request, answer)
            with self._lock:
                self._answers.pop(request, None)


def _error(error: BackupError | None) -> dict[str, str] | None:
    if error is None:
        return None
    return {"type": type(error).__name__, "cause": error.cause, "hint": error.hint}
