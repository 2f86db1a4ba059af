"""When windows and blackouts let something begin, in seconds since 1970: pure functions of times.

Whether a moment is open is read from the zone's wall clock, so that a change of daylight saving time needs no rule of
its own: an hour that comes twice is open twice, one that is left out never. What begins goes on past the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

from pyrsyncbackup_collector.config.spans import Hours
from pyrsyncbackup_collector.config.zones import zone_of

NEVER: Final = float("inf")
# Apart from dates, hours repeat every week; two of them have every day also where one lacks the hour in question.
_CYCLE: Final = 16
_SOON: Final = 3


@dataclass(frozen=True, slots=True)
class State:
    """Whether something may begin, and until when that is so (infinity: for good)."""

    open: bool
    until: float


def state_at(hours: Hours, at: float) -> State:
    """How it is at the moment `at`."""
    if hours.always:
        return State(True, NEVER)
    zone = zone_of(hours.zone)
    now = _is_open(hours, zone, at)
    return State(now, next((edge for edge in _edges(hours, zone, at) if _is_open(hours, zone, edge) != now), NEVER))


def next_open(hours: Hours, at: float) -> float:
    """The first moment from `at` on at which something may begin; infinity if there is none."""
    found = state_at(hours, at)
    return at if found.open else found.until


def closed_by(hours: Hours, at: float) -> str:
    """What keeps it closed at the moment `at`: the text of a blackout, or nothing (no window is open)."""
    moment = datetime.fromtimestamp(at, zone_of(hours.zone))
    return next((span.text for span in hours.blackouts if span.holds(moment)), "")


def _is_open(hours: Hours, zone: tzinfo, at: float) -> bool:
    return hours.open_at(datetime.fromtimestamp(at, zone))


def _edges(hours: Hours, zone: tzinfo, after: float) -> Iterator[float]:
    """All moments later than `after` at which it may change, in their order."""
    first = datetime.fromtimestamp(after, zone).date() - timedelta(days=1)
    days = sorted(_days(hours, first))
    for part in (days[:_SOON], days[_SOON:]):
        found = sorted({edge for day in part for edge in _edges_of(hours, zone, day) if edge > after})
        yield from found
        after = max([after, *found])


def _days(hours: Hours, first: date) -> set[date]:
    """The days from `first` on to look at: the coming ones, and those after each date at which something changes."""
    begins = [first]
    for span in (*hours.windows, *hours.blackouts):
        begins += [day - timedelta(days=1) for day in (span.first, span.last) if day is not None]
    days = {begin + timedelta(days=number) for begin in begins for number in range(_CYCLE + 1)}
    return {day for day in days if day >= first}


def _edges_of(hours: Hours, zone: tzinfo, day: date) -> Iterable[float]:
    for minute in hours.edges:
        for fold in (0, 1):
            yield datetime.combine(day, time(minute // 60, minute % 60, fold=fold), zone).timestamp()
    begin, end = (datetime.combine(one, time(), zone).timestamp() for one in (day, day + timedelta(days=1)))
    if _offset(zone, begin) != _offset(zone, end):
        yield _turn(zone, int(begin), int(end))


def _turn(zone: tzinfo, begin: int, end: int) -> float:
    """The second between two at which the wall clock is put forward or back."""
    before = _offset(zone, begin)
    while end - begin > 1:
        middle = (begin + end) // 2
        if _offset(zone, middle) == before:
            begin = middle
        else:
            end = middle
    return float(end)


def _offset(zone: tzinfo, at: float) -> timedelta | None:
    return datetime.fromtimestamp(at, UTC).astimezone(zone).utcoffset()
