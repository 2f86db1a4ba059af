"""When something is due: pure functions of times, all in seconds since 1970.

Time is cut into slots of one interval each. Where the cuts lie depends on a stable hash of what is run, not on when
the collector started: so hosts spread over the interval, and a restart does not shift them. What was last begun before
the present slot is due, once, however many slots were missed.
"""

from __future__ import annotations

import hashlib
from typing import Final

# First wait after a failure that may pass by itself, and after one that somebody has to repair.
RETRY_FIRST: Final = 30.0
REPAIR_FIRST: Final = 15 * 60.0
# Longer would hide from an administrator that the repair worked.
RETRY_CAP: Final = 3600.0


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


def due_at(last: float | None, interval: float, *key: str) -> float:
    """When to run again what was last begun at `last`; at once (0) what never was."""
    return 0.0 if last is None else next_slot(last, interval, *key)


def retry_at(failed: float, failures: int, *key: str, retryable: bool = True) -> float:
    """When to try again after the latest of `failures` failures in a row, at `failed`.

    The wait doubles up to an hour; a stable hash takes up to a fifth of it away, so that hosts behind one broken
    network do not come back all at once.
    """
    first = RETRY_FIRST if retryable else REPAIR_FIRST
    wait = min(RETRY_CAP, first * 2.0 ** min(max(failures, 1) - 1, 16))
    return failed + wait * (1 - fraction(*key, str(failures)) / 5)
