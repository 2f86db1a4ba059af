"""When a chore of the upkeep is due: a pure function of times, in seconds since 1970."""

from __future__ import annotations

from pyrsyncbackup_collector.config.calendar import Calendar
from pyrsyncbackup_collector.config.spans import Hours
from pyrsyncbackup_collector.config.zones import zone_of
from pyrsyncbackup_collector.schedule.windows import state_at


def is_due(every: float | Calendar, hours: Hours, last: float, now: float) -> bool:
    """Whether what began at `last` is to begin again at `now`; what was missed is due once.

    For what never ran, `last` is the begin of the service: a chore with moments of the calendar waits for its first.
    """
    # A run that lies in the future is one from before the clock was set back.
    last = min(last, now)
    return due_at(every, hours.zone, last) <= now and state_at(hours, now).open


def due_at(every: float | Calendar, zone: str | None, last: float) -> float:
    """When what began at `last` is due again, windows aside."""
    return every.after(last, zone_of(zone)) if isinstance(every, Calendar) else last + every
