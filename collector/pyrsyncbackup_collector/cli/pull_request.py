"""Pulls by the daemon: asked for with a row in the catalog, followed there until they end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.views import Failure, RequestView, RunView
from pyrsyncbackup_collector.cli.progress import PullDisplay
from pyrsyncbackup_collector.cli.pull_result import Result, of_run
from pyrsyncbackup_collector.cli.status import is_alive
from pyrsyncbackup_collector.cli.targets import Target
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.errors import BackupError, Cancelled
from pyrsyncbackup_collector.pull.report import Progress

# Fast enough to look alive, slow enough to cost nothing.
POLL = 0.25

Told = Callable[[Result], None]


def pull_all(catalog: Catalog, targets: Iterable[Target], display: PullDisplay, told: Told) -> None:
    """Ask the daemon for all `targets` and follow them; each result is told when it is there.

    A signal withdraws what was asked and comes out as Cancelled. Raises BackupError if the daemon goes away.
    """
    open_requests: dict[int, set[str]] = {}
    try:
        for target in targets:
            for module in target.modules or ("",):
                open_requests[catalog.request(target.host.name, module)] = set()
        _follow(catalog, open_requests, display, told)
    except (KeyboardInterrupt, Cancelled) as signal:
        for request in open_requests:
            catalog.request_cancel(request)
        why = signal.cause if isinstance(signal, Cancelled) else "stopped by Ctrl-C"
        raise Cancelled(why, "the daemon was told to stop these pulls too") from None


def _follow(catalog: Catalog, open_requests: dict[int, set[str]], display: PullDisplay, told: Told) -> None:
    pause = threading.Event()
    while open_requests:
        for number, seen in list(open_requests.items()):
            request = catalog.request_view(number)
            if request is None:
                raise BackupError("the request to the daemon is gone from the catalog", "`status` shows what is known")
            _look_at_runs(catalog, request, seen, display, told)
            if request.done is not None:
                del open_requests[number]
                _tell_the_rest(request, seen, told)
        if open_requests:
            if not is_alive(catalog.daemon(), SystemClock().now()):
                raise BackupError("the daemon went away", "look at its log; `pyrsyncbackup status` shows what is known")
            pause.wait(POLL)


def _look_at_runs(catalog: Catalog, request: RequestView, seen: set[str], display: PullDisplay, told: Told) -> None:
    for run in request.runs:
        record = catalog.run(run) if run and run not in seen else None
        if record is None:
            continue
        name = f"{record.host}/{record.module}"
        if record.end is None:
            display.show(name, _progress(record))
        else:
            seen.add(run)
            display.ended(name)
            told(of_run(catalog, run))


def _progress(run: RunView) -> Progress:
    return Progress(run.phase, run.files_done, run.files_total, run.bytes_done, run.bytes_total)


def _tell_the_rest(request: RequestView, seen: set[str], told: Told) -> None:
    """What failed without a run: a host that does not answer, a module that is not there."""
    for module, result in request.result.get("modules", {}).items():
        if result.get("run") not in seen and result.get("error"):
            told(Result(request.host, module, "failed", _failure(result["error"])))
    if error := request.result.get("error"):
        told(Result(request.host, request.module, "failed", _failure(error)))


def _failure(error: dict[str, str]) -> Failure:
    return Failure(error.get("type", "BackupError"), error.get("cause", ""), error.get("hint", ""), retryable=False)
