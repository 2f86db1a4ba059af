"""Work on the store that is no pull: asked for by a command, or due by the rota; each leaves a run of its name.

Which chores there are says `CHORES`. Who calls them (the daemon in a thread, a command that holds the
store's lock itself) is decided by `upkeep` and by the command.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.catalog.journal import CANCELLED, COMPLETE, FAILED, PARTIAL
from pyrsyncbackup_collector.config import Config
from pyrsyncbackup_collector.daemon import chore_drill, copying, garbage, retention, verifying
from pyrsyncbackup_collector.daemon.chore import Chore, Tell, Work
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.daemon.vigil import GivenUp, Vigil
from pyrsyncbackup_collector.daemon.work import PROGRESS_EVERY, described, internal
from pyrsyncbackup_collector.errors import BackupError, Cancelled, CatalogError, UsageError
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.deadline import GRACE
from pyrsyncbackup_collector.store.reserve import PIECE, REMOVAL, Reserve

CHORES: Final[Mapping[str, Chore]] = {
    "verify": verifying.verify,
    "damage": verifying.handle_damage,
    "prune": retention.prune,
    "pin": retention.pin,
    "unpin": retention.unpin,
    "resume": retention.resume,
    "forget": retention.forget,
    "gc": garbage.collect,
    "drill": chore_drill.chore,
    "replicate": copying.replicate,
}


# Those that make room, by dropping many rows first.
_REMOVING: Final = frozenset({"prune", "forget", "gc"})


@dataclass(frozen=True, slots=True)
class Finished:
    """How a chore ended: complete, partial, failed or cancelled; with its document or an error."""

    run: str
    outcome: str
    document: dict[str, Any]
    error: BackupError | None = None


def do(
    name: str,
    parts: Parts,
    config: Config,
    options: Mapping[str, Any],
    cancel: Cancel,
    *,
    trigger: str,
    watch: Tell | None = None,
    begun: Callable[[str], None] | None = None,
    given_up: Callable[[BackupError], None] | None = None,
    grace: float = GRACE,
) -> Finished:
    """Do the chore of that name and record it; never raises for what goes wrong with it.

    One that gives no sign of life for `limits.chore` is ended; where nothing can end it, since a file system does not
    answer, it is recorded as failed `grace` seconds later and `given_up` is told, from another thread.

    `begun` is told the run's id, `watch` the progress. Raises UsageError for a name that is no chore's, CatalogError if
    not even the begin can be recorded.
    """
    chore = CHORES.get(name)
    if chore is None:
        raise UsageError(f"this collector does not know how to {name}", "is the daemon of the same version?")
    overdue = GivenUp(parts, "chore", given_up)
    with contextlib.closing(Vigil(name, config.limits.chore, parts.clock, overdue, grace)) as vigil:
        Reserve(config.store).lend(config.catalog.parent, REMOVAL if name in _REMOVING else PIECE)
        run = parts.catalog.run_begin("", "", kind=name, trigger=trigger)
        overdue.run = run
        with logs.bind(run=run, chore=name):
            if begun:
                begun(run)
            finished = Finished(run, FAILED, {}, BackupError("it was ended without a word"))
            try:
                with cancel.ends(vigil.set):
                    work = Work(parts, config, vigil, _Progress(parts, run, vigil, watch), grace)
                    finished = _done(run, chore, work, options)
            finally:
                vigil.close()
                _record(parts, finished, again=overdue.told and finished.error is None)
            return finished


def _done(run: str, chore: Chore, work: Work, options: Mapping[str, Any]) -> Finished:
    try:
        document = chore(work, options)
        return Finished(run, PARTIAL if document.get("problems") else COMPLETE, document)
    except (KeyboardInterrupt, Cancelled):
        return Finished(run, CANCELLED, {}, Cancelled("stopped on request", "run it again; it goes on"))
    except BackupError as error:
        # What broke because it was ended is told as that.
        return Finished(run, FAILED, {}, work.cancel.reason or error)
    except Exception as error:  # noqa: BLE001 - a fault of ours is a failed run, not the end of a thread
        logs.get().exception("chore failed by a fault of the program")
        return Finished(run, FAILED, {}, internal(error))


def _record(parts: Parts, finished: Finished, *, again: bool) -> None:
    counters = {key: value for key, value in finished.document.items() if type(value) is int}
    try:
        parts.catalog.run_end(finished.run, finished.outcome, error=finished.error, counters=counters, again=again)
    except CatalogError as fault:
        logs.get().error("the end of a chore could not be recorded", **described(fault))
    if finished.error is None:
        logs.get().info("chore ended", outcome=finished.outcome, **counters)
    else:
        level = logs.get().info if finished.outcome == CANCELLED else logs.get().warning
        level(f"chore {finished.outcome}", **described(finished.error))


class _Progress:
    """Writes progress to the run's row, not more often than somebody reads it, and passes it on."""

    def __init__(self, parts: Parts, run: str, vigil: Vigil, watch: Tell | None) -> None:
        self._parts, self._run, self._vigil, self._watch = parts, run, vigil, watch
        self._next = 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        self._vigil.check()
        if self._watch:
            self._watch(phase, done, total)
        now = self._parts.clock.monotonic()
        if now < self._next:
            return
        self._next = now + PROGRESS_EVERY
        with contextlib.suppress(CatalogError):
            self._parts.catalog.run_progress(
                self._run, phase=phase, files_done=done, files_total=total, bytes_done=0, bytes_total=0
            )
