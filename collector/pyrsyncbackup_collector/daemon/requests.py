"""Pulls and checks that commands ask of the daemon, followed from the row in the catalog to its result.

`pyrsyncbackup pull` writes a request; the loop finds it here, has the board do what is asked, and writes the result:

    {"modules": {"etc": {"run": "...", "outcome": "complete"}, ...}, "error": {"type", "cause", "hint"} or null}

A module's part has an `error` too if its pull failed. All methods may be called from any thread.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pyrsyncbackup_collector.catalog.journal import CHECK, PULL
from pyrsyncbackup_collector.daemon.work import Ended
from pyrsyncbackup_collector.discovery import Discovery
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import (
    BackupError,
    Cancelled,
    CatalogError,
    ModuleNotReady,
    ModuleUnknown,
    NotFound,
    did_you_mean,
)
from pyrsyncbackup_collector.fleet import Fleet
from pyrsyncbackup_collector.transport.offer import ModuleState


class Row(Protocol):
    """A request as it stands in the catalog."""

    @property
    def id(self) -> int: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def host(self) -> str: ...  # noqa: D102
    @property
    def module(self) -> str: ...  # noqa: D102
    @property
    def taken(self) -> float | None: ...  # noqa: D102
    @property
    def cancelled(self) -> float | None: ...  # noqa: D102


class Rows(Protocol):
    """The catalog's table of requests; each method is a short transaction and raises CatalogError."""

    def requests(self) -> list[Any]:
        """Those that are not done (Row), oldest first."""
        ...

    def request_take(self, request: int) -> bool:
        """Take one; False if it is no longer there to be taken."""
        ...

    def request_runs(self, request: int, runs: list[str]) -> None:
        """Name the runs that work on it."""
        ...

    def request_done(self, request: int, result: Mapping[str, Any]) -> None:
        """Close it."""
        ...


class Asked(Protocol):
    """What the desk asks of the board."""

    def request_check(self, host: str) -> None:
        """Check soon."""
        ...

    def request_pull(self, host: str, module: str) -> None:
        """Pull soon."""
        ...

    def withdraw(self, host: str, module: str) -> None:
        """Not needed any more."""
        ...


@dataclass(slots=True)
class _Open:
    """A request that is being worked on. `modules` is None until it is known what there is to pull."""

    id: int
    host: str
    module: str
    modules: set[str] | None = None
    runs: dict[str, str] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)


