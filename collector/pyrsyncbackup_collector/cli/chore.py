"""Work on the store for a command: by the daemon if it runs, else here, under the store's lock."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from pyrsyncbackup_collector import errors
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.cli import screen
from pyrsyncbackup_collector.cli.patience import answering
from pyrsyncbackup_collector.cli.status import is_alive
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.errors import BackupError, Cancelled, ConfigError
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.store.reserve import Reserve

# Fast enough to look alive, slow enough to cost nothing.
POLL = 0.25

# A word for the phase, how much is done, how much there is (0: not known).
Watch = Callable[[str, int, int], None]


def do(place: Workplace, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Have the chore of that name done, show its progress on a terminal, and return its document.

    Raises BackupError: what the chore raised, Cancelled after Ctrl-C.
    """
    with screen.err().status(f"{name}: waiting") as status:

        def watch(phase: str, done: int, total: int) -> None:
            amount = f" {done:,} of {total:,}" if total else f" {done:,}" if done else ""
            status.update(f"{name}: {phase}{amount}")

        with answering(place.config.store):
            Reserve(place.config.store).lend(place.config.catalog.parent)
        with place.catalog() as catalog:
            if is_alive(catalog.daemon(), SystemClock().now()):
                return _ask(catalog, name, options, watch)
        return _here(place, name, options, watch)


def _here(place: Workplace, name: str, options: Mapping[str, Any], watch: Watch) -> dict[str, Any]:
    from pyrsyncbackup_collector.daemon import chores
    from pyrsyncbackup_collector.daemon.composition import opened

    with opened(place.config) as parts:
        done = chores.do(name, parts, place.config, options, Cancel(), trigger="command", watch=watch, given_up=_leave)
        for error in list(parts.hanging.values()):
            # All is recorded, and the interpreter would wait for its threads.
            _leave(error)
    if done.error is not None:
        raise done.error
    return done.document


def _leave(error: BackupError) -> None:
    """End the process: what it waits for never comes, and nobody else could end that."""
    screen.error(error.cause, error.hint)
    os._exit(error.exit_code)


def _ask(catalog: Catalog, name: str, options: Mapping[str, Any], watch: Watch) -> dict[str, Any]:
    request = catalog.request("", "", options, kind=name)
    try:
        result = _result(catalog, request, watch)
    except (KeyboardInterrupt, Cancelled):
        catalog.request_cancel(request)
        raise Cancelled("stopped by Ctrl-C", "the daemon was told to stop it too") from None
    if error := result.get("error"):
        raise as_raised(error["type"], error["cause"], error["hint"])
    document: dict[str, Any] = result["document"]
    return document


def _result(catalog: Catalog, number: int, watch: Watch) -> Mapping[str, Any]:
    """What the daemon answers in the end, its document or its error."""
    pause = threading.Event()
    while True:
        request = catalog.request_view(number)
        if request is None:
            raise BackupError("the request to the daemon is gone from the catalog", "`status` shows what is known")
        if request.done is not None:
            return request.result
        for run in filter(None, map(catalog.run, request.runs)):
            watch(run.phase, run.files_done, run.files_total)
        if not is_alive(catalog.daemon(), SystemClock().now()):
            raise BackupError("the daemon went away", "look at its log; `pyrsyncbackup status` shows what is known")
        pause.wait(POLL)


def as_raised(name: str, cause: str, hint: str) -> BackupError:
    """The error that the daemon named; of the plain kind if this program does not know it."""
    kind = getattr(errors, name, BackupError)
    known = isinstance(kind, type) and issubclass(kind, BackupError) and not issubclass(kind, ConfigError)
    error: BackupError = kind(cause, hint) if known else BackupError(cause, hint)
    return error
