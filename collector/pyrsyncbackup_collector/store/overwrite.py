"""Decides what becomes of an entry where something may have its name already. Pure: looking and doing are elsewhere.

Under every rule: what is there and just as it was backed up stays and is told as that. A directory that is there is
gone into. A directory with something in it never gives way to anything else.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pyrsyncbackup_collector.entry import DIRECTORY, Entry
from pyrsyncbackup_collector.store.restore_report import Reason


class Overwrite(enum.Enum):
    """What may be replaced: nothing; what was modified before the snapshot's; everything."""

    NEVER = "never"
    OLDER = "older"
    ALWAYS = "always"


class Action(enum.Enum):
    """What is done with an entry."""

    MAKE = "make"
    REPLACE = "replace"
    SAME = "same"
    KEEP = "keep"
    LEAVE_OUT = "leave out"


@dataclass(frozen=True, slots=True)
class Present:
    """What has the name: `same` if it is what would be made, `empty` for a directory with nothing in it.

    `unfinished`: a directory that a restore which was ended before made, and never came to give its attributes.
    """

    type: str
    mtime: int
    same: bool = False
    empty: bool = False
    unfinished: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done, and for what else than plain making, why."""

    action: Action
    reason: Reason | None = None
    what: str = ""


MAKE = Decision(Action.MAKE)
SAME = Decision(Action.SAME, Reason.SAME)
_REPLACE = Decision(Action.REPLACE, Reason.REPLACED)
_NOT_EMPTY = Decision(Action.KEEP, Reason.EXISTS, "a directory with something in it")
_DIRECTORY_THERE = Decision(Action.KEEP, Reason.EXISTS, "a directory is there")
_NO_DIRECTORY = Decision(Action.KEEP, Reason.EXISTS, "it is no directory")
ANOTHER = Decision(Action.KEEP, Reason.EXISTS, "the file system takes its name for that of another entry")
_EXISTS = Decision(Action.KEEP, Reason.EXISTS)
_NOT_OLDER = Decision(Action.KEEP, Reason.EXISTS, "not older than the snapshot's")


def decide(entry: Entry, present: Present | None, rule: Overwrite) -> Decision:
    """What is done with `entry`, which can be restored, where `present` has its name."""
    if present is None or present.unfinished:
        return MAKE
    if present.same:
        return SAME
    if entry.type == DIRECTORY and present.type == DIRECTORY:
        return _REPLACE if rule is Overwrite.ALWAYS else Decision(Action.KEEP, Reason.DIRECTORY_KEPT)
    if DIRECTORY in (entry.type, present.type):
        return _across(entry, present, rule)
    if rule is Overwrite.NEVER:
        return _EXISTS
    if rule is Overwrite.OLDER and present.mtime >= entry.mtime_s * 1_000_000_000 + entry.mtime_ns:
        return _NOT_OLDER
    return _REPLACE


def _across(entry: Entry, present: Present, rule: Overwrite) -> Decision:
    """A directory in the place of something else, or the other way round."""
    if entry.type == DIRECTORY:
        return _REPLACE if rule is Overwrite.ALWAYS else _NO_DIRECTORY
    if rule is Overwrite.ALWAYS:
        return _REPLACE if present.empty else _NOT_EMPTY
    return _DIRECTORY_THERE
