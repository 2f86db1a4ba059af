"""What was found damaged, when each object was read the last time, and a note on a run."""

from __future__ import annotations

import sqlite3
from typing import Final

STATEMENTS: Final = (
    # Seconds since 1970; 0: not since it was written.
    "ALTER TABLE objects ADD COLUMN verified REAL NOT NULL DEFAULT 0",
    "CREATE INDEX objects_by_verified ON objects (verified)",
    """
    CREATE TABLE damaged (
        sha256 BLOB PRIMARY KEY,
        since REAL NOT NULL,
        kind TEXT NOT NULL,                     -- rotten or missing
        cause TEXT NOT NULL,
        healed REAL                             -- when its content came again; NULL: not yet
    ) WITHOUT ROWID
    """,
    "CREATE INDEX damaged_open ON damaged (sha256) WHERE healed IS NULL",
    # The rows of versions whose content needs it, so that nobody has to look through all for them.
    """
    CREATE TABLE damaged_versions (
        module_id INTEGER NOT NULL REFERENCES modules (id) ON DELETE CASCADE,
        sha256 BLOB NOT NULL REFERENCES damaged (sha256) ON DELETE CASCADE,
        path BLOB NOT NULL,
        from_seq INTEGER NOT NULL,
        PRIMARY KEY (module_id, sha256, path, from_seq)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX damaged_versions_by_object ON damaged_versions (sha256)",
    "ALTER TABLE runs ADD COLUMN note TEXT NOT NULL DEFAULT ''",
)


def up(raw: sqlite3.Connection) -> None:
    """Add them."""
    for statement in STATEMENTS:
        raw.execute(statement)
