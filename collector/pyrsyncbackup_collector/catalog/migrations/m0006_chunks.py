"""Large contents as lists of chunks."""

from __future__ import annotations

import sqlite3


def up(raw: sqlite3.Connection) -> None:
    """Add it."""
