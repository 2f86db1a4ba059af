"""What a restore did, and what it could not do, said so that one line serves for a thousand entries of a kind."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pyrsyncbackup_collector.entry import DIRECTORY, Entry, printable

# Enough to see which ones; the count is exact.
MAX_EXAMPLES = 100
_SHOWN = 3


class Reason(enum.Enum):
    """Why an entry is not as it was on the host; `missing` where it, or its content, is not there at all."""

    EXISTS = ("already there, kept as before", True)
    DAMAGED = ("no sound content in the store", True)
    NEVER_READ = ("could not be read for the backup", True)
    FAILED = ("could not be made", True)
    BELOW = ("below a directory that could not be made", True)
    UNSOUND = ("read back from the target it differs", True)
    STALE = ("of an earlier backup, could not be read for this one", False)
    CHANGING = ("changed while it was read for the backup, content and time may not belong together", False)
    DIRECTORY_KEPT = ("directory already there, keeps its owner, mode and time", False)
    SPECIAL = ("restored only with --special", False)
    OWNER = ("of another user or group, which only root can give", False)
    ATTRIBUTE = ("without an attribute", False)
    NOT_BY_AGENT = ("without what an agent, which is not root, cannot give", False)
    LINK = ("a file of its own instead of a hard link", False)
    CANNOT_HOLD = ("left out, the archive cannot hold it", True)
    REPLACED = ("replaced what was there", False)
    SAME = ("there already, just as backed up", False)

    def __init__(self, text: str, missing: bool) -> None:
        self.text = text
        self.missing = missing


@dataclass(frozen=True, slots=True)
class Shortfall:
    """All entries with one reason and one particular (`what`, as "set-id bits" or "xattr user.x: not supported").

    `examples` are the first ones: path, and what the host had said about it.
    """

    reason: Reason
    what: str
    count: int
    examples: tuple[tuple[bytes, str], ...]

    def line(self) -> str:
        """One line for a person, safe for a terminal."""
        more = ", ..." if self.count > _SHOWN else ""
        return f"{self.head()}: {', '.join(self.shown())}{more}"

    def head(self) -> str:
        """How many, and why."""
        what = f" ({printable(self.what)})" if self.what else ""
        noun = "entry" if self.count == 1 else "entries"
        return f"{self.count:,} {noun}: {self.reason.text}{what}"

    def shown(self) -> list[str]:
        """The first few of them, with what the host had said."""
        return [
            printable(path) + (f" [{printable(detail)}]" if detail else "") for path, detail in self.examples[:_SHOWN]
        ]


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What is in the target now: entries by type, bytes of content, and every shortfall, the gravest first."""

    target: Path
    counts: dict[str, int]
    size: int
    shortfalls: tuple[Shortfall, ...]
    # Files that were read back from the disk, and names that were removed from a mirror.
    checked: int = 0
    removed: int = 0

    @property
    def same(self) -> int:
        """Entries that were there already, just as in the snapshot."""
        return sum(shortfall.count for shortfall in self.shortfalls if shortfall.reason is Reason.SAME)

    @property
    def entries(self) -> int:
        """Entries restored."""
        return sum(self.counts.values())

    @property
    def complete(self) -> bool:
        """Every entry is there with its content; owners or attributes may still lack."""
        return not any(shortfall.reason.missing for shortfall in self.shortfalls)

    def lines(self) -> list[str]:
        """One line for each shortfall."""
        return [shortfall.line() for shortfall in self.shortfalls]


@dataclass(slots=True)
class Tally:
    """Collects while a restore runs."""

    counts: Counter[str] = field(default_factory=Counter)
    size: int = 0
    checked: int = 0
    removed: int = 0
    _count: Counter[tuple[Reason, str]] = field(default_factory=Counter)
    _examples: dict[tuple[Reason, str], list[tuple[bytes, str]]] = field(default_factory=dict)

    def note(self, path: bytes, reason: Reason, what: str = "", detail: str = "") -> None:
        """Record one entry's shortfall; `what` must come from a small vocabulary, `detail` may be the host's words."""
        key = (reason, what)
        self._count[key] += 1
        examples = self._examples.setdefault(key, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append((path, detail))

    def note_state(self, entry: Entry) -> None:
        """What the reader of this entry should know of how it was backed up."""
        if entry.stale:
            self.note(entry.path, Reason.STALE, detail=entry.error)
        elif entry.changing:
            self.note(entry.path, Reason.CHANGING)
        elif entry.error:
            self.note(entry.path, Reason.NEVER_READ, "its content" if entry.type == DIRECTORY else "", entry.error)

    def report(self, target: Path) -> RestoreReport:
        """The totals so far."""
        rank = {reason: number for number, reason in enumerate(Reason)}
        keys = sorted(self._count, key=lambda key: (rank[key[0]], key[1]))
        shortfalls = tuple(Shortfall(*key, self._count[key], tuple(self._examples[key])) for key in keys)
        return RestoreReport(target, dict(self.counts), self.size, shortfalls, self.checked, self.removed)
