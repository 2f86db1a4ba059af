"""After a pull: the mirror of the module, where the policy wants one, is brought to the newest snapshot.

It is a run of its own kind, recorded whatever ended it; that it failed is no failure of the pull. Where the mirror is
up to date there is no run, unless the last one did not get to say so. What a mirror is, is decided by `store.mirror`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.catalog.journal import CANCELLED, COMPLETE, FAILED, PARTIAL
from pyrsyncbackup_collector.catalog.mirrors import MIRROR
from pyrsyncbackup_collector.config import Limits, Space
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.daemon.vigil import GivenUp, Vigil
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import BackupError, Cancelled
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.deadline import GRACE
from pyrsyncbackup_collector.store import mirror, room
from pyrsyncbackup_collector.store.restore_report import RestoreReport
from pyrsyncbackup_collector.store.snapshot import Snapshot

# Bytes between two looks at the room: little beside what `min_free` usually is.
_LOOK: Final = 64 << 20


def follow(
    parts: Parts,
    host: str,
    module: str,
    where: Path,
    space: Space,
    cancel: Cancel,
    *,
    silence: float = Limits().chore,
    given_up: Callable[[BackupError], None] | None = None,
    grace: float = GRACE,
) -> None:
    """Bring the mirror of a module below `where` up to date, and record it; never raises for what goes wrong.

    One that gives no sign of life for `silence` seconds is ended, or, where nothing can end it, `given_up` is told
    `grace` seconds later from another thread.
    """
    overdue = GivenUp(parts, "mirror", given_up)
    vigil = Vigil(f"the mirror of {host}/{module}", silence, parts.clock, overdue, grace)
    with logs.bind(mirror=str(mirror.place(where, host, module))), closing(vigil), cancel.ends(vigil.set):
        try:
            snapshot = parts.store.newest(host, module)
            stamp = mirror.shown(where, host, module)
            if snapshot is None:
                return
            if stamp.is_whole(snapshot.digest) and not parts.catalog.mirrors_behind(host, module):
                return
            _record(parts, snapshot, where, space, vigil, overdue)
        except BackupError as error:
            logs.get().error("mirror could not be recorded", cause=printable(error.cause))


def _record(parts: Parts, snapshot: Snapshot, where: Path, space: Space, vigil: Vigil, overdue: GivenUp) -> None:
    run = parts.catalog.run_begin(snapshot.host, snapshot.module, kind=MIRROR, trigger="pull")
    overdue.run = run
    outcome, counters, note = FAILED, dict[str, int](), ""
    error: BackupError | None = None
    try:
        report = mirror.update(parts.store, snapshot, where, told=_Watch(parts.store.path, space, vigil))
        note = _lacks(report)
        outcome, counters = PARTIAL if note else COMPLETE, _counters(report)
        logs.get().info("mirror updated", snapshot=snapshot.name, outcome=outcome, **counters)
    except Cancelled as stopped:
        outcome, error = CANCELLED, stopped
    except BackupError as failure:
        error = failure
        logs.get().warning("mirror failed", cause=printable(failure.cause), next=printable(failure.hint))
    except Exception as fault:  # noqa: BLE001 - a fault of ours fails the mirror, not the pull before it
        logs.get().exception("mirror failed by a fault of the program")
        error = BackupError(f"a fault of the program: {type(fault).__name__}: {fault}", "please report it")
    finally:
        vigil.close()
        facts: dict[str, Any] = {"sequence": snapshot.sequence, "counters": counters, "note": note}
        parts.catalog.run_end(run, outcome, error=error, again=overdue.told and error is None, **facts)


class _Watch:
    """Ends an update that is cancelled, or that takes of what has to stay free beside the store."""

    def __init__(self, store: Path, space: Space, cancel: Cancel) -> None:
        self._store, self._space, self._cancel = store, space, cancel
        self._since = 0
        self._look()

    def __call__(self, _: int, size: int) -> None:
        self._cancel.check()
        self._since += size
        if self._since >= _LOOK:
            self._look()
            self._since = 0

    def _look(self) -> None:
        there = room.look(self._store)
        room.check(there, room.floor(self._space, there))


def _lacks(report: RestoreReport | None) -> str:
    """What the snapshot has and the mirror has not, in words; nothing if it has all."""
    return "" if report is None else "; ".join(shortfall.line() for shortfall in mirror.lacking(report))


def _counters(report: RestoreReport | None) -> dict[str, int]:
    if report is None:
        return {}
    return {"restored": report.entries, "size": report.size, "removed": report.removed, "same": report.same}
