"""The first schema."""

from __future__ import annotations

import sqlite3
from typing import Final

# One statement each. Times are seconds since 1970; digests are 32 bytes; paths are bytes, relative to "/".
STATEMENTS: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE hosts (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        agent TEXT NOT NULL DEFAULT '{}',       -- JSON: what GetInfo said
        first_seen REAL,
        last_seen REAL,                         -- last check that worked
        checked REAL,                           -- last check at all
        outcome TEXT NOT NULL DEFAULT '',
        failing_since REAL,
        failures INTEGER NOT NULL DEFAULT 0,
        error_type TEXT NOT NULL DEFAULT '',
        cause TEXT NOT NULL DEFAULT '',
        hint TEXT NOT NULL DEFAULT '',
        retryable INTEGER NOT NULL DEFAULT 0,
        next_try REAL
    )
    """,
    """
    CREATE TABLE modules (
        id INTEGER PRIMARY KEY,
        host_id INTEGER NOT NULL REFERENCES hosts (id),
        name TEXT NOT NULL,
        title TEXT NOT NULL DEFAULT '',
        state TEXT NOT NULL DEFAULT 'unknown',
        reason TEXT NOT NULL DEFAULT '',
        definition TEXT NOT NULL DEFAULT '{}',  -- JSON: paths, rules, hints, hooks
        first_seen REAL,
        last_seen REAL,
        last_run TEXT NOT NULL DEFAULT '',      -- last pull that ended
        outcome TEXT NOT NULL DEFAULT '',
        last_pull REAL,                         -- end of the last pull, whatever came of it
        last_good REAL,                         -- last time that all of it was known to be in the store
        last_listed REAL,                       -- begin of the last good pull that listed it in full
        failing_since REAL,
        failures INTEGER NOT NULL DEFAULT 0,
        error_type TEXT NOT NULL DEFAULT '',
        cause TEXT NOT NULL DEFAULT '',
        hint TEXT NOT NULL DEFAULT '',
        retryable INTEGER NOT NULL DEFAULT 0,
        next_try REAL,
        UNIQUE (host_id, name)
    )
    """,
    """
    CREATE TABLE memory (
        module_id INTEGER PRIMARY KEY REFERENCES modules (id),
        sequence INTEGER NOT NULL,
        fingerprint BLOB NOT NULL,
        tokens BLOB NOT NULL
    )
    """,
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        host TEXT NOT NULL,
        module TEXT NOT NULL DEFAULT '',        -- empty for a check
        kind TEXT NOT NULL,
        trigger TEXT NOT NULL DEFAULT '',
        begin REAL NOT NULL,
        end REAL,
        repeats INTEGER NOT NULL DEFAULT 1,     -- checks that ended alike, in a row
        phase TEXT NOT NULL DEFAULT '',
        outcome TEXT NOT NULL DEFAULT '',
        sequence INTEGER,
        error_type TEXT NOT NULL DEFAULT '',
        cause TEXT NOT NULL DEFAULT '',
        hint TEXT NOT NULL DEFAULT '',
        retryable INTEGER NOT NULL DEFAULT 0,
        rsync_code INTEGER,
        rsync_tail TEXT NOT NULL DEFAULT '',
        counters TEXT NOT NULL DEFAULT '{}',
        files_done INTEGER NOT NULL DEFAULT 0,
        files_total INTEGER NOT NULL DEFAULT 0,
        bytes_done INTEGER NOT NULL DEFAULT 0,
        bytes_total INTEGER NOT NULL DEFAULT 0,
        problems INTEGER NOT NULL DEFAULT 0     -- paths with a problem, also those that run_paths has no room for
    )
    """,
    "CREATE INDEX runs_by_module ON runs (host, module, begin)",
    "CREATE INDEX runs_by_begin ON runs (begin)",
    "CREATE INDEX runs_open ON runs (id) WHERE end IS NULL",
    """
    CREATE TABLE run_paths (
        run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        path BLOB NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (run, path, reason)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE snapshots (
        module_id INTEGER NOT NULL REFERENCES modules (id),
        sequence INTEGER NOT NULL,
        name TEXT NOT NULL,
        time REAL NOT NULL,
        state TEXT NOT NULL,
        base TEXT,
        digest BLOB NOT NULL,
        entries INTEGER NOT NULL,
        files INTEGER NOT NULL,
        size INTEGER NOT NULL,
        stale INTEGER NOT NULL,
        changing INTEGER NOT NULL,
        unreadable INTEGER NOT NULL,
        PRIMARY KEY (module_id, sequence)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE versions (
        module_id INTEGER NOT NULL REFERENCES modules (id),
        path BLOB NOT NULL,
        from_seq INTEGER NOT NULL,
        until_seq INTEGER,                      -- first snapshot without it; NULL while current
        type TEXT NOT NULL,
        mode INTEGER NOT NULL,
        size INTEGER NOT NULL,
        mtime_s INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        sha256 BLOB,
        flags INTEGER NOT NULL,
        PRIMARY KEY (module_id, path, from_seq)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE objects (
        sha256 BLOB PRIMARY KEY,
        size INTEGER NOT NULL,
        stored_size INTEGER NOT NULL,
        public INTEGER NOT NULL,                -- a host that sent it said that anyone there may read it
        last_used REAL NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX objects_public_size ON objects (size) WHERE public = 1",
    """
    CREATE TABLE sent (
        host_id INTEGER NOT NULL REFERENCES hosts (id),
        size INTEGER NOT NULL,
        sha256 BLOB NOT NULL,
        PRIMARY KEY (host_id, size, sha256)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE pins (
        pull TEXT NOT NULL,
        sha256 BLOB NOT NULL,
        PRIMARY KEY (pull, sha256)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE requests (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        host TEXT NOT NULL,
        module TEXT NOT NULL,                   -- empty: all of the host
        options TEXT NOT NULL DEFAULT '{}',
        created REAL NOT NULL,
        taken REAL,
        done REAL,
        cancelled REAL,
        runs TEXT NOT NULL DEFAULT '[]',
        result TEXT NOT NULL DEFAULT '{}'
    )
    """,
    "CREATE INDEX requests_open ON requests (id) WHERE done IS NULL",
    """
    CREATE TABLE daemon (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        pid INTEGER NOT NULL,
        started REAL NOT NULL,
        heartbeat REAL NOT NULL,
        sandbox TEXT NOT NULL
    )
    """,
)


def up(raw: sqlite3.Connection) -> None:
    """Create everything."""
    for statement in STATEMENTS:
        raw.execute(statement)
