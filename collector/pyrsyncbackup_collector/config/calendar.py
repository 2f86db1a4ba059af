"""Moments of the calendar as people write them: "daily at 02:30", "weekly on sunday at 03:00", "cron 30 2 * * 1-5".

All become cron expressions, which cronsim, the one library here that knows them, works out as Debian's cron does: a
time that a zone's clock leaves out comes right after the gap, one that it shows twice comes the first time alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final

from cronsim import CronSim, CronSimError

from pyrsyncbackup_collector.config import quantities, spans

_FORMS: Final = (
    'write it as a duration such as 6h, or as "hourly at :15", "daily at 02:30", "weekly on sunday at 03:00", '
    '"monthly on 1 at 04:00" or "cron 30 2 * * 1-5"'
)
# From here on it is looked whether an expression ever comes; a leap year begins it.
_LOOK_FROM: Final = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Calendar:
    """The moments of all cron `expressions` (five fields each); `text` as it was written."""

    text: str
    expressions: tuple[str, ...]

    def after(self, seconds: float, zone: tzinfo) -> float:
        """The first moment of the zone's calendar later than `seconds`; both are seconds since 1970.

        Infinity where there is none before the end of all calendars, for a clock that is far off.
        """
        return min(_after(expression, seconds, zone) for expression in self.expressions)


def pull_time(value: object) -> float | Calendar:
    """Seconds of a duration, or a calendar."""
    if isinstance(value, str):
        kind, _, rest = " ".join(value.split()).partition(" ")
        if kind.lower() in _KINDS:
            return Calendar(value, _checked(value, _KINDS[kind.lower()](value, rest)))
        if len(value.split()) == 5 and not kind.isalpha():
            raise ValueError(f'"{value}" is no duration: did you mean "cron {value}"?')
        if value[:1].isalpha() or value[:1] == "@":
            near = difflib.get_close_matches(kind.lower().lstrip("@"), _KINDS, n=1)
            likely = f'did you mean "{near[0]}"? ' if near else ""
            raise ValueError(f'"{value}" is neither a duration nor a time: {likely}{_FORMS}')
    return quantities.duration(value)


def pull_time_or_off(value: object) -> float | Calendar | None:
    """Like `pull_time`; "off" is None."""
    return None if value == "off" else pull_time(value)


def _after(expression: str, seconds: float, zone: tzinfo) -> float:
    try:
        simulation = CronSim(expression, datetime.fromtimestamp(seconds, zone))
        while True:
            # In an hour that comes twice it begins with the first one, which may lie behind.
            moment = next(simulation).timestamp()
            if moment > seconds:
                return moment
    except (StopIteration, OverflowError, ValueError):
        return float("inf")


def _checked(text: str, expressions: tuple[str, ...]) -> tuple[str, ...]:
    for expression in expressions:
        try:
            next(CronSim(expression, _LOOK_FROM))
        except CronSimError as error:
            raise ValueError(f'"{text}": {str(error).lower()}; {_FORMS}') from None
        except StopIteration:
            raise ValueError(f'"{text}" never comes: no month has such a day') from None
    return expressions


def _hourly(text: str, rest: str) -> tuple[str, ...]:
    minutes = []
    for part in _at(text, rest):
        if not part.startswith(":") or not part[1:].isdecimal():
            raise ValueError(f'"{text}": the minute of the hour is written like "hourly at :15"')
        minutes.append(spans.clock(f"00{part}"))
    return (f"{','.join(map(str, minutes))} * * * *",)


def _daily(text: str, rest: str) -> tuple[str, ...]:
    return tuple(f"{minute % 60} {minute // 60} * * *" for minute in map(spans.clock, _at(text, rest)))


def _weekly(text: str, rest: str) -> tuple[str, ...]:
    days, times = _on(text, rest)
    numbers = ",".join(str((day + 1) % 7) for day in sorted(spans.weekdays(days.lower())))
    return tuple(f"{minute % 60} {minute // 60} * * {numbers}" for minute in map(spans.clock, times))


def _monthly(text: str, rest: str) -> tuple[str, ...]:
    days, times = _on(text, rest)
    if not all(day.isdecimal() and 1 <= int(day) <= 31 for day in days.split(",")):
        raise ValueError(f'"{text}": the day of the month is a number from 1 to 31')
    return tuple(f"{minute % 60} {minute // 60} {days} * *" for minute in map(spans.clock, times))


def _cron(text: str, rest: str) -> tuple[str, ...]:
    fields = rest.split()
    if len(fields) != 5:
        raise ValueError(
            f'"{text}": a cron expression has five fields, not {len(fields)}: minute, hour, day of the month, month, '
            "day of the week"
        )
    return (" ".join(fields),)


def _at(text: str, rest: str) -> list[str]:
    word, _, times = rest.partition(" ")
    if word.lower() != "at" or not times:
        raise ValueError(f'"{text}": the time is missing; {_FORMS}')
    return times.replace(" ", "").split(",")


def _on(text: str, rest: str) -> tuple[str, list[str]]:
    word, _, after = rest.partition(" ")
    days, at, times = after.partition(" at ")
    if word.lower() != "on" or not at:
        raise ValueError(f'"{text}": the day or the time is missing; {_FORMS}')
    return days.replace(" ", ""), _at(text, f"at {times}")


_KINDS: Final[dict[str, Callable[[str, str], tuple[str, ...]]]] = {
    "hourly": _hourly,
    "daily": _daily,
    "weekly": _weekly,
    "monthly": _monthly,
    "cron": _cron,
}
