"""When a module is pulled next and what decides that, and when it is late: pure, from what was recorded and its policy.

The board of a running daemon knows more: free slots, and what a check saw changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pyrsyncbackup_collector.config.calendar import Calendar
from pyrsyncbackup_collector.config.policy import Policy
from pyrsyncbackup_collector.schedule.due import due_at
from pyrsyncbackup_collector.schedule.windows import NEVER, closed_by, next_open

# A pull comes at most one interval after the one before; half of one more is for what takes long or had to wait.
SLACK: Final = 0.5


class Why(Enum):
    """What decides about the moment."""

    NEW = "new"
    INTERVAL = "interval"
    CALENDAR = "calendar"
    BACKOFF = "backoff"
    WINDOW = "window"
    BLACKOUT = "blackout"
    DISABLED = "disabled"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Forecast:
    """The next pull begins at `at` (seconds since 1970, infinity: never by itself); `blackout` is what delays it."""

    at: float
    why: Why
    blackout: str = ""


def forecast(
    policy: Policy, host: str, module: str, *, last: float | None, now: float, waits_until: float = 0.0
) -> Forecast:
    """The next pull of a module that was last begun at `last` and is not to be tried again before `waits_until`."""
    if not policy.enabled:
        return Forecast(NEVER, Why.DISABLED)
    at, why = due_at(last, policy.pull, host, module, zone=policy.zone), _kind(policy, last)
    if waits_until > max(at, now):
        at, why = waits_until, Why.BACKOFF
    return _opened(policy, max(at, now), why)


def following(policy: Policy, host: str, module: str, at: float) -> Iterator[Forecast]:
    """The pulls after one that begins at `at`, if all goes well."""
    while at < NEVER:
        found = _opened(policy, due_at(at, policy.pull, host, module, zone=policy.zone), _kind(policy, at))
        yield found
        at = found.at


def expected_at(policy: Policy, last: float) -> tuple[float, float]:
    """When the pull after one at `last` should have begun at the latest, and when it is late."""
    if isinstance(policy.pull, Calendar):
        due = due_at(last, policy.pull, zone=policy.zone)
        length = due_at(due, policy.pull, zone=policy.zone) - due
    else:
        due, length = last + policy.pull, policy.pull
    due = next_open(policy.hours, due) if due < NEVER else due
    return due, due + length * SLACK


def _kind(policy: Policy, last: float | None) -> Why:
    if last is None:
        return Why.NEW
    return Why.CALENDAR if isinstance(policy.pull, Calendar) else Why.INTERVAL


def _opened(policy: Policy, at: float, why: Why) -> Forecast:
    opens = next_open(policy.hours, at) if at < NEVER else at
    if opens == at:
        return Forecast(at, why if at < NEVER else Why.CLOSED)
    blackout = closed_by(policy.hours, at)
    if opens == NEVER:
        return Forecast(NEVER, Why.CLOSED, blackout)
    return Forecast(opens, Why.BLACKOUT if blackout else Why.WINDOW, blackout)
