"""Which snapshots of a module are kept, and why: a pure function over what is there, the rules, and a moment.

A snapshot stands for all the time until the next one, since pulls that find nothing new make none: a rule keeps, for
each of its hours, days, weeks, months or years, the snapshot that was current at the end of it, and for `within` also
the one that was current when that time began. Which is newer says the sequence number; where the clock ran backwards,
each keeps its own place in the calendar. Partial snapshots take no place that a complete one could have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from functools import partial
from typing import Final

from pyrsyncbackup_collector.config import quantities
from pyrsyncbackup_collector.config.model import Keep
from pyrsyncbackup_collector.store.snapshot import COMPLETE, PARTIAL

NO_RULE: Final = "no rule: everything is kept"
NEWEST: Final = "newest: the next pull compares with it"
NEWEST_COMPLETE: Final = "newest complete"
DAMAGED: Final = "damaged: nobody knows what it holds"
FUTURE: Final = "its time is still to come: no rule can judge it"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A snapshot as rules see it: `time` in seconds since 1970, `state` complete, partial or something else.

    `pinned` is why it is pinned, None if it is not.
    """

    sequence: int
    time: float
    state: str = COMPLETE
    pinned: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to a snapshot: all reasons why it is kept, or the one why it goes."""

    snapshot: Candidate
    keep: bool
    reasons: tuple[str, ...]


def decide(
    snapshots: Iterable[Candidate],
    rules: Keep,
    until: float,
    zone: tzinfo | None = None,
    *,
    good: float | None = None,
) -> list[Decision]:
    """What `rules` say of the snapshots of one module, oldest first.

    `until` (seconds since 1970) is the last moment of which the module's state is known, and what rules count back
    from; `good` the last one of which all of it is, from which they do for all but the newest partial ones, so that a
    host that stopped showing all of itself cannot make complete ones expire; None: the same. The calendar is that of
    `zone`, None for the local one. Without rules everything is kept. The newest complete
    one and the newest of all are kept always, and so is what is pinned, damaged, or later than what rules count from.
    """
    good = until if good is None else good
    ordered = sorted(snapshots, key=lambda one: one.sequence)
    kept = _Reasons(ordered)
    complete = [one for one in ordered if one.state == COMPLETE]
    newest = complete[-1].sequence if complete else 0
    for one in ordered:
        if one.pinned is not None:
            kept.add(one, f"pinned: {one.pinned}" if one.pinned else "pinned")
        if one.state not in (COMPLETE, PARTIAL):
            kept.add(one, DAMAGED)
        if one.time > (until if one.sequence > newest else good):
            kept.add(one, FUTURE)
    if complete:
        kept.add(complete[-1], NEWEST_COMPLETE)
    if ordered and ordered[-1].sequence != newest:
        kept.add(ordered[-1], NEWEST)
    if not has_rules(rules):
        for one in ordered:
            kept.add(one, NO_RULE)
        return kept.decisions(newest)
    moments = {one.sequence: moment for one in ordered if (moment := _Moment.of(one.time, zone)) is not None}
    parts = [one for one in ordered if one.state == PARTIAL]
    _apply(complete, rules, good, zone, moments, kept)
    # Those after the newest complete one hold what nothing else does: rules thin them out among themselves.
    _apply([one for one in parts if one.sequence > newest], rules, until, zone, moments, kept)
    if rules.within:
        _within([one for one in parts if one.sequence < newest], rules.within, good, kept, begin=False)
    return kept.decisions(newest)


def has_rules(keep: Keep) -> bool:
    """Whether anything can ever be removed."""
    return any(getattr(keep, name) for name in Keep.model_fields)


class _Reasons:
    """The reasons to keep each snapshot, in the order in which they were found."""

    def __init__(self, ordered: Sequence[Candidate]) -> None:
        self._ordered = ordered
        self._found: dict[int, list[str]] = {}

    def add(self, snapshot: Candidate, reason: str) -> None:
        self._found.setdefault(snapshot.sequence, []).append(reason)

    def decisions(self, newest: int) -> list[Decision]:
        return [
            Decision(one, True, tuple(found))
            if (found := self._found.get(one.sequence))
            else Decision(one, False, (_why_not(one, newest),))
            for one in self._ordered
        ]


def _why_not(one: Candidate, newest: int) -> str:
    if one.state == PARTIAL and one.sequence < newest:
        return f"partial, and {newest:06d} after it is complete"
    return "no rule keeps it"


@dataclass(frozen=True, slots=True)
class _Moment:
    """A time on the wall: the number of its day, counted from the year 1, and its hour."""

    day: int
    hour: int
    year: int
    month: int

    @classmethod
    def of(cls, time: float, zone: tzinfo | None) -> _Moment | None:
        """None for a time that no calendar has."""
        try:
            there = datetime.fromtimestamp(time, zone)
        except (ValueError, OverflowError, OSError):
            return None
        return cls(there.toordinal(), there.hour, there.year, there.month)


# For each rule of the calendar: the number of the period that a moment lies in, and the period's name. Weeks begin on
# Monday. An hour that comes twice, when summer time ends, is one.
_PERIODS: Final[dict[str, tuple[Callable[[_Moment], int], Callable[[int], str]]]] = {
    "hourly": (lambda at: at.day * 24 + at.hour, lambda n: f"{date.fromordinal(n // 24)} {n % 24:02d}:00"),
    "daily": (lambda at: at.day, lambda n: f"{date.fromordinal(n)}"),
    "weekly": (lambda at: (at.day - 1) // 7, lambda n: f"{date.fromordinal(n * 7 + 1):%G-W%V}"),
    "monthly": (lambda at: at.year * 12 + at.month - 1, lambda n: f"{n // 12:04d}-{n % 12 + 1:02d}"),
    "yearly": (lambda at: at.year, lambda n: f"{n:04d}"),
}


def _apply(
    ordered: Sequence[Candidate],
    rules: Keep,
    until: float,
    zone: tzinfo | None,
    moments: dict[int, _Moment],
    kept: _Reasons,
) -> None:
    """Add what `rules` keep of `ordered`, which are the snapshots that count."""
    if rules.last:
        for place, one in enumerate(reversed(ordered[-rules.last :]), 1):
            kept.add(one, f"last {place} of {rules.last}")
    now = _Moment.of(until, zone)
    for rule, (number, name) in _PERIODS.items():
        count = getattr(rules, rule)
        if count and now is not None:
            _calendar(ordered, moments, number, number(now), count, partial(_named, rule, name), kept)
    if rules.within:
        _within(ordered, rules.within, until, kept, begin=True)


def _named(rule: str, name: Callable[[int], str], first: int, last: int) -> str:
    return f"{rule} {name(first)}" if first == last else f"{rule} {name(first)} to {name(last)}"


def _calendar(
    ordered: Sequence[Candidate],
    moments: dict[int, _Moment],
    number: Callable[[_Moment], int],
    top: int,
    count: int,
    reason: Callable[[int, int], str],
    kept: _Reasons,
) -> None:
    """Keep what stands at the end of each of the `count` periods up to `top`."""
    at_end: dict[int, Candidate] = {}
    for one in ordered:
        moment = moments.get(one.sequence)
        if moment is not None and (period := number(moment)) <= top:
            at_end[period] = one
    lowest, last = top - count + 1, top
    for period in sorted(at_end, reverse=True):
        if last < lowest:
            return
        kept.add(at_end[period], reason(max(period, lowest), last))
        last = period - 1


def _within(ordered: Sequence[Candidate], seconds: float, until: float, kept: _Reasons, *, begin: bool) -> None:
    """Keep what was taken in the last so many seconds, and with `begin` what was current when they began."""
    words = f"within {quantities.written(seconds)}"
    before: Candidate | None = None
    for one in ordered:
        if one.time >= until - seconds:
            kept.add(one, words)
        elif before is None or one.time >= before.time:
            before = one
    if begin and before is not None:
        kept.add(before, f"{words}: current when that began")
