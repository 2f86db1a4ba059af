"""Indices for questions over hosts and time, and a number for what has no column.

Both indices of versions leave out what most rows are: there since the first snapshot, and current. A row that changed
costs its path twice more, one that never did nothing.
"""

from __future__ import annotations

import sqlite3
from typing import Final

STATEMENTS: Final = (
    # See `rest`: 0 for what belongs to root and has nothing else.
    "ALTER TABLE versions ADD COLUMN rest INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX versions_begun ON versions (module_id, from_seq) WHERE from_seq > 1",
    "CREATE INDEX versions_ended ON versions (module_id, until_seq) WHERE until_seq IS NOT NULL",
    "CREATE INDEX snapshots_by_time ON snapshots (time)",
)


def up(raw: sqlite3.Connection) -> None:
    """Add column and indices."""
    for statement in STATEMENTS:
        raw.execute(statement)
