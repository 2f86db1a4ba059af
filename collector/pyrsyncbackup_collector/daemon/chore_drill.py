"""The chore "drill": restores snapshots of the modules whose turn it is, and records what came of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from random import SystemRandom
from typing import Any, Final

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.config import effective
from pyrsyncbackup_collector.daemon.chore import Work
from pyrsyncbackup_collector.daemon.work import described
from pyrsyncbackup_collector.drill.drill import Drilled, drill, scratch
from pyrsyncbackup_collector.drill.sample import Bounds, Sample
from pyrsyncbackup_collector.drill.validator import FAILED, TIMED_OUT
from pyrsyncbackup_collector.errors import BackupError, Cancelled, NotFound, StoreFull
from pyrsyncbackup_collector.pull.sandbox import Bubblewrap
from pyrsyncbackup_collector.store.layout import remove_tree
from pyrsyncbackup_collector.store.snapshot import COMPLETE, Snapshot
from pyrsyncbackup_collector.transport.offer import Validator

# What one run restores at most, in bytes; the other modules come first at the next.
BUDGET: Final = 10 << 30
# One drill in so many is of an older snapshot than the newest.
OLDER: Final = 4
# The scratch directory's file system keeps so much free, in bytes.
_RESERVE: Final = 1 << 30
_random = SystemRandom()


def chore(work: Work, options: Mapping[str, Any]) -> dict[str, Any]:
    """Hold drills of a host's modules or of one (`host`, `module`), or of those whose turn it is.

    The document: `drills`, each with host, module, snapshot and what was found; `failed`, those that could not be held,
    and `not_held`, how many these are.
    """
    host, module = options.get("host"), options.get("module")
    turn = work.parts.catalog.drill_turn(host, module)
    if host and not turn:
        raise NotFound(
            f"there is no snapshot of {host}{f'/{module}' if module else ''}",
            "`pyrsyncbackup snapshots` lists what there is",
        )
    held: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    left = BUDGET
    with scratch(work.config.state) as folder:
        for number, (name, one) in enumerate(turn):
            work.cancel.check()
            if left <= 0 and not host:
                break
            work.tell(f"{name}/{one}", number, len(turn))
            try:
                found = _hold(work, name, one, folder / str(number))
            except (StoreFull, Cancelled):
                raise  # the next one would fare no better
            except BackupError as error:
                logs.get().warning("drill could not be held", host=name, module=one, **described(error))
                failed.append({"host": name, "module": one, "cause": error.cause, "hint": error.hint})
                continue
            left -= found.size
            work.parts.catalog.drilled(found)
            _log(found)
            held.append(document(found))
    bad = sum(1 for each in held if each["differences"] or each["validation"] in (FAILED, TIMED_OUT))
    counts = {"held": len(held), "not_held": len(failed), "problems": bad + len(failed)}
    return {"drills": held, "failed": failed, **counts}


def _hold(work: Work, host: str, module: str, tree: Path) -> Drilled:
    parts = work.parts
    snapshot = _chosen(parts.catalog.snapshots(host, module))
    sample = Sample(snapshot.totals, Bounds(), _random.getrandbits(64))
    program = _program(work, host, module)
    others = [parts.catalog.snapshots(host, name) for name in program.beside]
    beside = [_of_that_time(found, snapshot) for found in others if found]
    needed = min(snapshot.totals.size + sum(other.totals.size for other in beside), sample.bounds.size)
    room = os.statvfs(work.config.state)
    if room.f_bavail * room.f_frsize < needed + _RESERVE:
        raise StoreFull(
            f"{work.config.state} has no room for a restore of {needed >> 20} MiB", "free space there: drills need it"
        )
    confined = parts.sandbox_kind == Bubblewrap.kind
    try:
        return drill(
            parts.store, snapshot, sample, tree, work.cancel, program=program, beside=beside, confined=confined
        )
    finally:
        with contextlib.suppress(OSError):
            remove_tree(tree)


def _program(work: Work, host: str, module: str) -> Validator:
    if not effective(work.config, host, module).validators:
        return Validator()
    return next((one.validator for one in work.parts.catalog.modules(host, module)), Validator())


def _chosen(snapshots: list[Snapshot]) -> Snapshot:
    """Mostly the newest complete one, now and then another: the old ones have to come back too."""
    complete = [one for one in snapshots if one.state == COMPLETE] or snapshots
    return _random.choice(complete) if _random.randrange(OLDER) == 0 else complete[-1]


def _of_that_time(snapshots: list[Snapshot], snapshot: Snapshot) -> Snapshot:
    """The state of another module when `snapshot` was taken, or the oldest that there is."""
    before = [one for one in snapshots if one.time <= snapshot.time]
    return before[-1] if before else snapshots[0]


def _log(found: Drilled) -> None:
    validation = found.validation
    level = logs.get().error if found.differences else logs.get().info
    level(
        "drill held",
        host=found.snapshot.host,
        module=found.snapshot.module,
        snapshot=found.snapshot.name,
        entries=found.entries,
        differences=found.differences,
        validation=validation.outcome if validation else None,
    )


def document(found: Drilled) -> dict[str, Any]:
    """A drill for JSON."""
    validation = found.validation
    return {
        "host": found.snapshot.host,
        "module": found.snapshot.module,
        "snapshot": found.snapshot.name,
        "entries": found.entries,
        "bytes": found.size,
        "whole": found.whole,
        "differences": found.differences,
        "examples": list(found.examples),
        "validation": validation.outcome if validation else None,
        "said": list(validation.lines) if validation else [],
    }
