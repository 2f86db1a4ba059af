"""Retention at work: prune, pin, unpin, resume and forget, as chores, and what follows a pull.

Nothing is removed while store and catalog do not name the same snapshots, while the clock is doubtful, or of a module
whose newest complete snapshot cannot be read or changed suddenly. What goes is decided by `plan`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.config import Config, retention_rules
from pyrsyncbackup_collector.daemon import clock_guard
from pyrsyncbackup_collector.daemon.chore import Work
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.daemon.plan import ModulePlan, plans
from pyrsyncbackup_collector.daemon.vigil import GivenUp, Vigil
from pyrsyncbackup_collector.daemon.work import described
from pyrsyncbackup_collector.errors import (
    BackupError,
    CatalogError,
    ClockDoubtful,
    NotFound,
    StoreDamaged,
    StoreFull,
    StoreMissing,
    StoreReadOnly,
    UsageError,
)
from pyrsyncbackup_collector.pull.deadline import GRACE
from pyrsyncbackup_collector.store.log import Line
from pyrsyncbackup_collector.store.prune import with_room

CLOCK_HINT: Final = "once the clock is right, say so: `pyrsyncbackup retention resume --clock`"
GONE: Final = frozenset({"gone", "unknown"})


@dataclass(slots=True)
class _Done:
    """What a prune did, as it goes into the run and to the one who asked."""

    removed: int = 0
    kept: int = 0
    locked: int = 0
    frozen: int = 0
    versions: int = 0
    problems: int = 0
    modules: list[dict[str, Any]] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def prune(work: Work, options: Mapping[str, Any]) -> dict[str, Any]:
    """Remove what no rule keeps: of all modules, or of options["host"], or of its options["module"].

    With options["rules"], those of who asks, only if they are those that are in force here. The document names what was
    removed; for one host also what was kept. Raises ClockDoubtful, CatalogMismatch, UsageError.
    """
    if options.get("rules", retention_rules(work.config)) != retention_rules(work.config):
        raise UsageError(
            "nothing was pruned: the daemon goes by other rules, it read its configuration before they were changed",
            f"`systemctl reload pyrsyncbackup`, or kill -HUP {os.getpid()}",
        )
    parts, done = work.parts, _Done()
    host, module = options.get("host") or None, options.get("module") or None
    check_clock(parts)
    difference = parts.catalog.difference(parts.store)
    for (name, of), sequences in difference.pruned.items():
        _drop(parts, name, of, sequences)
    behind = {(one.host, one.module) for _, one in difference.lacking}
    total = len(parts.catalog.retained(host, module))
    for number, plan in enumerate(plans(parts.store, parts.catalog, work.config, parts.clock.now(), host, module)):
        work.cancel.check()
        work.tell("pruning", number, total)
        if (plan.host, plan.module) in behind:
            _problem(done, plan, "a pull is being recorded, or was not: the next prune looks at it again")
            continue
        _prune_one(parts, plan, done, verbose=host is not None)
    parts.store.reserve.fill()
    return done.document()


def after_pull(parts: Parts, config: Config, host: str, module: str, *, grace: float = GRACE) -> None:
    """Let a module's retention follow the snapshot that was just made; what goes wrong is a line in the log.

    One that gives no sign of life for `limits.chore` is ended; where nothing can end it, since the store does not
    answer, that is said `grace` seconds later.
    """
    what = f"retention of {host}/{module}"
    vigil = Vigil(what, config.limits.chore, parts.clock, GivenUp(parts, what), grace)
    with closing(vigil):
        try:
            check_clock(parts)
            difference = parts.catalog.difference_of(parts.store, host, module)
            if difference.lacking or difference.pruned:
                return  # the next prune says so, or puts it right
            done = _Done()
            for plan in plans(parts.store, parts.catalog, config, parts.clock.now(), host, module):
                vigil.check()
                _prune_one(parts, plan, done, verbose=False)
        except BackupError as error:
            logs.get().warning("retention did not follow", host=host, module=module, **described(error))


def check_clock(parts: Parts) -> None:
    """Raise ClockDoubtful if snapshots should not expire by this clock; else remember how it is."""
    now = clock_guard.look(parts.clock)
    seen = clock_guard.load(parts.catalog.clock_seen())
    if why := clock_guard.doubt(now, seen, parts.catalog.newest_times()):
        raise ClockDoubtful(f"nothing is removed: {why}", CLOCK_HINT)
    parts.catalog.remember_clock(clock_guard.dump(clock_guard.remembered(now, seen)))


def _prune_one(parts: Parts, plan: ModulePlan, done: _Done, *, verbose: bool) -> None:
    try:
        _record_judgement(parts, plan)
        removed, locked = _remove(parts, plan, done)
    except (CatalogError, StoreMissing, StoreReadOnly, StoreFull):
        raise
    except BackupError as error:
        _problem(done, plan, error.cause, error.hint)
        return
    done.frozen += bool(plan.frozen)
    done.removed += len(removed)
    done.locked += len(locked)
    done.kept += len(plan.decisions) - len(removed)
    if removed:
        kept = len(plan.decisions) - len(removed)
        logs.get().info("pruned", host=plan.host, module=plan.module, removed=len(removed), kept=kept)
    if removed or locked or verbose or plan.frozen:
        done.modules.append(document(plan, removed, locked, verbose=verbose))


def _record_judgement(parts: Parts, plan: ModulePlan) -> None:
    if plan.judged:
        parts.catalog.judge(plan.host, plan.module, plan.judged)
    if plan.frozen and plan.since is not None:
        parts.catalog.freeze(plan.host, plan.module, plan.since, plan.frozen)
    elif plan.frozen:
        now = parts.clock.now()
        # The log first: a catalog can be lost.
        parts.store.freeze(plan.host, plan.module, max(plan.snapshots), plan.frozen, now)
        parts.catalog.freeze(plan.host, plan.module, now, plan.frozen)
        logs.get().warning(
            "retention frozen",
            host=plan.host,
            module=plan.module,
            cause=plan.frozen,
            next=f"look at it, then `pyrsyncbackup retention resume {plan.host}/{plan.module}`",
        )


def _remove(parts: Parts, plan: ModulePlan, done: _Done) -> tuple[set[int], set[int]]:
    """The sequence numbers that went, and those that somebody reads."""
    going = {one.snapshot.sequence: one.reasons[0] for one in plan.removed}
    if not going:
        return set(), set()
    newest = plan.newest_complete
    if newest is None:
        raise StoreDamaged("nothing is removed: there is no complete snapshot")
    try:
        parts.store.check_files(newest)
    except (StoreDamaged, NotFound) as error:
        raise StoreDamaged(
            f"nothing is removed: the newest complete snapshot cannot be read: {error.cause}",
            f"`pyrsyncbackup verify {plan.host}/{plan.module}` shows what is sound; the next pull makes a new one",
        ) from error
    pruned = parts.store.prune(plan.host, plan.module, going)
    gone = {one.sequence for one in pruned.removed}
    done.versions += _drop(parts, plan.host, plan.module, gone)
    return gone, {one.sequence for one in pruned.locked}


def _drop(parts: Parts, host: str, module: str, sequences: Collection[int]) -> int:
    """Out of the catalog; on a full disk with room from the reserve. How many versions of paths went."""
    return with_room(parts.store.reserve, lambda: parts.catalog.drop_snapshots(host, module, sequences))


def _problem(done: _Done, plan: ModulePlan, cause: str, hint: str = "") -> None:
    done.problems += 1
    done.kept += len(plan.decisions)
    done.modules.append(
        {"host": plan.host, "module": plan.module, "frozen": None, "problem": cause, "hint": hint, "snapshots": []}
    )
    logs.get().error("not pruned", host=plan.host, module=plan.module, cause=cause, next=hint)


def document(plan: ModulePlan, removed: set[int], locked: set[int], *, verbose: bool) -> dict[str, Any]:
    """A module's part of the document: of its snapshots those that go or should, with `verbose` all."""
    shown = plan.decisions if verbose else plan.removed
    return {
        "host": plan.host,
        "module": plan.module,
        "frozen": plan.frozen or None,
        "problem": None,
        "hint": "",
        "snapshots": [
            {
                "name": plan.snapshots[one.snapshot.sequence].name,
                "sequence": one.snapshot.sequence,
                "time": one.snapshot.time,
                "state": one.snapshot.state,
                "keep": one.keep,
                "removed": one.snapshot.sequence in removed,
                "locked": one.snapshot.sequence in locked,
                "reasons": list(one.reasons),
            }
            for one in shown
        ],
    }


