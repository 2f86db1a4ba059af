"""Requests for other work than pulls, and runs of mirrors."""

from __future__ import annotations

import sqlite3


def up(raw: sqlite3.Connection) -> None:
    """Say of each request what it asks for; find the few runs of mirrors among all others."""
    raw.execute("ALTER TABLE requests ADD COLUMN kind TEXT NOT NULL DEFAULT 'pull'")
    raw.execute("CREATE INDEX runs_of_mirrors ON runs (host, module) WHERE kind = 'mirror'")
