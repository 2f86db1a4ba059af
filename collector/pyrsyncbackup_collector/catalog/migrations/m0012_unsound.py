"""What was found wrong with logs and manifests, and when each module's were read the last time."""

from __future__ import annotations

import sqlite3
from typing import Final

STATEMENTS: Final = (
    # Seconds since 1970; 0: not since they were written.
    "ALTER TABLE modules ADD COLUMN verified REAL NOT NULL DEFAULT 0",
    """
    CREATE TABLE unsound (
        module_id INTEGER NOT NULL REFERENCES modules (id) ON DELETE CASCADE,
        what TEXT NOT NULL,                     -- manifest or log
        name TEXT NOT NULL,                     -- of the manifest's snapshot; '': the log
        kind TEXT NOT NULL,                     -- rotten, tampered or missing
        cause TEXT NOT NULL,
        hint TEXT NOT NULL,
        since REAL NOT NULL,
        snapshots TEXT NOT NULL,                -- the first that are affected, as a JSON list of HOST/MODULE@NAME
        total INTEGER NOT NULL,                 -- how many are
        PRIMARY KEY (module_id, what, name)
    ) WITHOUT ROWID
    """,
)


def up(raw: sqlite3.Connection) -> None:
    """Add them."""
    for statement in STATEMENTS:
        raw.execute(statement)
