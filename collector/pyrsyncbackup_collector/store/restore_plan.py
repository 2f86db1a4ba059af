"""What a restore would do, entry by entry, without doing anything: the plan that `--dry-run` shows.

The decisions are those of a restore (`survey`); what only shows while it is done (no space, damaged contents, rights
that lack) no plan knows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pyrsyncbackup_collector.entry import DIRECTORY, Entry
from pyrsyncbackup_collector.store import beneath, overwrite
from pyrsyncbackup_collector.store.descent import ABSENT, NOT_MADE, Descent, Level
from pyrsyncbackup_collector.store.overwrite import Action, Decision
from pyrsyncbackup_collector.store.restore_report import Reason
from pyrsyncbackup_collector.store.survey import Names, Rules, Survey, left_out
from pyrsyncbackup_collector.store.unfinished import Traces, look

_BELOW = Decision(Action.LEAVE_OUT, Reason.BELOW)


@dataclass(frozen=True, slots=True)
class Planned:
    """What would become of one entry."""

    entry: Entry
    decision: Decision


def plan(entries: Iterable[Entry], target: Path, rules: Rules) -> Iterator[Planned]:
    """The decision for each of `entries` (in manifest order) at the directory `target`, which need not be there.

    Raises RestoreError for a target that a restore would refuse, StoreDamaged as a restore does.
    """
    fd = beneath.look_at_target(target)
    private = fd is None or beneath.is_private(fd)
    lowest = Level(b"", ABSENT if fd is None else fd)
    descent = Descent(lowest)
    names = Names(lowest.fd)
    survey = Survey(rules, Traces() if fd is None else look(fd), names)
    try:
        for entry in entries:
            level, name = descent.at(entry.path)
            decision = _BELOW if level.fd == NOT_MADE else survey.decide(level, name, entry)
            if entry.type == DIRECTORY:
                descent.enter(Level(entry.path, _below(level, name, decision, private=private)))
            if decision.action in (Action.MAKE, Action.REPLACE, Action.SAME):
                names.add(entry)
            yield Planned(entry, decision)
    finally:
        descent.close()


def plan_archive(entries: Iterable[Entry], *, special: bool) -> Iterator[Planned]:
    """The decision for each of `entries` in a new archive, whatever that can hold."""
    for entry in entries:
        yield Planned(entry, left_out(entry, special=special) or overwrite.MAKE)


def _below(level: Level, name: bytes, decision: Decision, *, private: bool) -> int:
    """What is to be looked at for the entries below a directory."""
    if decision.action is Action.LEAVE_OUT or decision.reason is Reason.EXISTS:
        return NOT_MADE
    if level.fd == ABSENT:
        return ABSENT
    try:
        fd = beneath.open_directory(level.fd, name)
    except OSError:
        return ABSENT
    if private or beneath.others_cannot_write(fd):
        return fd
    os.close(fd)
    return NOT_MADE
