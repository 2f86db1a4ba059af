"""Large contents as lists of chunks.

A content in chunks has a row in `objects` without a file of its own (`stored_size` 0): its `chunks` names the object
that lists the chunks, and that list's rows in `chunks` name the chunk objects. List and chunks have rows in `objects`
with `part` 1 as long as nobody sent them as contents; a row can be both. A content may have been cut in several ways,
and kept manifests name any of its lists: `lists` has all of them, `objects.chunks` the one that new entries name. So
what is live is found from the contents downwards: a list is while `lists` names it with a content that is, a chunk
while `chunks` names it with a list that is. A pin on a content keeps its lists and their chunks; a pull also pins each
chunk that it relies on.
"""

from __future__ import annotations

import sqlite3
from typing import Final

STATEMENTS: Final = (
    "ALTER TABLE objects ADD COLUMN chunks BLOB",
    "ALTER TABLE objects ADD COLUMN part INTEGER NOT NULL DEFAULT 0",
    """
    CREATE TABLE lists (
        content BLOB NOT NULL,
        list BLOB NOT NULL,                     -- digest of an object that lists the content's chunks
        PRIMARY KEY (content, list)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX lists_by_list ON lists (list)",
    """
    CREATE TABLE chunks (
        content BLOB NOT NULL,                  -- digest of the object that lists the chunks: lists.list
        chunk BLOB NOT NULL,
        PRIMARY KEY (content, chunk)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX chunks_by_chunk ON chunks (chunk)",
)


def up(raw: sqlite3.Connection) -> None:
    """Add lists and chunks."""
    for statement in STATEMENTS:
        raw.execute(statement)
