"""Indices for questions over hosts and time."""

from __future__ import annotations

import sqlite3


def up(raw: sqlite3.Connection) -> None:
    """Add it."""