def pin(work: Work, options: Mapping[str, Any]) -> dict[str, Any]:
    """Pin options["sequence"] of host and module, with options["why"]."""
    work.parts.store.pin(options["host"], options["module"], int(options["sequence"]), str(options.get("why", "")))
    return {}


def unpin(work: Work, options: Mapping[str, Any]) -> dict[str, Any]:
    """Let rules decide about options["sequence"] of host and module again."""
    work.parts.store.unpin(options["host"], options["module"], int(options["sequence"]))
    return {}


def resume(work: Work, options: Mapping[str, Any]) -> dict[str, Any]:
    """End the freeze of options["host"] and options["module"], or with options["clock"] the doubt about the clock."""
    parts = work.parts
    newest = parts.catalog.newest_times()
    if options.get("clock"):
        now = clock_guard.look(parts.clock)
        was = clock_guard.doubt(now, clock_guard.load(parts.catalog.clock_seen()), newest)
        parts.catalog.remember_clock(clock_guard.dump(clock_guard.trusted(now, newest)))
        return {"resumed": bool(was), "was": was}
    host, module = options["host"], options["module"]
    known = parts.catalog.retained(host, module)
    if not known:
        raise NotFound(f"there is no module {host}/{module}", "`pyrsyncbackup retention` shows all that are frozen")
    sequence, _ = newest.get(f"{host}/{module}", (0, 0.0))
    found = parts.store.log(host, module).read().frozen()
    if not found and known[0].frozen is None:
        found = _freeze_unnoticed(parts, work.config, host, module)
    if found or known[0].frozen is not None:
        parts.store.resume(host, module, sequence)
        parts.catalog.freeze(host, module, parts.clock.now(), found.reason if found else "")
        known = parts.catalog.retained(host, module)
    return {"resumed": parts.catalog.resume(host, module, sequence), "was": known[0].why}


