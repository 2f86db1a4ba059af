"""Snapshots as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from pyrsyncbackup_collector.entry import Entry


@dataclass(frozen=True, slots=True)
class Change:
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
