"""Whether hosts and modules are well: late, failing, unreachable, and since when. Pure.

It judges what the catalog recorded by what the policy asks for; it asks no host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum

from pyrsyncbackup_collector import errors
from pyrsyncbackup_collector.catalog.copies import CopyView
from pyrsyncbackup_collector.catalog.views import (
    DaemonView,
    DamageView,
    DrillView,
    Failure,
    HostView,
    MirrorView,
    ModuleView,
    RunView,
    UnsoundView,
)
from pyrsyncbackup_collector.cli import amounts
from pyrsyncbackup_collector.cli.frozen import look
from pyrsyncbackup_collector.config import CopyConfig, Policy
from pyrsyncbackup_collector.config.calendar import Calendar
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.schedule import rota
from pyrsyncbackup_collector.schedule.forecast import expected_at


class State(Enum):
    """How a host or a module stands, the worst first."""

    # The daemon: it does not run, so nothing is checked, and what is shown of the others is old.
    STOPPED = "stopped"
    DAMAGED = "damaged"
    UNREACHABLE = "unreachable"
    FAILING = "failing"
    # A restore drill did not bring back what is kept.
    UNSOUND = "unsound"
    LATE = "late"
    PARTIAL = "partial"
    FROZEN = "frozen"
    INVALID = "invalid"
    # What came back is as it was on the host, and its validator is not content with that.
    REJECTED = "rejected"
    PENDING = "pending"
    OK = "ok"
    ABSENT = "absent"
    GONE = "gone"
    OFF = "off"

    @property
    def is_problem(self) -> bool:
        """Whether somebody should look."""
        return self in _PROBLEMS


_PROBLEMS = frozenset(
    {
        *(State.STOPPED, State.DAMAGED, State.UNREACHABLE, State.FAILING, State.UNSOUND, State.LATE),
        *(State.PARTIAL, State.FROZEN, State.INVALID, State.REJECTED),
    }
)
# A round comes at most one interval after the one before; half of one more is for what takes long.
_LATE_AFTER = 1.5
# A copy that goes by the calendar may be late by so much: windows, and other copies before it.
_LATE_MOMENT = 12 * 3600.0
_UNKNOWN = Failure("BackupError", "the cause was not recorded", "", False)
# Chores that another command than the one of their name asks for.
_COMMANDS = {"damage": "verify"}
_ORDER = {state: number for number, state in enumerate(State)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How something stands. `since`, `next_try`: seconds since 1970. `module` is empty for a whole host.

    A chore of upkeep stands in the place of a host, by its name; so does the daemon.
    """

    state: State
    host: str
    module: str = ""
    since: float | None = None
    cause: str = ""
    hint: str = ""
    next_try: float | None = None
    last_good: float | None = None
    last_pull: float | None = None

    @property
    def name(self) -> str:
        """HOST or HOST/MODULE."""
        return f"{self.host}/{self.module}" if self.module else self.host


@dataclass(frozen=True, slots=True)
class HostVerdict:
    """A host with its modules."""

    host: Verdict
    modules: tuple[Verdict, ...]
    last_seen: float | None = None
    checked: float | None = None

    @property
    def worst(self) -> State:
        """The worst state of the host and its modules."""
        return min((verdict.state for verdict in (self.host, *self.modules)), key=_ORDER.__getitem__)

    def with_found(self, found: Iterable[Verdict]) -> HostVerdict:
        """With what else was `found` of its modules: damage, drills, mirrors. The worse one counts."""
        of_module: dict[str, Verdict] = {}
        for one in found:
            if one.host == self.host.host and one.module:
                of_module[one.module] = min(of_module.get(one.module, one), one, key=badness)
        return replace(self, modules=tuple(_worse(module, of_module.get(module.module)) for module in self.modules))

    @property
    def problems(self) -> list[Verdict]:
        """What somebody should look at; an unreachable host stands for all its modules."""
        if self.host.state.is_problem:
            return [self.host]
        return sorted((m for m in self.modules if m.state.is_problem), key=lambda m: _ORDER[m.state])


def badness(verdict: Verdict) -> int:
    """For sorting: the worst first."""
    return _ORDER[verdict.state]


def _worse(module: Verdict, found: Verdict | None) -> Verdict:
    if found is None or badness(module) <= badness(found):
        return module
    return replace(module, state=found.state, since=found.since, cause=found.cause, hint=found.hint, next_try=None)


def judge_host(
    host: Host, row: HostView | None, modules: Iterable[ModuleView], policy: Callable[[str], Policy], now: float
) -> HostVerdict:
    """Judge a host; `row` is None before its first check, `policy` gives that of a module."""
    whole = _judge_whole(host, row)
    judged = tuple(judge_module(host, module, policy(module.name), now) for module in modules)
    return HostVerdict(whole, judged, row.last_seen if row else None, row.checked if row else None)


