"""What nothing names any more.

`unnamed_since` is when garbage collection first saw that nothing names an object; NULL while something does. The index
over versions answers "what names this content" for garbage, space and comparison; that over pins makes a deletion see
each pin at once.
"""

from __future__ import annotations

import sqlite3
from typing import Final

STATEMENTS: Final = (
    "ALTER TABLE objects ADD COLUMN unnamed_since REAL",
    "CREATE INDEX objects_unnamed ON objects (unnamed_since) WHERE unnamed_since IS NOT NULL",
    "CREATE INDEX versions_by_content ON versions (sha256) WHERE sha256 IS NOT NULL",
    "CREATE INDEX pins_by_content ON pins (sha256)",
)


def up(raw: sqlite3.Connection) -> None:
    """Add the mark and the indices."""
    for statement in STATEMENTS:
        raw.execute(statement)
