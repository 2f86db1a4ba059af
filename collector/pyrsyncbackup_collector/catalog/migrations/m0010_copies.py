"""Second copies."""

from __future__ import annotations

import sqlite3
from typing import Final

STATEMENT: Final = """
    CREATE TABLE copies (
        name TEXT PRIMARY KEY,
        place TEXT NOT NULL,
        tried REAL NOT NULL,                    -- when the last round began
        good REAL,                              -- when the last round began that brought all there was
        failing_since REAL,
        error_type TEXT NOT NULL DEFAULT '',
        cause TEXT NOT NULL DEFAULT '',
        hint TEXT NOT NULL DEFAULT '',
        retryable INTEGER NOT NULL DEFAULT 0,
        document TEXT NOT NULL DEFAULT '{}'     -- what the last round that ended did
    ) WITHOUT ROWID
"""


def up(raw: sqlite3.Connection) -> None:
    """Make the table."""
    raw.execute(STATEMENT)
