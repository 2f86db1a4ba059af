"""Whether a snapshot is suddenly much smaller, or much different, than those before it: a pure judgement.

A host that was taken over, or whose disk went away, must not make its good history expire: retention of such a module
stops until somebody looked at it. What follows from the judgement is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from pyrsyncbackup_collector.store.snapshot import Snapshot

# Compared with so many complete ones at most: the present habit, not that of years ago.
BEFORE: Final = 10
# Modules of fewer files change by more than half at every edit; of these only what they lose of so many bytes counts:
# dumps of databases are few files, and one that fails leaves next to nothing.
FEWEST_FILES: Final = 20
FEWEST_BYTES: Final = 1 << 20
# Contents are compared with the state of a day before, so that many small steps in one day count as one.
SPAN: Final = 86400.0

# How many files of the one snapshot have another content, or are gone, in the other.
Lost = Callable[[Snapshot, Snapshot], int]


def sudden(one: Snapshot, before: Sequence[Snapshot], share: float, lost: Lost) -> str:
    """What is sudden about a complete snapshot, in words; nothing if all is well.

    `before` are the complete ones before it, oldest first; `share` is how much (0 to 1) may go or change at once.
    """
    recent = before[-BEFORE:]
    if not recent:
        return ""
    few = median(each.totals.files for each in recent) < FEWEST_FILES
    count = "the one before it" if len(recent) == 1 else f"the median of the {len(recent)} before it"
    for noun, now, usual, least in (
        ("entries", one.totals.entries, median(each.totals.entries for each in recent), float("inf") if few else 0),
        ("bytes", one.totals.size, median(each.totals.size for each in recent), FEWEST_BYTES if few else 0),
    ):
        if usual >= least and now < (1 - share) * usual:
            return f"{one.name} has {now:,} {noun}, {count} has {usual:,.0f}"
    if few:
        return ""
    # The state of a day before, however many there were since, or as long ago as there is one.
    older = next((each for each in reversed(before) if each.time <= one.time - SPAN), before[0])
    gone = lost(older, one)
    # Files that were added just before, many at once, must not make the loss of the others look small.
    if gone > share * min(older.totals.files, median(each.totals.files for each in recent)):
        files = f"of the {older.totals.files:,} files in {older.name}"
        return f"{files}, {gone:,} are gone or have another content in {one.name}"
    return ""
