"""Numbered steps from each schema to the next; a step is never changed once released.

A step sees the plain connection, not `tables`: the models describe today's schema, a step that of its own time. Each
runs in one transaction together with the new number, so a crash leaves the old schema or the new one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Final

from pyrsyncbackup_collector.catalog.database import Database
from pyrsyncbackup_collector.catalog.migrations import (
    m0001_first,
    m0002_peers,
    m0003_chores,
    m0004_retention,
    m0005_garbage,
    m0006_chunks,
    m0007_verify,
    m0008_finding,
    m0009_drills,
    m0010_copies,
    m0011_workers,
    m0012_unsound,
)
from pyrsyncbackup_collector.errors import CatalogMismatch

Step = Callable[[sqlite3.Connection], None]

STEPS: Final[Mapping[int, Step]] = {
    1: m0001_first.up,
    2: m0002_peers.up,
    3: m0003_chores.up,
    4: m0004_retention.up,
    5: m0005_garbage.up,
    6: m0006_chunks.up,
    7: m0007_verify.up,
    8: m0008_finding.up,
    9: m0009_drills.up,
    10: m0010_copies.up,
    11: m0011_workers.up,
    12: m0012_unsound.up,
}


def latest(steps: Mapping[int, Step] = STEPS) -> int:
    """The schema version that this program knows."""
    return max(steps)


def version(database: Database) -> int:
    """The schema version of an open database; 0 for an empty one."""
    with database.reading() as raw:
        if raw.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is None:
            return 0
        row = raw.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
        return int(row[0]) if row else 0


def migrate(database: Database, steps: Mapping[int, Step] = STEPS) -> int:
    """Bring the schema up to date; return the number of steps done. Raises CatalogMismatch if it is from the future."""
    present = version(database)
    if present > latest(steps):
        raise CatalogMismatch(
            f"the catalog {database.path} has schema {present}, this program knows up to {latest(steps)}",
            "it was used by a newer pyrsyncbackup: install that one",
        )
    todo = [number for number in sorted(steps) if number > present]
    for number in todo:
        with database.writing() as raw:
            if version(database) >= number:
                continue  # another process was quicker
            steps[number](raw)
            raw.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('schema_version', ?)", (str(number),))
    return len(todo)
