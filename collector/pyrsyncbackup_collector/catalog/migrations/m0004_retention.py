"""What is kept, and why: versions that can be told to be equal, modules whose retention is frozen."""

from __future__ import annotations

import sqlite3
from typing import Final

STATEMENTS: Final = (
    # See `rest.mark`: 0 for what has nothing that is unusual. Rows from before keep -1, which is equal to none
    # (`pruning.UNKNOWN`).
    "ALTER TABLE versions ADD COLUMN mark INTEGER NOT NULL DEFAULT -1",
    "ALTER TABLE modules ADD COLUMN frozen REAL",  # since when; NULL: it is not
    "ALTER TABLE modules ADD COLUMN frozen_why TEXT NOT NULL DEFAULT ''",
    # The highest snapshot that was looked at for a sudden change, and was none or was accepted.
    "ALTER TABLE modules ADD COLUMN judged INTEGER NOT NULL DEFAULT 0",
    # The snapshot that an administrator said is as it should be: only later ones are compared, with it and later ones.
    "ALTER TABLE modules ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0",
)


def up(raw: sqlite3.Connection) -> None:
    """Add it."""
    for statement in STATEMENTS:
        raw.execute(statement)
