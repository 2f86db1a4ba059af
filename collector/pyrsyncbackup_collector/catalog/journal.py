"""What happened, written down: offers seen, checks, runs with their progress and end, requests to the daemon.

A failure is data: it is recorded with its type, cause and hint, on the run and on the host or module it concerns. Each
method is one short transaction. Text that came from hosts is stored as it is; whoever shows it makes it printable.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from pyrsyncbackup_collector.catalog.database import Database
from pyrsyncbackup_collector.catalog.ledger import host_row, module_row
from pyrsyncbackup_collector.catalog.tables import DAEMON_ENDED, RUN_ORDER, Host, Module, Request, Run
from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.errors import BackupError
from pyrsyncbackup_collector.transport.offer import AgentInfo, ModuleOffer, ModuleState, Peer

UNCHANGED: Final = "unchanged"
COMPLETE: Final = "complete"
PARTIAL: Final = "partial"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

CHECK: Final = "check"
PULL: Final = "pull"

# A module that was offered once and is no more; its snapshots stay.
GONE: Final = "gone"

# Enough to see the pattern; the snapshot itself marks every path.
MAX_PATHS: Final = 1000
# What is shown of rsync's last lines and of a cause, in characters.
MAX_TEXT: Final = 8000


class Journal:
    """The part of the catalog that records what happens."""

    _database: Database
    _clock: Clock

    def seen(self, host: str, offers: Sequence[ModuleOffer], info: AgentInfo | None = None) -> None:
        """Record what a host offers now, all of it; modules that were offered before and are not now become `gone`."""
        now = self._clock.now()
        db = self._database.peewee
        with self._database.writing() as raw:
            host_id = host_row(raw, host)
            changed: dict[str, Any] = {"last_seen": now}
            if info is not None:
                changed["agent"] = _info_json(info)
            Host.update(changed).where(Host.id == host_id).execute(db)
            Host.update(first_seen=now).where((Host.id == host_id) & Host.first_seen.is_null()).execute(db)
            for offer in offers:
                _offer(db, module_row(raw, host, offer.name), offer, now)
            names = [offer.name for offer in offers]
            Module.update(state=GONE, reason="the host offers it no more").where(
                (Module.host_id == host_id) & Module.name.not_in(names) & (Module.state != GONE)
            ).execute(db)

    def peers_seen(self, relay: str, peers: Sequence[Peer], refused: Mapping[str, str]) -> None:
        """Record the peers that a relay offers now, all of them, and why some were not taken in by themselves."""
        now = self._clock.now()
        with self._database.writing() as raw:
            raw.execute("DELETE FROM peers WHERE relay = ?", (relay,))
            raw.executemany(
                "INSERT INTO peers VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        *(relay, peer.name, _text(peer.title), int(peer.answers), _text(peer.reason)),
                        *(peer.seconds, now, _text(refused.get(peer.name, "")[:MAX_TEXT])),
                    )
                    for peer in peers
                ],
            )

    def check_done(
        self,
        host: str,
        *,
        begin: float,
        unchanged: Iterable[str] = (),
        error: BackupError | None = None,
        next_try: float | None = None,
    ) -> None:
        """Record a check of a host: `unchanged` modules equal what the store has; with `error` it failed.

        Checks that end alike in a row share one row in `runs`, with the first begin, the last end, and their number.
        """
        now = self._clock.now()
        db = self._database.peewee
        with self._database.writing() as raw:
            host_id = host_row(raw, host)
            _outcome(db, Host, host_id, UNCHANGED if error is None else FAILED, error, now, next_try)
            Host.update(checked=now).where(Host.id == host_id).execute(db)
            if error is None:
                # It answered, and still offers what it did: whatever else it said, `seen` recorded.
                raw.execute("UPDATE hosts SET last_seen = ? WHERE id = ?", (now, host_id))
                raw.execute("UPDATE modules SET last_seen = ? WHERE host_id = ? AND state <> ?", (now, host_id, GONE))
            names = list(unchanged)
            if names:
                Module.update(last_good=begin).where((Module.host_id == host_id) & Module.name.in_(names)).execute(db)
            self._record_check(host, begin, now, error)

    def _record_check(self, host: str, begin: float, end: float, error: BackupError | None) -> None:
        db = self._database.peewee
        outcome = UNCHANGED if error is None else FAILED
        values = {"end": end, **_failure(error)}
        last = (
            Run.select()
            .where((Run.host == host) & (Run.module == "") & (Run.kind == CHECK))
            .order_by(Run.begin.desc(), RUN_ORDER.desc())
            .limit(1)
        )
        for row in last.execute(db):
            if (row.outcome, row.error_type) == (outcome, values["error_type"]):
                Run.update(values, repeats=Run.repeats + 1).where(Run.id == row.id).execute(db)
                return
        Run.insert(id=run_id(begin), host=host, kind=CHECK, begin=begin, outcome=outcome, **values).execute(db)

    def run_begin(self, host: str, module: str, *, kind: str = PULL, trigger: str = "") -> str:
        """Open a run; returns its id, a valid file name that sorts by time. `trigger`: schedule, command, ..."""
        now = self._clock.now()
        run = run_id(now)
        with self._database.writing():
            Run.insert(id=run, host=host, module=module, kind=kind, trigger=trigger, begin=now).execute(
                self._database.peewee
            )
        return run

    def run_progress(
        self,
        run: str,
        *,
        phase: str,
        files_done: int = 0,
        files_total: int = 0,
        bytes_done: int = 0,
        bytes_total: int = 0,
    ) -> None:
        """Say how far an open run is, for those who follow it; call it a few times a second at most."""
        with self._database.writing():
            Run.update(
                phase=phase,
                files_done=files_done,
                files_total=files_total,
                bytes_done=bytes_done,
                bytes_total=bytes_total,
            ).where((Run.id == run) & Run.end.is_null()).execute(self._database.peewee)

    def run_end(
        self,
        run: str,
        outcome: str,
        *,
        error: BackupError | None = None,
        sequence: int | None = None,
        rsync_code: int | None = None,
        rsync_tail: str = "",
        counters: Mapping[str, int] | None = None,
        problems: Iterable[tuple[bytes, str]] = (),
        next_try: float | None = None,
        note: str = "",
        again: bool = False,
    ) -> None:
        """Close a run with its outcome, and bring the state of its module up to date. A closed one stays as it is.

        With `again` it does not: it was given up, and came to its end after all. `problems` are (path, reason); the
        first thousand are kept, all are counted. `note` is a sentence about it.
        """
        now = self._clock.now()
        db = self._database.peewee
        values = {
            "end": now,
            "outcome": outcome,
            "rsync_code": rsync_code,
            "rsync_tail": _text(rsync_tail[-MAX_TEXT:]),
            "counters": json.dumps(dict(counters or {})),
            "note": _text(note[:MAX_TEXT]),
            **_failure(error),
        }
        if sequence is not None:
            values["sequence"] = sequence
        with self._database.writing() as raw:
            if not Run.update(values).where((Run.id == run) & (Run.end.is_null() | again)).execute(db):
                return
            Run.update(problems=_paths(raw, run, problems)).where(Run.id == run).execute(db)
            row = raw.execute("SELECT host, module, kind, begin FROM runs WHERE id = ?", (run,)).fetchone()
            if row and row[1] and row[2] == PULL:
                _pull_ended(db, module_row(raw, row[0], row[1]), run, outcome, error, now, row[3], next_try)

    def recover(self) -> list[str]:
        """At start, under the store's lock: close what a killed process left open, drop all pins; returns the runs.

        Requests that were taken and not done are offered again, but for withdrawn ones, which are done.
        """
        error = BackupError("interrupted: the collector ended while this ran", "it is tried again by itself")
        with self._database.writing() as raw:
            raw.execute("DELETE FROM pins")
            raw.execute(
                "UPDATE requests SET taken = NULL, done = iif(cancelled IS NULL, NULL, ?) WHERE done IS NULL",
                (self._clock.now(),),
            )
            left = [row[0] for row in raw.execute("SELECT id FROM runs WHERE end IS NULL ORDER BY begin")]
            for run in left:
                self.run_end(run, FAILED, error=error)
        return left

    def trim(self, before: float) -> int:
        """Drop runs and requests that ended before then (seconds since 1970), but no module's last run.

        Returns how many runs.
        """
        with self._database.writing() as raw:
            raw.execute("DELETE FROM requests WHERE done < ?", (before,))
            return raw.execute(
                "DELETE FROM runs WHERE end < ? AND id NOT IN (SELECT last_run FROM modules)", (before,)
            ).rowcount

    def request(
        self, host: str, module: str = "", options: Mapping[str, Any] | None = None, *, kind: str = PULL
    ) -> int:
        """Ask the daemon for a pull of a module, or of all modules of a host, or for a chore; the request's number."""
        with self._database.writing():
            return int(
                Request.insert(
                    kind=kind,
                    host=host,
                    module=module,
                    options=json.dumps(dict(options or {})),
                    created=self._clock.now(),
                ).execute(self._database.peewee)
            )

    def request_take(self, request: int) -> bool:
        """Take a request to work on it; False if it was taken, done or withdrawn already."""
        with self._database.writing():
            taken = (
                Request.update(taken=self._clock.now())
                .where(
                    (Request.id == request)
                    & Request.taken.is_null()
                    & Request.done.is_null()
                    & Request.cancelled.is_null()
                )
                .execute(self._database.peewee)
            )
        return bool(taken)

    def request_runs(self, request: int, runs: Sequence[str]) -> None:
        """Name the runs that work on a request, so that the one who asked can follow them."""
        with self._database.writing():
            Request.update(runs=json.dumps(list(runs))).where(Request.id == request).execute(self._database.peewee)

    def request_done(self, request: int, result: Mapping[str, Any]) -> None:
        """Close a request."""
        with self._database.writing():
            Request.update(done=self._clock.now(), result=json.dumps(dict(result))).where(
                (Request.id == request) & Request.done.is_null()
            ).execute(self._database.peewee)

    def request_cancel(self, request: int) -> None:
        """Withdraw a request: not taken, it is done at once; taken, the daemon is asked to stop it."""
        now = self._clock.now()
        with self._database.writing() as raw:
            raw.execute(
                "UPDATE requests SET cancelled = :now, done = iif(taken IS NULL, :now, NULL) "
                "WHERE id = :id AND done IS NULL",
                {"now": now, "id": request},
            )

    def heartbeat(self, pid: int, sandbox: str, *, pulls: int = 0, workers: int = 0) -> None:
        """Say that the daemon with this process id is alive, and which kind of sandbox its transfers run in.

        So many `pulls` run, and so many may at present.
        """
        with self._database.writing() as raw:
            raw.execute(
                "INSERT INTO daemon VALUES (1, :pid, :now, :now, :sandbox, :pulls, :workers) "
                "ON CONFLICT (id) DO UPDATE SET started = iif(pid = :pid, started, :now), pid = :pid, "
                "heartbeat = :now, sandbox = :sandbox, pulls = :pulls, workers = :workers",
                {"pid": pid, "now": self._clock.now(), "sandbox": sandbox, "pulls": pulls, "workers": workers},
            )

    def daemon_ended(self, pid: int) -> None:
        """The daemon ends in order."""
        with self._database.writing() as raw:
            if raw.execute("DELETE FROM daemon WHERE pid = ?", (pid,)).rowcount:
                raw.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (DAEMON_ENDED, repr(self._clock.now())))


