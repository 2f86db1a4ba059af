"""The chore `replicate`: one round for each second copy that is asked for, or due; one that fails stops no other.

A copy's own rules remove nothing while the clock is doubtful, of a module that is frozen, or what is pinned here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import msgspec

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.catalog.copies import CopyView
from pyrsyncbackup_collector.config import Config, CopyConfig, effective
from pyrsyncbackup_collector.config.calendar import Calendar
from pyrsyncbackup_collector.config.copies import where
from pyrsyncbackup_collector.config.spans import Hours
from pyrsyncbackup_collector.copies import opening
from pyrsyncbackup_collector.copies.form import Held
from pyrsyncbackup_collector.copies.mending import Unsound
from pyrsyncbackup_collector.copies.replicate import Replication, Rules
from pyrsyncbackup_collector.copies.report import Round
from pyrsyncbackup_collector.copies.thinning import Keeping
from pyrsyncbackup_collector.daemon import apart
from pyrsyncbackup_collector.daemon.chore import Work
from pyrsyncbackup_collector.daemon.plan import known_until, zone
from pyrsyncbackup_collector.daemon.retention import check_clock
from pyrsyncbackup_collector.daemon.work import internal
from pyrsyncbackup_collector.errors import (
    BackupError,
    Cancelled,
    ClockDoubtful,
    NotFound,
    StoreError,
    UsageError,
    did_you_mean,
)
from pyrsyncbackup_collector.schedule import rota
from pyrsyncbackup_collector.store.retention import Candidate, decide
from pyrsyncbackup_collector.store.snapshot import COMPLETE, PARTIAL

# A look that comes a moment too early counts.
_SOON: Final = 1.0


def replicate(work: Work, options: Mapping[str, Any]) -> dict[str, Any]:
    """Do the copies in `names`; without, all. `full`: look through all of them; `mend`: an `Unsound` to bring again.

    One that fails stops no other. The document has all; raises the BackupError of the only one that was to be done.
    """
    if not work.config.copies:
        raise UsageError(
            "no second copy is configured",
            "add a [[copy]] to the configuration, and reload a running daemon: `systemctl reload pyrsyncbackup`",
        )
    failed: dict[str, BackupError] = {}
    documents: dict[str, dict[str, Any]] = {}
    for copy in _chosen(work, options.get("names")):
        began = work.parts.clock.now()
        with logs.bind(copy=copy.name):
            try:
                done = _apart(work, copy, options, began)
            except Cancelled:
                raise
            except Exception as fault:  # noqa: BLE001 - one that fails by a fault of ours stops no other either
                error = fault if isinstance(fault, BackupError) else internal(fault)
                if error is not fault:
                    logs.get().exception("copy failed by a fault of the program")
                work.parts.catalog.copy_failed(copy.name, where(copy.to), began, error)
                logs.get().warning("copy failed", cause=error.cause)
                failed[copy.name] = error
                continue
            documents[copy.name] = done.document()
            work.parts.catalog.copy_done(copy.name, where(copy.to), began, documents[copy.name])
            _tell(done)
    if len(failed) == 1 and not documents:
        raise next(iter(failed.values()))
    keys = ("snapshots", "objects", "size", "removed", "problems")
    sums = {key: sum(document[key] for document in documents.values()) for key in keys}
    sums["problems"] += len(failed)
    return {**sums, "copies": documents, "failed": [_failure(name, error) for name, error in failed.items()]}


def _apart(work: Work, copy: CopyConfig, options: Mapping[str, Any], now: float) -> Round:
    """A round; the file system of a copy may never answer, and the others have their turn all the same."""
    return apart.run(work, f"copy {copy.name}", lambda own: _round(own, copy, options, now))


def _failure(name: str, error: BackupError) -> dict[str, str]:
    return {"name": name, "type": type(error).__name__, "cause": error.cause, "hint": error.hint}


def _tell(done: Round) -> None:
    for what, why in done.left_out:
        logs.get().error("not copied", what=what, cause=why)
    for what, why in done.lost:
        logs.get().error("lost in the copy", what=what, cause=why)


def _round(work: Work, copy: CopyConfig, options: Mapping[str, Any], now: float) -> Round:
    full, unsound = bool(options.get("full")), msgspec.convert(options.get("mend", {}), Unsound)
    store = work.parts.store
    seal = opening.seal(work.config, copy)
    # Whoever waits for an rsync looks whether to stop: that the wait goes on says nothing about the rsync.
    with closing(opening.open_target(work.config, copy, work.cancel.look, work.cancel.wait)) as target:
        pull = f"copy-{copy.name}"
        store.discard_incoming(pull)
        try:
            keep = _keeping(work, copy, now)
            rules = Rules(copy.hosts, copy.modules, keep, str(copy.keep or ""), copy.recheck, full, unsound)
            stage = store.incoming(pull)
            return Replication(
                store, target, seal, rules, stage, now, check=work.cancel.check, tell=_telling(work, copy)
            ).run()
        finally:
            store.discard_incoming(pull)


def _telling(work: Work, copy: CopyConfig) -> Any:
    return lambda phase, done, total: work.tell(f"{copy.name}: {phase}", done, total)


def _keeping(work: Work, copy: CopyConfig, now: float) -> Keeping | None:
    """The copy's own retention; None where it keeps all that ever came, or in this round removes nothing."""
    rules = copy.keep
    if rules is None:
        return None
    try:
        check_clock(work.parts)
    except ClockDoubtful as doubt:
        logs.get().warning("copy not thinned out", cause=doubt.cause, next=doubt.hint)
        return None
    retained = {(one.host, one.module): one for one in work.parts.catalog.retained()}

    def stays(host: str, module: str, held: Sequence[Held]) -> set[int]:
        known = retained.get((host, module))
        try:
            log = work.parts.store.log(host, module).read()
        except StoreError:
            return {one.sequence for one in held}  # nobody can tell what is pinned
        if log.frozen() or (known is not None and known.frozen is not None):
            return {one.sequence for one in held}
        pins = log.pins()
        found = [
            Candidate(one.sequence, one.time, COMPLETE if one.complete else PARTIAL, pins.get(one.sequence))
            for one in held
        ]
        until, calendar = known_until(known, found, now), zone(effective(work.config, host, module))
        return {one.snapshot.sequence for one in decide(found, rules, until, calendar) if one.keep}

    return stays


