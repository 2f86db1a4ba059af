"""What is asked of the catalog; every answer is a plain value of `views`, of one moment, and nothing is written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any, Final

from pyrsyncbackup_collector.catalog import views
from pyrsyncbackup_collector.catalog.database import Database
from pyrsyncbackup_collector.catalog.drills import Drills
from pyrsyncbackup_collector.catalog.mirrors import Mirrors
from pyrsyncbackup_collector.catalog.tables import (
    DAEMON_ENDED,
    RUN_ORDER,
    Host,
    Request,
    Run,
)
from pyrsyncbackup_collector.store.snapshot import Snapshot, Totals
from pyrsyncbackup_collector.transport.offer import Hints, Validator

_SNAPSHOT: Final = (
    "snapshots.sequence, snapshots.name, snapshots.time, snapshots.state, base, digest, "
    "entries, files, size, stale, changing, unreadable"
)
_SNAPSHOTS: Final = (
    f"SELECT hosts.name, modules.name, {_SNAPSHOT} FROM snapshots "  # noqa: S608 - a constant
    "JOIN modules ON modules.id = module_id JOIN hosts ON hosts.id = host_id "
    "WHERE hosts.name = ifnull(?, hosts.name) AND modules.name = ifnull(?, modules.name) "
)
_MODULES: Final = (
    "SELECT hosts.name AS host, modules.*, "  # noqa: S608 - a constant
    "(SELECT id FROM runs WHERE runs.end IS NULL AND runs.host = hosts.name AND runs.module = modules.name) AS running,"
    "(SELECT count(*) FROM snapshots WHERE module_id = modules.id) AS count, "
    f"{_SNAPSHOT}, snapshots.name AS snapshot_name, snapshots.state AS snapshot_state "
    "FROM modules JOIN hosts ON hosts.id = host_id LEFT JOIN snapshots ON module_id = modules.id AND sequence = "
    "(SELECT max(sequence) FROM snapshots WHERE module_id = modules.id) "
    "WHERE hosts.name = ifnull(?, hosts.name) AND modules.name = ifnull(?, modules.name) "
    "ORDER BY hosts.name, modules.name"
)
# Chores belong to no host; rowid is the order in which they began.
_LAST_CHORES: Final = (
    "SELECT id FROM runs WHERE rowid IN (SELECT max(rowid) FROM runs WHERE host = '' AND end IS NOT NULL "
    "AND outcome != 'cancelled' AND error_type NOT IN ('NotFound', 'UsageError') GROUP BY kind) ORDER BY kind"
)


class Queries(Drills, Mirrors):
    """The part of the catalog that answers."""

    _database: Database

    def fleet(self) -> views.Fleet:
        """Hosts, modules, open runs and the daemon, of one moment."""
        with self._database.reading():
            return views.Fleet(
                tuple(self.hosts()),
                tuple(self.modules()),
                tuple(self.runs(open_only=True, limit=10_000)),
                self.daemon(),
                tuple(self.chores()),
                tuple(self.drills()),
                tuple(self.mirrors_behind()),
                self.daemon_ended_at(),
            )

    def hosts(self) -> list[views.HostView]:
        """All hosts that were ever asked, by name."""
        with self._database.reading():
            return [_host(row) for row in Host.select().order_by(Host.name).execute(self._database.peewee)]

    def host(self, name: str) -> views.HostView | None:
        """One host; None if it was never asked."""
        with self._database.reading():
            found = Host.select().where(Host.name == name).execute(self._database.peewee)
            return next((_host(row) for row in found), None)

    def peers(self, relay: str | None = None) -> list[views.PeerView]:
        """The hosts that all relays offer, or one, by relay and name."""
        with self._database.reading() as raw:
            found = raw.execute(
                "SELECT relay, name, title, answers, reason, seconds, seen, refused FROM peers "
                "WHERE relay = ifnull(?, relay) ORDER BY relay, name",
                (relay,),
            )
            return [views.PeerView(row[0], row[1], row[2], bool(row[3]), *row[4:]) for row in found]

    def modules(self, host: str | None = None, module: str | None = None) -> list[views.ModuleView]:
        """All modules, or those of a host, or one; by host and name, gone ones included."""
        with self._database.reading() as raw:
            return [_module(row) for row in _named(raw, _MODULES, (host, module))]

    def fingerprints(self, host: str) -> dict[str, bytes]:
        """The remembered fingerprint of each module of a host that has one, and lost none of its contents."""
        with self._database.reading() as raw:
            found = raw.execute(
                "SELECT modules.name, fingerprint FROM memory JOIN modules ON modules.id = module_id "
                "JOIN hosts ON hosts.id = host_id WHERE hosts.name = ? AND fingerprint != x'' "
                "AND memory.module_id NOT IN (SELECT module_id FROM damaged_versions JOIN damaged USING (sha256) "
                "JOIN versions USING (module_id, path, from_seq) WHERE healed IS NULL AND until_seq IS NULL)",
                (host,),
            )
            return dict(found.fetchall())

    def snapshots(self, host: str | None = None, module: str | None = None) -> list[Snapshot]:
        """All snapshots, or those of a host or module; by host and module, oldest first."""
        with self._database.reading() as raw:
            found = raw.execute(_SNAPSHOTS + "ORDER BY hosts.name, modules.name, sequence", (host, module))
            return [_snapshot(*row) for row in found]

    def run(self, run: str) -> views.RunView | None:
        """One run; None if there is none of that id."""
        with self._database.reading():
            return next((_run(row) for row in Run.select().where(Run.id == run).execute(self._database.peewee)), None)

    def run_paths(self, run: str) -> list[tuple[bytes, str]]:
        """The paths with a problem in a run, and their reasons; the first thousand."""
        with self._database.reading() as raw:
            return raw.execute("SELECT path, reason FROM run_paths WHERE run = ? ORDER BY path", (run,)).fetchall()

    def runs(
        self,
        host: str | None = None,
        module: str | None = None,
        *,
        kind: str | None = None,
        trigger: str | None = None,
        open_only: bool = False,
        until: float | None = None,
        limit: int = 100,
    ) -> list[views.RunView]:
        """Runs, newest first; with `until` those that began no later (seconds since 1970)."""
        query = Run.select().order_by(Run.begin.desc(), RUN_ORDER.desc()).limit(limit)
        for field, value in ((Run.host, host), (Run.module, module), (Run.kind, kind), (Run.trigger, trigger)):
            if value is not None:
                query = query.where(field == value)
        if open_only:
            query = query.where(Run.end.is_null())
        if until is not None:
            query = query.where(Run.begin <= until)
        with self._database.reading():
            return [_run(row) for row in query.execute(self._database.peewee)]

    def chores(self) -> list[views.RunView]:
        """The last run of each chore that ended, by name; one that was withdrawn or asked for in vain says nothing."""
        with self._database.reading() as raw:
            found = raw.execute(_LAST_CHORES).fetchall()
            return [run for (last,) in found if (run := self.run(last)) is not None]

    def space(self) -> views.SpaceView:
        """Sums over the store."""
        with self._database.reading() as raw:
            objects = raw.execute(
                "SELECT count(*) FILTER (WHERE part = 0), ifnull(sum(size) FILTER (WHERE part = 0), 0), "
                "ifnull(sum(stored_size), 0) FROM objects"
            ).fetchone()
            snapshots = raw.execute("SELECT count(*) FROM snapshots").fetchone()
        return views.SpaceView(*objects, *snapshots)

    def request_view(self, request: int) -> views.RequestView | None:
        """One request; None if there is none of that number."""
        with self._database.reading():
            found = Request.select().where(Request.id == request).execute(self._database.peewee)
            return next((_request(row) for row in found), None)

    def requests(self) -> list[views.RequestView]:
        """Requests that are not done, oldest first: to be taken, or being worked on."""
        with self._database.reading():
            found = Request.select().where(Request.done.is_null()).order_by(Request.id)
            return [_request(row) for row in found.execute(self._database.peewee)]

    def daemon(self) -> views.DaemonView | None:
        """What the daemon last said of itself; None if it ended in order, or never ran."""
        with self._database.reading() as raw:
            row = raw.execute("SELECT pid, started, heartbeat, sandbox, pulls, workers FROM daemon").fetchone()
            return views.DaemonView(*row) if row else None

    def daemon_ended_at(self) -> float | None:
        """When a daemon last ended in order; None if none ever did. A rebuilt catalog does not know it."""
        with self._database.reading() as raw:
            row = raw.execute("SELECT value FROM meta WHERE key = ?", (DAEMON_ENDED,)).fetchone()
            return float(row[0]) if row else None


def _named(raw: sqlite3.Connection, query: str, values: tuple[Any, ...]) -> Iterable[dict[str, Any]]:
    cursor = raw.execute(query, values)
    names = [column[0] for column in cursor.description]
    for row in cursor:
        # Of two columns with one name the first counts: modules.*, then the snapshot's.
        yield dict(zip(reversed(names), reversed(row), strict=True))


def _snapshot(host: str, module: str, *row: Any) -> Snapshot:
    sequence, name, time, state, base, digest, *totals = row
    return Snapshot(host, module, sequence, name, time, state, base, digest.hex(), Totals(*totals))


def _host(row: Any) -> views.HostView:
    return views.HostView(
        row.name, json.loads(row.agent), row.first_seen, row.last_seen, row.checked, _health(row.__data__)
    )


def _module(row: dict[str, Any]) -> views.ModuleView:
    definition = json.loads(row["definition"])
    hints = definition.get("hints", {})
    newest = None
    if row["sequence"] is not None:
        facts = (row["sequence"], row["snapshot_name"], row["time"], row["snapshot_state"], row["base"], row["digest"])
        totals = (row["entries"], row["files"], row["size"], row["stale"], row["changing"], row["unreadable"])
        newest = _snapshot(row["host"], row["name"], *facts, *totals)
    return views.ModuleView(
        host=row["host"],
        name=row["name"],
        title=row["title"],
        state=row["state"],
        reason=row["reason"],
        paths=tuple(path.encode("utf-8", "surrogateescape") for path in definition.get("paths", ())),
        includes=tuple(definition.get("includes", ())),
        excludes=tuple(definition.get("excludes", ())),
        hints=Hints(hints.get("check"), hints.get("pull"), hints.get("keep", {})),
        validator=_validator(definition.get("validator", {})),
        has_hooks=definition.get("has_hooks", False),
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
        last_run=row["last_run"],
        last_pull=row["last_pull"],
        last_good=row["last_good"],
        last_listed=row["last_listed"],
        running=row["running"] or "",
        snapshots=row["count"],
        newest=newest,
        health=_health(row),
        frozen=row["frozen"],
        frozen_why=row["frozen_why"],
    )


def _validator(recorded: dict[str, list[str]]) -> Validator:
    command, beside, directories = (tuple(recorded.get(key, ())) for key in ("command", "beside", "directories"))
    return Validator(command, beside, directories)


def _health(row: dict[str, Any]) -> views.Health:
    return views.Health(row["outcome"], row["failing_since"], row["failures"], _failure(row), row["next_try"])


def _failure(row: dict[str, Any]) -> views.Failure | None:
    if not row["error_type"]:
        return None
    return views.Failure(row["error_type"], row["cause"], row["hint"], bool(row["retryable"]))


def _run(row: Any) -> views.RunView:
    values = dict(row.__data__)
    failure = _failure(values)
    for name in ("error_type", "cause", "hint", "retryable"):
        del values[name]
    return views.RunView(**values | {"failure": failure, "counters": json.loads(values["counters"])})


def _request(row: Any) -> views.RequestView:
    parsed = {
        "options": json.loads(row.options),
        "result": json.loads(row.result),
        "runs": tuple(json.loads(row.runs)),
    }
    return views.RequestView(**row.__data__ | parsed)