def run_id(now: float) -> str:
    """A new id, as "20261122T214903-1f2e3d4c": sorts by time, is a valid file name."""
    return f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def _offer(db: Any, module_id: int, offer: ModuleOffer, now: float) -> None:
    Module.update(
        title=_text(offer.title),
        state=offer.state.value,
        reason=_text(offer.reason),
        last_seen=now,
        definition=_definition(offer) if offer.state is not ModuleState.ABSENT else Module.definition,
    ).where(Module.id == module_id).execute(db)
    Module.update(first_seen=now).where((Module.id == module_id) & Module.first_seen.is_null()).execute(db)


def _definition(offer: ModuleOffer) -> str:
    paths = [
        path.decode("utf-8", "surrogateescape")
        for root in offer.roots
        for path in (sorted(root.path + b"/" + name for name in root.names) if root.names else [root.path])
    ]
    return json.dumps(
        {
            "paths": paths,
            "includes": offer.includes,
            "excludes": offer.excludes,
            "hints": {**asdict(offer.hints), "keep": dict(offer.hints.keep)},
            "has_hooks": offer.has_hooks,
            "validator": asdict(offer.validator),
        }
    )


def _info_json(info: AgentInfo) -> str:
    return json.dumps({key: value for key, value in asdict(info).items() if key != "proof"})