def _judge_whole(host: Host, row: HostView | None) -> Verdict:
    if not host.enabled:
        return Verdict(State.OFF, host.name, cause="enabled = false in the configuration")
    if row is None or (row.checked is None and not row.health.outcome):
        return Verdict(State.PENDING, host.name, cause="was not checked yet")
    health = row.health
    if health.outcome != "failed":
        return Verdict(State.OK, host.name)
    failure = health.failure or _UNKNOWN
    kind = getattr(errors, failure.type, errors.BackupError)
    away = isinstance(kind, type) and issubclass(kind, errors.ConnectError)
    state = State.UNREACHABLE if away else State.FAILING
    return Verdict(state, host.name, "", health.failing_since, failure.cause, failure.hint, health.next_try)


def judge_module(host: Host, row: ModuleView, policy: Policy, now: float) -> Verdict:
    """Judge one module."""
    state, since, cause, hint = _state_of(host, row, policy, now)
    next_try = row.health.next_try if state is State.FAILING else None
    return Verdict(state, host.name, row.name, since, cause, hint, next_try, row.last_good, row.last_pull)


def _state_of(host: Host, row: ModuleView, policy: Policy, now: float) -> tuple[State, float | None, str, str]:
    if not host.enabled or not policy.enabled or not host.wants(row.name):
        return State.OFF, None, "left out by the configuration", ""
    if row.state in ("absent", "gone", "invalid"):
        return State(row.state), None, row.reason, ""
    if row.health.outcome == "failed":
        failure = row.health.failure or _UNKNOWN
        return State.FAILING, row.health.failing_since, failure.cause, failure.hint
    if row.health.outcome == "partial":
        return (
            State.PARTIAL,
            row.last_pull,
            "some paths could not be read",
            f"`pyrsyncbackup pull {host.name}/{row.name}`",
        )
    expected = row.last_good or row.first_seen
    if expected is not None:
        due, late = expected_at(policy, expected)
        if now > late:
            known = "the last good pull is too old" if row.last_good else "it was never pulled"
            name = f"{host.name}/{row.name}"
            hint = f"`pyrsyncbackup pull {name}` does it now, `pyrsyncbackup schedule {name}` says when it is due"
            return State.LATE, due, known, hint
    if row.last_pull is None:
        return State.PENDING, None, "waits for its first pull", ""
    if row.frozen is not None:
        name = f"{host.name}/{row.name}"
        again = f"{look(name, row.frozen_why)}; if that was meant: `pyrsyncbackup retention resume {name}`"
        return State.FROZEN, row.frozen, f"nothing of it expires: {row.frozen_why}", again
    return State.OK, None, "", ""


def judge_daemon(last: DaemonView | None, ended: float | None) -> Verdict:
    """What to say of a daemon that does not run: by its last sign of life, or by when one `ended` in order."""
    nothing = "so nothing is checked, pulled or pruned by schedule"
    start = "`systemctl start pyrsyncbackup`, or `pyrsyncbackup daemon`"
    if last is not None:
        cause = f"process {last.pid} ended, or hangs, without a word: no daemon runs, {nothing}"
        return Verdict(
            State.STOPPED, "daemon", "", last.heartbeat, cause, f"see its log (`journalctl -u pyrsyncbackup`); {start}"
        )
    cause = f"no daemon {'runs' if ended is not None else 'ran here yet'}, {nothing}"
    return Verdict(State.STOPPED, "daemon", "", ended, cause, start)


def judge_chore(run: RunView) -> Verdict:
    """Judge a chore by its last run that ended."""
    again = f"`pyrsyncbackup {_COMMANDS.get(run.kind, run.kind)}` tries it again, and tells more"
    if run.outcome == "failed":
        failure = run.failure or _UNKNOWN
        return Verdict(State.FAILING, run.kind, "", run.end, failure.cause, failure.hint or again)
    # A drill with a bad result is told with its module; of the chore only those that could not be held.
    count = run.counters.get("not_held", run.counters.get("problems", 0))
    if run.outcome == "partial" and (count or "not_held" not in run.counters):
        cause = "1 problem was found" if count == 1 else f"{count} problems were found"
        return Verdict(State.PARTIAL, run.kind, "", run.end, cause, again)
    return Verdict(State.OK, run.kind, last_good=run.end)


