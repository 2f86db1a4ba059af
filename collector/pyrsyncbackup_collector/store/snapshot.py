"""Snapshots as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from pyrsyncbackup_collector.entry import Entry

COMPLETE = "complete"
PARTIAL = "partial"
# Its manifest cannot be read: it keeps its place in the order, what it held is not known.
DAMAGED = "damaged"


class Change(msgspec.Struct, frozen=True, gc=False):
    """One path that differs from the snapshot before: its new entry, or None if it is gone."""

    path: bytes
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts of a whole snapshot; sizes in bytes."""

    entries: int = 0
    files: int = 0
    size: int = 0
    stale: int = 0
    changing: int = 0
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """A path that was not read as it should have been: `kind` as "denied", "vanished", "changing"; why in words."""

    path: bytes
    kind: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a manifest's header keeps beside the entries: how the module was defined, and what went wrong.

    `roots` are paths relative to "/", `aliases` pairs of (path as defined, root that it stands for).
    Without `share` no other host may claim what was sent for this snapshot, public or not.
    """

    title: str = ""
    roots: tuple[bytes, ...] = ()
    aliases: tuple[tuple[bytes, bytes], ...] = ()
    excludes: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    share: bool = True


@dataclass(frozen=True, slots=True)
class Recorded:
    """A manifest as log and directory name it, without a look inside; `digest` is the SHA-256 of the file."""

    host: str
    module: str
    sequence: int
    name: str
    kind: str
    digest: str

    @property
    def file_name(self) -> str:
        """The name in the module's directory."""
        return f"{self.name}.{self.kind}.zst"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One committed snapshot.

    `name` is the manifest file's stem, as "000123-2026-11-22T214903Z"; `state` is "complete" or "partial"; `time` is
    the collector's, seconds since 1970; `base` names the full manifest that a delta refers to; `digest` is the SHA-256
    of the manifest file, hexadecimal.
    """

    host: str
    module: str
    sequence: int
    name: str
    time: float
    state: str
    base: str | None
    digest: str
    totals: Totals

    @property
    def kind(self) -> str:
        """That of its manifest: "full" or "delta"."""
        return "full" if self.base is None else "delta"


def damaged(recorded: Recorded) -> Snapshot:
    """What stands for a snapshot whose manifest cannot be read: all that its name and the log say.

    The base of a delta is "", for it is not known.
    """
    try:
        written = datetime.strptime(recorded.name.partition("-")[2], "%Y-%m-%dT%H%M%SZ")
        time = written.replace(tzinfo=UTC).timestamp()
    except ValueError:
        time = 0.0
    base = None if recorded.kind == "full" else ""
    return Snapshot(
        recorded.host, recorded.module, recorded.sequence, recorded.name, time, DAMAGED, base, recorded.digest, Totals()
    )
