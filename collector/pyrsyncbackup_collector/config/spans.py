"""Spans of local time as people write them: "22:00-06:00", "sat,sun", "mon-fri 08:00-18:00", "2026-12-24..2026-12-26".

It decides whether a reading of the wall clock lies in a span; what that is in seconds of a zone is the business of
`schedule`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
EVERY_DAY: Final = frozenset(range(7))
# Minutes of a day.
MIDNIGHT: Final = 24 * 60

_CLOCK: Final = re.compile(r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})\Z")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
# "22-6": times without minutes, or half a date.
_HOURS: Final = re.compile(r"[0-9]{1,2}(-[0-9]{1,2})?")
_BETWEEN: Final = re.compile(r" ?(,|-|\.\.) ?")
_A_MONDAY: Final = date(2001, 1, 1)
_FORMS: Final = 'write it as "22:00-06:00", "sat,sun", "mon-fri 08:00-18:00" or "2026-12-24..2026-12-26"'


@dataclass(frozen=True, slots=True)
class Span:
    """From `begin` to `end`, in minutes of the day, on `days` (0 is Monday) from `first` to `last`.

    An `end` that is not after `begin` is one of the next day: the span belongs to the day on which it begins.
    """

    text: str
    days: frozenset[int] = EVERY_DAY
    first: date | None = None
    last: date | None = None
    begin: int = 0
    end: int = MIDNIGHT

    def holds(self, moment: datetime) -> bool:
        """Whether the wall clock that shows `moment` is in the span."""
        minute, day = moment.hour * 60 + moment.minute, moment.date()
        if self.begin < self.end:
            return self.begin <= minute < self.end and self._is_day(day)
        if minute >= self.begin:
            return self._is_day(day)
        return minute < self.end and self._is_day(day - timedelta(days=1))

    def _is_day(self, day: date) -> bool:
        if self.first is not None and self.last is not None:
            return self.first <= day <= self.last
        return day.weekday() in self.days


@dataclass(frozen=True, slots=True)
class Hours:
    """When something may begin: in one of `windows`, if there are any, and in no blackout. No `zone`: the machine's."""

    zone: str | None = None
    windows: tuple[Span, ...] = ()
    blackouts: tuple[Span, ...] = ()

    @property
    def always(self) -> bool:
        """Whether there is no limit."""
        return not self.windows and not self.blackouts

    def open_at(self, moment: datetime) -> bool:
        """Whether something may begin while the zone's wall clock shows `moment`."""
        if self.windows and not any(span.holds(moment) for span in self.windows):
            return False
        return not any(span.holds(moment) for span in self.blackouts)

    @property
    def edges(self) -> frozenset[int]:
        """Minutes of the day at which that may change."""
        spans = (*self.windows, *self.blackouts)
        return frozenset({0, *(span.begin for span in spans), *(span.end % MIDNIGHT for span in spans)})


def spans(value: object) -> tuple[Span, ...]:
    """The spans of a list, or of one text."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list):
        raise ValueError('must be a list of spans of time, such as ["22:00-06:00", "sat,sun"]')
    return tuple(map(span, items))


def span(value: object) -> Span:
    """One span: days or dates, then times of the day; either may be left out."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{_shown(value)} is not a span of time: {_FORMS}")
    text = " ".join(value.lower().split())
    # Spaces around what stands between two are no mistake.
    words = _BETWEEN.sub(r"\1", text).split(" ")
    begin, end = 0, MIDNIGHT
    if ":" in words[-1]:
        begin, end = _times(words.pop(), value)
    if not words:
        return Span(text, begin=begin, end=end)
    if len(words) > 1:
        raise ValueError(f"{_shown(value)} is not a span of time: {_FORMS}")
    if _HOURS.fullmatch(words[0]):
        raise ValueError(f"{_shown(value)} is not a span of time: {_FORMS}")
    if words[0][0].isdigit():
        first, last = _dates(words[0], value)
        return Span(text, EVERY_DAY, first, last, begin, end)
    return Span(text, weekdays(words[0]), begin=begin, end=end)


def weekdays(text: str) -> frozenset[int]:
    """The days of "sat,sun", "mon-fri" or "monday", 0 for Monday; a range may go over Sunday."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        begin = _weekday(first)
        end = _weekday(last) if dash else begin
        found.update((begin + offset) % 7 for offset in range((end - begin) % 7 + 1))
    return frozenset(found)


def clock(text: str) -> int:
    """Minutes of the day of "02:30"; raises ValueError."""
    match = _CLOCK.match(text)
    if match is None or int(match["hour"]) > 23 or int(match["minute"]) > 59:
        raise ValueError(f'"{text}" is not a time of the day: write it as 00:00 to 23:59')
    return int(match["hour"]) * 60 + int(match["minute"])


def leave_nothing(windows: Iterable[Span], blackouts: Iterable[Span]) -> bool:
    """Whether blackouts of every week cover all windows of every week. Dated ones pass, and are left out."""
    shut = tuple(span for span in blackouts if span.first is None)
    hours = Hours(None, tuple(windows), shut)
    if any(span.first is not None for span in hours.windows):
        return False
    week = (_A_MONDAY + timedelta(days=day) for day in range(8))
    moments = (datetime.combine(day, time(edge // 60, edge % 60)) for day in week for edge in hours.edges)
    return not any(hours.open_at(moment) for moment in moments)


def _times(text: str, whole: object) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not dash:
        raise ValueError(f"{_shown(whole)} is not a span of time: it has a begin and no end; {_FORMS}")
    begin, end = clock(first), MIDNIGHT if last == "24:00" else clock(last)
    if begin == end:
        raise ValueError(f"{_shown(whole)} begins when it ends: for the whole day leave the times out")
    return begin, end


def _dates(text: str, whole: object) -> tuple[date, date]:
    first, dots, last = text.partition("..")
    begin = _date(first, whole)
    end = _date(last, whole) if dots else begin
    if end < begin:
        raise ValueError(f"{_shown(whole)} ends before it begins")
    return begin, end


def _date(text: str, whole: object) -> date:
    try:
        if _DATE.match(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise ValueError(f'{_shown(whole)}: "{text}" is not a date: write it as 2026-12-24')


def _weekday(text: str) -> int:
    found = [number for number, day in enumerate(DAYS) if len(text) >= 3 and day.startswith(text)]
    if len(found) != 1:
        short = [day[:3] for day in DAYS]
        near = ["sat,sun"] if text == "weekend" else difflib.get_close_matches(text, [*short, *DAYS], n=1)
        likely = f'did you mean "{near[0]}"?' if near else f"they are {', '.join(short)}"
        raise ValueError(f'"{text}" is not a day of the week; {likely}')
    return found[0]


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
