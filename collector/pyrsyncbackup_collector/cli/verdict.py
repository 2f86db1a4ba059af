"""Whether hosts and modules are well: late, failing, unreachable, and since when. Pure.

It judges what the catalog recorded by what the policy asks for; it asks no host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from pyrsyncbackup_collector import errors
from pyrsyncbackup_collector.catalog.views import Failure, HostView, ModuleView, RunView
from pyrsyncbackup_collector.config import Policy
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.schedule.forecast import expected_at


class State(Enum):
    """How a host or a module stands, the worst first."""

    UNREACHABLE = "unreachable"
    FAILING = "failing"
    LATE = "late"
    PARTIAL = "partial"
    INVALID = "invalid"
    PENDING = "pending"
    OK = "ok"
    ABSENT = "absent"
    GONE = "gone"
    OFF = "off"

    @property
    def is_problem(self) -> bool:
        """Whether somebody should look."""
        return self in _PROBLEMS


_PROBLEMS = frozenset({State.UNREACHABLE, State.FAILING, State.LATE, State.PARTIAL, State.INVALID})
_UNKNOWN = Failure("BackupError", "the cause was not recorded", "", False)
_ORDER = {state: number for number, state in enumerate(State)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How something stands. `since`, `next_try`: seconds since 1970. `module` is empty for a whole host.

    A chore of upkeep stands in the place of a host, by its name.
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

    @property
    def problems(self) -> list[Verdict]:
        """What somebody should look at; an unreachable host stands for all its modules."""
        if self.host.state.is_problem:
            return [self.host]
        return sorted((m for m in self.modules if m.state.is_problem), key=lambda m: _ORDER[m.state])


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
            return State.LATE, due, known, "does the daemon run?"
    if row.last_pull is None:
        return State.PENDING, None, "waits for its first pull", ""
    return State.OK, None, "", ""


def judge_chore(run: RunView) -> Verdict:
    """Judge a chore by its last run that ended."""
    again = f"`pyrsyncbackup {run.kind}` tries it again, and tells more"
    if run.outcome == "failed":
        failure = run.failure or _UNKNOWN
        return Verdict(State.FAILING, run.kind, "", run.end, failure.cause, failure.hint or again)
    if run.outcome == "partial":
        count = run.counters.get("problems", 0)
        cause = "1 problem was found" if count == 1 else f"{count} problems were found"
        return Verdict(State.PARTIAL, run.kind, "", run.end, cause, again)
    return Verdict(State.OK, run.kind, last_good=run.end)