class Desk:
    """The open requests. `cancel` ends the pull with a run's id."""

    def __init__(self, rows: Rows, board: Asked, cancel: Callable[[str], None]) -> None:
        self._rows, self._board, self._cancel = rows, board, cancel
        self._open: dict[int, _Open] = {}
        # Results that could not be written yet, because the catalog was locked.
        self._results: dict[int, Mapping[str, Any]] = {}
        # Pulls that hang and were given up, until they end after all.
        self._hanging: dict[tuple[str, str], BackupError] = {}
        self._lock = threading.RLock()

    def poll(self, fleet: Fleet) -> bool:
        """Take what was asked since the last time, stop what was withdrawn; whether there was any.

        Raises CatalogError.
        """
        found = False
        with self._lock:
            self._write_results()
            for row in self._rows.requests():
                if row.kind == CHECK:
                    found |= self._check_soon(row)
                if row.kind != PULL:
                    continue
                if row.id in self._open:
                    if row.cancelled is not None:
                        self._stop(self._open[row.id])
                elif row.cancelled is None and self._rows.request_take(row.id):
                    self._begin(row, fleet)
                    found = True
        return found

    def checked(self, host: str, discovery: Discovery) -> None:
        """A host was asked for its modules: those that requests wait for can be pulled now."""
        with self._lock:
            for request in [one for one in self._open.values() if one.host == host and one.modules is None]:
                wanted = [offer for offer in discovery.ready if request.module in ("", offer.name)]
                if request.module and not wanted:
                    self._finish(request, not_there(host, request.module, discovery))
                    continue
                request.modules = {offer.name for offer in wanted}
                for offer in wanted:
                    if hangs := self._hanging.get((host, offer.name)):
                        request.results[offer.name] = {"run": "", "outcome": "failed", **_error(hangs)}
                    else:
                        self._board.request_pull(host, offer.name)
                self._finish_if_complete(request)

    def _check_soon(self, row: Row) -> bool:
        """What kept a host from being reached was mended: its next check waits for nothing, and nobody for it."""
        if row.cancelled is not None or not self._rows.request_take(row.id):
            return False
        self._board.request_check(row.host)
        self._rows.request_done(row.id, {})
        return True

    def check_failed(self, host: str, error: BackupError) -> None:
        """A host did not answer: so the requests that wait for its modules fail."""
        with self._lock:
            for request in [one for one in self._open.values() if one.host == host and one.modules is None]:
                self._finish(request, error)

    def pull_begun(self, host: str, module: str, run: str) -> None:
        """A requested pull begins: it is the answer to all requests that wait for it."""
        with self._lock:
            for request in self._open.values():
                if request.host == host and module in (request.modules or ()) and module not in request.runs:
                    request.runs[module] = run
                    with contextlib.suppress(CatalogError):
                        self._rows.request_runs(request.id, list(request.runs.values()))

    def pull_ended(self, host: str, module: str, ended: Ended) -> None:
        """A pull is over."""
        with self._lock:
            self._hanging.pop((host, module), None)
            for request in list(self._open.values()):
                if request.host == host and request.runs.get(module) == ended.run:
                    request.results[module] = {"run": ended.run, "outcome": ended.outcome, **_error(ended.error)}
                    self._finish_if_complete(request)

    def pull_given_up(self, host: str, module: str, error: BackupError) -> None:
        """A pull hangs, and nothing can end it: who waits for it, or for the one after it, is told."""
        with self._lock:
            self._hanging[host, module] = error
            for request in list(self._open.values()):
                if request.host == host and module in (request.modules or ()) and module not in request.results:
                    self._board.withdraw(host, module)
                    result = {"run": request.runs.get(module, ""), "outcome": "failed", **_error(error)}
                    request.results[module] = result
                    self._finish_if_complete(request)

    def pull_lost(self, host: str, module: str, error: BackupError) -> None:
        """A requested pull could not even begin."""
        with self._lock:
            for request in list(self._open.values()):
                if request.host == host and module in (request.modules or ()) and module not in request.runs:
                    request.runs[module] = ""
                    request.results[module] = {"run": "", "outcome": "failed", **_error(error)}
                    self._finish_if_complete(request)

    def _begin(self, row: Row, fleet: Fleet) -> None:
        request = self._open[row.id] = _Open(row.id, row.host, row.module)
        try:
            host = fleet.host(row.host)
        except NotFound:
            # The command that asks knows it from the same files, as they are now.
            cause = f"the daemon does not know {printable(row.host)}: it was defined after it read its configuration"
            self._finish(request, NotFound(cause, f"`systemctl reload pyrsyncbackup`, or kill -HUP {os.getpid()}"))
            return
        if not host.enabled:
            self._finish(request, BackupError(f"{host.name} is disabled", "set enabled = true in its definition"))
        elif row.module and not host.wants(row.module):
            cause = f"{host.name}/{row.module} is left out by the host's definition"
            self._finish(request, BackupError(cause, "see its modules.include and exclude"))
        else:
            # Asked anew even if its modules are known: software may have been installed just now.
            self._board.request_check(host.name)

    def _stop(self, request: _Open) -> None:
        for module in request.modules or ():
            if module in request.results:
                continue
            if run := request.runs.get(module):
                self._cancel(run)
            else:
                self._board.withdraw(request.host, module)
        self._finish(request, Cancelled("stopped on request", "run it again; what was transferred is kept"))

    def _finish_if_complete(self, request: _Open) -> None:
        if request.modules is not None and request.modules <= request.results.keys():
            self._finish(request, None)

    def _finish(self, request: _Open, error: BackupError | None) -> None:
        del self._open[request.id]
        self._results[request.id] = {"modules": request.results, "error": None, **_error(error)}
        with contextlib.suppress(CatalogError):
            self._write_results()

    def _write_results(self) -> None:
        for number, result in list(self._results.items()):
            self._rows.request_done(number, result)
            del self._results[number]


def _error(error: BackupError | None) -> dict[str, Any]:
    if error is None:
        return {}
    return {"error": {"type": type(error).__name__, "cause": error.cause, "hint": error.hint}}


def not_there(host: str, module: str, discovery: Discovery) -> BackupError:
    """Why a module that was asked for cannot be pulled: unknown, absent or invalid."""
    offer = discovery.offer(module)
    if offer is None:
        names = [offer.name for offer in discovery.ready]
        near = did_you_mean(module, names)
        has = f"it has {', '.join(names) or 'none'}"
        return ModuleUnknown(f"{host} has no module {module}", f"{near} {has}" if near else has)
    if offer.state is ModuleState.INVALID:
        return ModuleNotReady(f"{host}/{module} is invalid: {offer.reason}", "correct its definition on the host")
    return ModuleNotReady(f"{host}/{module} is absent: {offer.reason}", f"`pyrsyncbackup modules {host}` shows more")
