"""Requests for other work than pulls."""

from __future__ import annotations

import sqlite3


def up(raw: sqlite3.Connection) -> None:
    """Say of each request what it asks for."""
    raw.execute("ALTER TABLE requests ADD COLUMN kind TEXT NOT NULL DEFAULT 'pull'")
