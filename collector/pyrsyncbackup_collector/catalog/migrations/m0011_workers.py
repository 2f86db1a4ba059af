"""What the daemon says of its workers."""

from __future__ import annotations

import sqlite3


def up(raw: sqlite3.Connection) -> None:
    """How many pulls run, and how many may."""
    raw.execute("ALTER TABLE daemon ADD COLUMN pulls INTEGER NOT NULL DEFAULT 0")
    raw.execute("ALTER TABLE daemon ADD COLUMN workers INTEGER NOT NULL DEFAULT 0")
