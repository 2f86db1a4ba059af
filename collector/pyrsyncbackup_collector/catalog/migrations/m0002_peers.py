"""Hosts that relays offer."""

from __future__ import annotations

import sqlite3
from typing import Final

STATEMENT: Final = """
    CREATE TABLE peers (
        relay TEXT NOT NULL,
        name TEXT NOT NULL,                     -- the relay's name for it
        title TEXT NOT NULL,
        answers INTEGER NOT NULL,
        reason TEXT NOT NULL,                   -- why it does not answer
        seconds REAL NOT NULL,                  -- time of the TCP connection
        seen REAL NOT NULL,                     -- last time that the relay offered it
        refused TEXT NOT NULL DEFAULT '',       -- why it was not taken in by itself
        PRIMARY KEY (relay, name)
    ) WITHOUT ROWID
"""


def up(raw: sqlite3.Connection) -> None:
    """Make the table."""
    raw.execute(STATEMENT)
