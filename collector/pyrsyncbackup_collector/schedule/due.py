"""When something is due: pure functions of times, all in seconds since 1970.

Time is cut into slots of one interval each. Where the cuts lie depends on a stable hash of what is run, not on when
the collector started: so hosts spread over the interval, and a restart does not shift them. Moments of a calendar cut
it likewise, and are nobody's alone. What was last begun before the present slot is due, once, however many were missed.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from pyrsyncbackup_collector.config.calendar import Calendar
from pyrsyncbackup_collector.config.zones import zone_of

# First wait after a failure that may pass by itself, and after one that somebody has to repair.
RETRY_FIRST: Final = 30.0
REPAIR_FIRST: Final = 15 * 60.0
# Longer would hide from an administrator that the repair worked.
RETRY_CAP: Final = 3600.0
_HOUR: Final = 3600.0


def fraction(*key: str) -> float:
    """A number in [0, 1) that depends on `key` alone."""
    digest = hashlib.blake2b("\0".join(key).encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / (1 << 53)


def next_slot(after: float, interval: float, *key: str) -> float:
    """The first cut between slots of `key` that lies later than `after`; at most one interval later."""
    offset = interval * fraction(*key)
    slot = offset + ((after - offset) // interval + 1) * interval
    # Rounding may put the cut on `after` itself.
    return slot if slot > after else slot + interval


def due_at(last: float | None, every: float | Calendar, *key: str, zone: str | None = None) -> float:
    """When to run again what was last begun at `last`; at once (0) what never was. `zone` is that of a calendar."""
    if last is None:
        return 0.0
    return _next_moment(every, zone, last) if isinstance(every, Calendar) else next_slot(last, every, *key)


def _next_moment(calendar: Calendar, zone: str | None, last: float) -> float:
    """The moment after `last`. Many modules share a calendar and were pulled within the same hour."""
    hour = last // _HOUR
    moment = _first_since(calendar, zone, hour)
    return moment if moment > last else calendar.after(last, zone_of(zone))


@lru_cache(maxsize=4096)
def _first_since(calendar: Calendar, zone: str | None, hour: float) -> float:
    return calendar.after(hour * _HOUR, zone_of(zone))


def retry_at(failed: float, failures: int, *key: str, retryable: bool = True) -> float:
    """When to try again after the latest of `failures` failures in a row, at `failed`.

    The wait doubles up to an hour; a stable hash takes up to a fifth of it away, so that hosts behind one broken
    network do not come back all at once.
    """
    first = RETRY_FIRST if retryable else REPAIR_FIRST
    wait = min(RETRY_CAP, first * 2.0 ** min(max(failures, 1) - 1, 16))
    return failed + wait * (1 - fraction(*key, str(failures)) / 5)
