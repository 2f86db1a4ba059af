"""How many pulls may run at a time: a pure function of how long they take, how many wait, and the limits.

In the long run as many workers are needed as were at work on average, which is the sum of each pull's duration divided
by its interval, and some more. What waits although it could begin has to be caught up with, too. It grows at once and
shrinks slowly: too many workers cost memory, too few cost backups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from pyrsyncbackup_collector.config.model import Workers

# Of so many more workers than are at work on average there is seldom none free.
HEADROOM: Final = 1.25
# Seconds that a pull may wait for a worker before that means anything, and in which all that wait should have begun.
PATIENCE: Final = 60.0
CATCH_UP: Final = 900.0
# Seconds for which fewer would have done before there is one less.
HOLD: Final = 1800.0
# The average of workers at work looks back over so many seconds, that of durations over so many pulls.
MEMORY: Final = 1800.0
PULLS: Final = 10
# Seconds that a pull is thought to take before any has ended.
LENGTH: Final = 30.0
# Where a range has no reason yet to be at either end.
FIRST: Final = 8


@dataclass(frozen=True, slots=True)
class Load:
    """What there is to do.

    `busy`: workers at work on average; `length`: seconds of a pull on average; `queue`: pulls that only wait for a
    worker; `waiting`: seconds for which there was always one.
    """

    busy: float = 0.0
    length: float = LENGTH
    queue: int = 0
    waiting: float = 0.0


@dataclass(frozen=True, slots=True)
class Crew:
    """How many workers there are, and since when fewer would do (None: they would not)."""

    number: int
    spare_since: float | None = None


def first(workers: Workers) -> Crew:
    """The crew to begin with."""
    return Crew(min(max(FIRST, workers.min), workers.max))


def wanted(load: Load, workers: Workers) -> int:
    """How many workers this load needs, within the limits."""
    steady = math.ceil(load.busy * HEADROOM)
    behind = math.ceil(load.queue * load.length / CATCH_UP) if load.waiting >= PATIENCE else 0
    return min(max(steady, behind, workers.min), workers.max)


def step(crew: Crew, load: Load, workers: Workers, now: float) -> Crew:
    """The crew at `now`; called every second or so. `now` may be any clock's that does not jump far."""
    number = min(max(crew.number, workers.min), workers.max)
    need = wanted(load, workers)
    if need >= number:
        return Crew(need)
    if load.queue:
        return Crew(number)
    # A clock that was set back begins the waiting anew.
    since = now if crew.spare_since is None else min(crew.spare_since, now)
    return Crew(number - 1, now) if now - since >= HOLD else Crew(number, since)


def worked(load: Load, running: int, seconds: float) -> Load:
    """The load after `running` workers were at work for so many seconds."""
    share = 1 - math.exp(-min(max(seconds, 0.0), MEMORY) / MEMORY)
    return replace(load, busy=load.busy + (running - load.busy) * share)


def ended(load: Load, seconds: float) -> Load:
    """The load after a pull took so many seconds."""
    took = min(max(seconds, 0.0), CATCH_UP * PULLS)
    return replace(load, length=load.length + (took - load.length) / PULLS)