def _pull_ended(
    db: Any,
    module_id: int,
    run: str,
    outcome: str,
    error: BackupError | None,
    end: float,
    begin: float,
    next_try: float | None,
) -> None:
    changed: dict[str, Any] = {"last_run": run, "last_pull": end}
    if outcome in (UNCHANGED, COMPLETE):
        # What changed after the listing began may be missing in it.
        changed |= {"last_good": begin, "last_listed": begin}
    Module.update(changed).where(Module.id == module_id).execute(db)
    if outcome != CANCELLED:
        _outcome(db, Module, module_id, outcome, error, end, next_try)


def _outcome(
    db: Any,
    table: type[Host] | type[Module],
    row: int,
    outcome: str,
    error: BackupError | None,
    now: float,
    next_try: float | None,
) -> None:
    """Set outcome, error and backoff of a host or module; `failing_since` is kept from the first failure on."""
    values: dict[str, Any] = {"outcome": outcome, "next_try": next_try, **_failure(error)}
    if outcome == FAILED:
        table.update(values, failures=table.failures + 1).where(table.id == row).execute(db)
        table.update(failing_since=now).where((table.id == row) & table.failing_since.is_null()).execute(db)
    else:
        table.update(values, failures=0, failing_since=None).where(table.id == row).execute(db)


def _failure(error: BackupError | None) -> dict[str, Any]:
    if error is None:
        return {"error_type": "", "cause": "", "hint": "", "retryable": 0}
    return {
        "error_type": type(error).__name__,
        "cause": _text(error.cause[:MAX_TEXT]),
        "hint": _text(error.hint[:MAX_TEXT]),
        "retryable": int(error.retryable),
    }


def _paths(raw: sqlite3.Connection, run: str, problems: Iterable[tuple[bytes, str]]) -> int:
    iterator = iter(problems)
    kept = [(run, path, _text(reason[:MAX_TEXT])) for path, reason in islice(iterator, MAX_PATHS)]
    raw.executemany("INSERT OR IGNORE INTO run_paths VALUES (?, ?, ?)", kept)
    return len(kept) + sum(1 for _ in iterator)


def _text(value: str) -> str:
    """`value` as SQLite can keep it: what is not a character (a byte that is no UTF-8) becomes an escape."""
    return value.encode("utf-8", "backslashreplace").decode()
