"""How a frozen module is told: why nothing of it is removed, what shows the change, and what ends the freeze."""

from __future__ import annotations

import re
from typing import Final

from pyrsyncbackup_collector.cli import screen

_SNAPSHOT: Final = re.compile(r"\d{6,}-\d{4}-\d\d-\d\dT\d{6}Z")


def look(name: str, why: str) -> str:
    """What shows the change that `why` is about: that of the snapshot which it names, against the one before."""
    found = _SNAPSHOT.search(why)
    return f"`pyrsyncbackup diff {name}@{found[0]} --stat` shows what changed" if found else "look at it"


def show(name: str, why: str) -> None:
    """Say that a module's retention is frozen, why, and what ends that."""
    screen.paragraph(f"frozen, nothing is removed: {why}", screen.DOUBT)
    screen.say(f"  next: {screen.as_typed(look(name, why))}; if that was meant:", screen.QUIET)
    screen.say(f"  {screen.as_typed(f'`pyrsyncbackup retention resume {name}`')}", screen.QUIET)
