"""What is told about a pull: plain values for the catalog, the terminal and the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.store.snapshot import Problem, Snapshot

# Paths that are named in a report, and bytes of their names and reasons; what is beyond is counted. They stand in one
# line of the manifest.
MAX_PROBLEMS = 1000
MAX_PROBLEM_BYTES = 256 << 10


# The phase of a pull whose connection was cut, until the next attempt.
RECONNECT = "reconnect"


class Outcome(Enum):
    """How a pull ended. A failed one is an exception, recorded by whoever started it."""

    UNCHANGED = "unchanged"
    COMPLETE = "complete"
    PARTIAL = "partial"


@dataclass(slots=True)
class Counts:
    """Entries by what became of them; bytes of content that came over the wire or did not need to."""

    same: int = 0
    added: int = 0
    modified: int = 0
    metadata: int = 0
    removed: int = 0
    stale: int = 0
    changing: int = 0
    unreadable: int = 0
    vanished: int = 0
    sent_files: int = 0
    sent_bytes: int = 0
    claimed_files: int = 0
    claimed_bytes: int = 0
    # Bytes of rsync's stream from the agent.
    wire_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PullReport:
    """The result of a pull that ended.

    `snapshot` is None if nothing changed, `rsync` quotes runs with complaints, `note` is what else is worth a word.
    """

    outcome: Outcome
    snapshot: Snapshot | None
    counts: Counts
    problems: tuple[Problem, ...] = ()
    problems_total: int = 0
    rsync: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """One line of a dry run: what is known of a path before its content was looked at. `kind` as in `diff`."""

    path: bytes
    kind: str
    entry: Entry | None
    before: Entry | None
    transfer: bool


@dataclass(slots=True)
class Progress:
    """Where a pull is. Totals are 0 until the listing is complete."""

    phase: str = "connect"
    files_done: int = 0
    files_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    entries: int = 0
    # Of rsync's streams: what is done comes in leaps of whole windows, this grows while they travel.
    bytes_received: int = 0
    # Contents that are in the store now and were not before.
    recorded: int = 0

    @property
    def bytes_seen(self) -> int:
        """Bytes done or at least received, as a bar shows them."""
        return max(self.bytes_done, min(self.bytes_received, self.bytes_total))


class Watcher(Protocol):
    """Told about progress; called often, from several threads; must be quick."""

    def __call__(self, progress: Progress) -> None:
        """The present state; the same object each time."""
        ...


@dataclass(slots=True)
class Problems:
    """Collects problems up to a limit and counts the rest."""

    listed: list[Problem] = field(default_factory=list)
    total: int = 0
    _bytes: int = 0

    def add(self, path: bytes, entry: Entry | None, reason: str) -> None:
        """One more: a path that is not in the snapshot as it is on the host; `entry` is what the snapshot has."""
        self.total += 1
        self._bytes += len(path) + len(reason)
        if len(self.listed) >= MAX_PROBLEMS or self._bytes > MAX_PROBLEM_BYTES:
            return
        kind = (
            "vanished" if entry is None else "changing" if entry.changing else "stale" if entry.stale else "unreadable"
        )
        self.listed.append(Problem(path, kind, reason))
