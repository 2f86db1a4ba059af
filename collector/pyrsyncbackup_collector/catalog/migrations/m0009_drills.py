"""Restores that were tried."""

from __future__ import annotations

import sqlite3
from typing import Final

STATEMENTS: Final = (
    """
    CREATE TABLE drills (
        id INTEGER PRIMARY KEY,
        module_id INTEGER NOT NULL REFERENCES modules (id) ON DELETE CASCADE,
        sequence INTEGER NOT NULL,
        time REAL NOT NULL,
        entries INTEGER NOT NULL,
        size INTEGER NOT NULL,
        whole INTEGER NOT NULL,                 -- nothing of the snapshot was left out
        differences INTEGER NOT NULL,           -- entries that did not come back as they are kept
        examples TEXT NOT NULL,                 -- JSON: lines that name some
        validation TEXT NOT NULL,               -- passed, failed, ...; empty: the module names no validator
        said TEXT NOT NULL                      -- JSON: the validator's last lines
    )
    """,
    "CREATE INDEX drills_by_module ON drills (module_id, id)",
)


def up(raw: sqlite3.Connection) -> None:
    """Make the table."""
    for statement in STATEMENTS:
        raw.execute(statement)
