"""The present schema as peewee models, for queries row by row.

`migrations` makes the tables; a test holds both together. The models are bound to no database: each query is executed
on the catalog that it is for. Tables that are written by the ten thousand (versions, objects, sent, pins) have no
model: `ledger` speaks SQL to them, since peewee costs more per row than SQLite does.
"""

from __future__ import annotations

from typing import Final

from peewee import SQL, BlobField, FloatField, IntegerField, Model, TextField

# The row of `meta` that says when a daemon last ended in order, in seconds since 1970.
DAEMON_ENDED: Final = "daemon_ended"


class Host(Model):
    """A host: what its agent said of itself, and how the last check went."""

    id = IntegerField(primary_key=True)
    name = TextField(unique=True)
    agent = TextField(default="{}")
    first_seen = FloatField(null=True)
    last_seen = FloatField(null=True)
    checked = FloatField(null=True)
    outcome = TextField(default="")
    failing_since = FloatField(null=True)
    failures = IntegerField(default=0)
    error_type = TextField(default="")
    cause = TextField(default="")
    hint = TextField(default="")
    retryable = IntegerField(default=0)
    next_try = FloatField(null=True)

    class Meta:  # noqa: D106
        table_name = "hosts"


class Module(Model):
    """A module of a host: what is offered, and how its pulls go."""

    id = IntegerField(primary_key=True)
    host_id = IntegerField()
    name = TextField()
    title = TextField(default="")
    state = TextField(default="unknown")
    reason = TextField(default="")
    definition = TextField(default="{}")
    first_seen = FloatField(null=True)
    last_seen = FloatField(null=True)
    last_run = TextField(default="")
    outcome = TextField(default="")
    last_pull = FloatField(null=True)
    last_good = FloatField(null=True)
    last_listed = FloatField(null=True)
    failing_since = FloatField(null=True)
    failures = IntegerField(default=0)
    error_type = TextField(default="")
    cause = TextField(default="")
    hint = TextField(default="")
    retryable = IntegerField(default=0)
    next_try = FloatField(null=True)
    frozen = FloatField(null=True)
    frozen_why = TextField(default="")
    judged = IntegerField(default=0)
    accepted = IntegerField(default=0)
    verified = FloatField(default=0)

    class Meta:  # noqa: D106
        table_name = "modules"


class Run(Model):
    """A pull, a chore, or a row of checks of one host that ended alike."""

    id = TextField(primary_key=True)
    host = TextField()
    module = TextField(default="")
    kind = TextField()
    trigger = TextField(default="")
    begin = FloatField()
    end = FloatField(null=True)
    repeats = IntegerField(default=1)
    phase = TextField(default="")
    outcome = TextField(default="")
    sequence = IntegerField(null=True)
    error_type = TextField(default="")
    cause = TextField(default="")
    hint = TextField(default="")
    retryable = IntegerField(default=0)
    rsync_code = IntegerField(null=True)
    rsync_tail = TextField(default="")
    counters = TextField(default="{}")
    files_done = IntegerField(default=0)
    files_total = IntegerField(default=0)
    bytes_done = IntegerField(default=0)
    bytes_total = IntegerField(default=0)
    problems = IntegerField(default=0)
    note = TextField(default="")

    class Meta:  # noqa: D106
        table_name = "runs"


class Snapshot(Model):
    """A manifest in the store."""

    module_id = IntegerField()
    sequence = IntegerField()
    name = TextField()
    time = FloatField()
    state = TextField()
    base = TextField(null=True)
    digest = BlobField()
    entries = IntegerField()
    files = IntegerField()
    size = IntegerField()
    stale = IntegerField()
    changing = IntegerField()
    unreadable = IntegerField()

    class Meta:  # noqa: D106
        table_name = "snapshots"
        primary_key = False


class Request(Model):
    """Something that a command asks of the daemon."""

    id = IntegerField(primary_key=True)
    host = TextField()
    module = TextField(default="")
    options = TextField(default="{}")
    created = FloatField()
    taken = FloatField(null=True)
    done = FloatField(null=True)
    cancelled = FloatField(null=True)
    runs = TextField(default="[]")
    result = TextField(default="{}")
    kind = TextField(default="pull")

    class Meta:  # noqa: D106
        table_name = "requests"


# The order of insertion: tells runs apart that began in one moment, or while the clock ran backwards.
RUN_ORDER: Final = SQL("rowid")

# Bits of versions.flags.
PUBLIC: Final = 1
CLAIMED: Final = 2
STALE: Final = 4
CHANGING: Final = 8
UNREADABLE: Final = 16