def judge_copy(copy: CopyConfig, row: CopyView | None, zone: str | None, now: float) -> Verdict:
    """Judge a second copy by its last round; `zone` is that of moments of the calendar."""
    again = f"`pyrsyncbackup replicate {copy.name}` tries it again, and tells more"
    name = f"copy {copy.name}"
    if row is None:
        return Verdict(
            State.PENDING, name, cause="waits for its first round", hint=f"`pyrsyncbackup copies init {copy.name}`"
        )
    if row.failure is not None:
        hint = row.failure.hint or again
        return Verdict(State.FAILING, name, "", row.failing_since, row.failure.cause, hint, last_good=row.good)
    if count := row.document.get("problems", 0):
        what = "1 snapshot or module was" if count == 1 else f"{count} snapshots or modules were"
        return Verdict(State.PARTIAL, name, "", row.tried, f"{what} not copied", again, last_good=row.good)
    if copy.every is not None:
        due = rota.due_at(copy.every, zone, row.tried)
        patience = _LATE_MOMENT if isinstance(copy.every, Calendar) else copy.every * (_LATE_AFTER - 1)
        if now > due + patience:
            now_hint = f"`pyrsyncbackup replicate {copy.name}` does it now"
            return Verdict(State.LATE, name, "", due, "the last round is too old", now_hint, last_good=row.good)
    return Verdict(State.OK, name, last_good=row.good)


def judge_drill(drill: DrillView) -> Verdict:
    """Judge the last drill of a module: whether it came back, and whether its validator was content."""
    if drill.differences:
        count = "1 entry" if drill.differences == 1 else f"{drill.differences:,} entries"
        cause = f"of snapshot {drill.sequence} {count} did not come back in a drill: {', '.join(drill.examples[:3])}"
        hint = f"`pyrsyncbackup verify {drill.host}/{drill.module}` tells what is damaged"
        return Verdict(State.UNSOUND, drill.host, drill.module, drill.time, cause, hint)
    if drill.validation in ("failed", "timed out"):
        words = drill.said[-1] if drill.said else f"it {drill.validation}"
        cause = f"snapshot {drill.sequence} came back as it was, but its validator says: {words}"
        hint = f"look at the configuration on {drill.host}; `pyrsyncbackup drill {drill.host}/{drill.module}` says more"
        return Verdict(State.REJECTED, drill.host, drill.module, drill.time, cause, hint)
    return Verdict(State.OK, drill.host, drill.module, last_good=drill.time)


def judge_mirror(mirror: MirrorView) -> Verdict:
    """Judge a mirror that is behind; its snapshots are as well as they are without it."""
    names = (mirror.host, mirror.module)
    name = "/".join(names)
    again = f"`pyrsyncbackup pull {name}` brings the mirror up to date"
    if mirror.outcome == "partial":
        look = f"`pyrsyncbackup verify {name}` tells what is damaged; {again}"
        return Verdict(State.PARTIAL, *names, mirror.since, f"its mirror lacks {mirror.note}", look)
    hint = f"{mirror.hint}; then {again}" if mirror.hint else again
    return Verdict(State.FAILING, *names, mirror.since, f"its mirror is behind: {mirror.cause}", hint)


def judge_damage(found: Iterable[DamageView]) -> list[Verdict]:
    """One verdict for each module that needs damaged objects."""
    by_module: dict[tuple[str, str], list[DamageView]] = {}
    for one in found:
        by_module.setdefault((one.host, one.module), []).append(one)
    return [_judge_damaged(host, module, those) for (host, module), those in by_module.items()]


def _judge_damaged(host: str, module: str, those: list[DamageView]) -> Verdict:
    snapshots = sorted({name for one in those for name in one.snapshots})
    contents = amounts.counted(len(those), "content")
    needed = snapshots[0].rpartition("@")[2] if len(snapshots) == 1 else amounts.counted(len(snapshots), "snapshot")
    cause = f"{contents} of {needed} {'is' if len(those) == 1 else 'are'} damaged: {those[0].cause}"
    name = f"{host}/{module}"
    hint = f"`pyrsyncbackup verify {name}` names all; `pyrsyncbackup pull {name}` brings what the host still has"
    return Verdict(State.DAMAGED, host, module, min(one.since for one in those), cause, hint)


def judge_unsound(found: Iterable[UnsoundView]) -> list[Verdict]:
    """One verdict for each module whose log or manifests are not what they should be."""
    by_module: dict[tuple[str, str], list[UnsoundView]] = {}
    for one in found:
        by_module.setdefault((one.host, one.module), []).append(one)
    return [_judge_unsound(host, module, those) for (host, module), those in by_module.items()]


def _judge_unsound(host: str, module: str, those: list[UnsoundView]) -> Verdict:
    first = those[0]
    what = f"the manifest of {first.name}" if first.name else "the log"
    cause = f"{what} is {first.kind}: {first.cause}"
    if len(those) > 1:
        cause += f"; and {amounts.counted(len(those) - 1, 'finding')} more"
    affected = sorted({name for one in those for name in one.snapshots})
    if affected and (first.total > 1 or len(those) > 1):
        cause += f" ({amounts.counted(max(len(affected), *(one.total for one in those)), 'snapshot')} affected)"
    name = f"{host}/{module}"
    hint = f"`pyrsyncbackup verify {name}` names all; {first.hint}"
    return Verdict(State.DAMAGED, host, module, min(one.since for one in those), cause, hint)