def _freeze_unnoticed(parts: Parts, config: Config, host: str, module: str) -> Line | None:
    """Record the freeze that the next prune would find: who ends it saw that in a dry run, and means it."""
    for plan in plans(parts.store, parts.catalog, config, parts.clock.now(), host, module):
        _record_judgement(parts, plan)
    return parts.store.log(host, module).read().frozen()


def forget(work: Work, options: Mapping[str, Any]) -> dict[str, Any]:
    """Remove all snapshots of options["host"], or of its options["module"]; with options["pinned_too"] all of them.

    A module that is offered no more is taken out of the catalog too. What somebody reads stays, and is a problem.
    """
    parts, host = work.parts, options["host"]
    # Also those of which the catalog alone knows, because the store lost them.
    there = {*parts.store.modules(), *((one.host, one.module) for one in parts.catalog.snapshots(host))}
    wanted = sorted(each for each in there if each[0] == host and options["module"] in ("", each[1]))
    pinned = [f"{host}/{module}" for _, module in wanted if parts.store.pins(host, module)]
    if pinned and not options.get("pinned_too"):
        raise BackupError(
            f"nothing is removed: {', '.join(pinned)} has pinned snapshots", "unpin them, or say --pinned-too"
        )
    removed, problems, modules = 0, 0, []
    for number, (_, module) in enumerate(wanted):
        work.cancel.check()
        work.tell("forgetting", number, len(wanted))
        gone, locked = _forget_one(parts, host, module, known=host in work.config.by_name)
        removed += gone
        problems += len(locked)
        modules.append({"host": host, "module": module, "removed": gone, "locked": locked})
        logs.get().info("forgotten", host=host, module=module, removed=gone, locked=len(locked))
    parts.store.reserve.fill()
    return {"removed": removed, "problems": problems, "modules": modules}


def _forget_one(parts: Parts, host: str, module: str, *, known: bool) -> tuple[int, list[str]]:
    sequences = parts.store.committed(host, module)
    locked: list[str] = []
    removed = 0
    if sequences:
        pruned = parts.store.prune(host, module, dict.fromkeys(sequences, "forgotten"), pinned_too=True)
        removed, locked = len(pruned.removed), [one.name for one in pruned.locked]
    difference = parts.catalog.difference_of(parts.store, host, module)
    lost = difference.lost_of(host, module)
    _drop(parts, host, module, {*difference.pruned.get((host, module), ()), *lost})
    if not locked and parts.catalog.unsound(host, module):
        parts.catalog.module_verified(host, module, ())
    offered = known and any(one.state not in GONE for one in parts.catalog.retained(host, module))
    if not locked and not offered:
        parts.catalog.forget_module(host, module)
    return removed + len(lost), locked