def _chosen(work: Work, names: Sequence[str] | None) -> list[CopyConfig]:
    """First the one that was not tried for longest, last those that failed the last time: they may take hours."""
    chosen = [named(work.config, name) for name in names] if names else work.config.copies
    known = {view.name: view for view in work.parts.catalog.copies()}

    def turn(copy: CopyConfig) -> tuple[bool, float]:
        view = known.get(copy.name)
        return (view.failure is not None, view.tried) if view else (False, 0.0)

    return sorted(chosen, key=turn)


def named(config: Config, name: str) -> CopyConfig:
    """The copy of that name; NotFound names those that there are."""
    found = config.copy(name)
    if found is None:
        names = [copy.name for copy in config.copies]
        hint = did_you_mean(name, names, f"configured: {', '.join(names) or 'none'}")
        raise NotFound(f"no second copy is called {name}", hint)
    return found


def is_due(
    copy: CopyConfig,
    view: CopyView | None,
    hours: Hours,
    now: float,
    *,
    begun: float = 0.0,
    first: float = 0.0,
    again: float = 3600.0,
) -> bool:
    """Whether it is time for a round, in `hours`. Times in seconds since 1970.

    One that never had one gets its first `first` seconds after the service began at `begun`, or at its moment of the
    calendar; one that failed is tried again after `again` seconds, however seldom it is due otherwise.
    """
    every = copy.every
    if every is None:
        return False
    if view is None:
        return rota.is_due(every if isinstance(every, Calendar) else first, hours, begun, now)
    if view.tried > now:
        return rota.is_due(0.0, hours, now, now)
    if view.failure is not None:
        pause = again if isinstance(every, Calendar) else min(every, again)
        return rota.is_due(pause - _SOON, hours, view.tried, now)
    return rota.is_due(every if isinstance(every, Calendar) else every - _SOON, hours, view.tried, now)
