"""Whether the clock can be trusted enough to let snapshots expire by it: a pure judgement over what was seen of it.

The wall clock is compared with the time since the machine's start, from the first look after each start on, so that
many small steps count like one large one; over a restart with the last look; and always with the newest snapshots. A
doubt stays until the clock is back where it should be, or an administrator says that it is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from pyrsyncbackup_collector.clock import Clock

# By how many seconds the wall clock may move against the time since the machine's start.
MOST: Final = 86400.0
# How long the machine may have been off: by more nobody can tell a long pause from a wrong clock.
LONGEST_PAUSE: Final = 30 * 86400.0
# After a start that shows a jump, so many seconds for whatever sets the clock: many machines start with a wrong one.
SETTLING: Final = 900.0


class Look(msgspec.Struct, frozen=True):
    """The clocks at one moment: seconds since 1970, and since the start of the machine that `boot` names."""

    wall: float
    boot: str
    seconds: float


class Seen(msgspec.Struct, frozen=True):
    """What is remembered: the first look since this start of the machine, and the last one.

    `excused` are modules whose newest snapshot lay in the future when an administrator said that the clock is right,
    with its sequence number.
    """

    first: Look
    last: Look
    excused: dict[str, int] = {}


def look(clock: Clock) -> Look:
    """The clocks as they are now."""
    up = clock.uptime()
    return Look(clock.now(), up.boot, up.seconds)


def load(text: str) -> Seen | None:
    """What was remembered; None if nothing was, or nothing that can be read."""
    try:
        return msgspec.json.decode(text, type=Seen) if text else None
    except msgspec.MsgspecError:
        return None


def dump(seen: Seen) -> str:
    """As text, for `load`."""
    return msgspec.json.encode(seen).decode()


def doubt(now: Look, seen: Seen | None, newest: Mapping[str, tuple[int, float]]) -> str:
    """Why the clock cannot be trusted, in words; nothing if it can.

    `newest` is the sequence number and the time of each module's newest snapshot, by HOST/MODULE.
    """
    excused = seen.excused if seen else {}
    ahead = [(time, name) for name, (sequence, time) in newest.items() if sequence > excused.get(name, 0)]
    latest, name = max(ahead, default=(now.wall, ""))
    if latest > now.wall:
        return f"the clock says {_shown(now.wall)}, and the newest snapshot of {name} is of {_shown(latest)}"
    if seen is None:
        return ""
    if seen.first.boot == now.boot:
        moved = (now.wall - seen.first.wall) - (now.seconds - seen.first.seconds)
        if abs(moved) > MOST:
            way = "forward" if moved > 0 else "back"
            return f"the clock was moved {way} by {_span(abs(moved))} since {_shown(seen.first.wall)}"
        return ""
    passed = now.wall - seen.last.wall
    if passed < -MOST:
        return f"the clock says {_shown(now.wall)}, before the restart of this machine it was {_shown(seen.last.wall)}"
    if passed > LONGEST_PAUSE:
        return f"the clock says {_shown(now.wall)}, {_span(passed)} after it was last seen, before a restart"
    if passed > MOST and now.seconds < SETTLING:
        return (
            f"the clock says {_shown(now.wall)}, {_span(passed)} after it was last seen, and this machine just "
            f"started: {SETTLING / 60:.0f} minutes are left for the clock to be set"
        )
    return ""


def remembered(now: Look, seen: Seen | None) -> Seen:
    """What to remember after a look that raised no doubt."""
    if seen is None:
        return Seen(now, now)
    return Seen(seen.first if seen.first.boot == now.boot else now, now, seen.excused)


def trusted(now: Look, newest: Mapping[str, tuple[int, float]]) -> Seen:
    """What to remember when an administrator says that the clock is right."""
    return Seen(now, now, {name: sequence for name, (sequence, time) in newest.items() if time > now.wall})


def _shown(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"{moment:.0f} s after 1970"


def _span(seconds: float) -> str:
    return f"{seconds / 86400:,.1f} days"
