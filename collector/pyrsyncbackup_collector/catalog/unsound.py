"""What is known of logs and manifests that are not what they should be, and when each module's were read last.

A finding is kept until the module is looked at again and it is not there any more. Who looks is decided by others.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Final

from pyrsyncbackup_collector.catalog import views
from pyrsyncbackup_collector.catalog.database import Database
from pyrsyncbackup_collector.catalog.ledger import module_row
from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.store.findings import LOG, MANIFEST, MISSING, TAMPERED, Finding, Needing
from pyrsyncbackup_collector.store.lost import NEXT_MANIFEST, Lost, findings

_PUT: Final = """
    INSERT INTO unsound (module_id, what, name, kind, cause, hint, since, snapshots, total)
    VALUES (:module, :what, :name, :kind, :cause, :hint, :since, :snapshots, :total)
    ON CONFLICT (module_id, what, name) DO UPDATE SET kind = :kind, cause = :cause, hint = :hint,
        snapshots = :snapshots, total = :total
"""
_ALL: Final = """
    SELECT hosts.name, modules.name, what, unsound.name, kind, unsound.cause, unsound.hint, unsound.since,
           snapshots, total
    FROM unsound JOIN modules ON modules.id = module_id JOIN hosts ON hosts.id = host_id
    WHERE hosts.name = ifnull(?, hosts.name) AND modules.name = ifnull(?, modules.name)
    ORDER BY hosts.name, modules.name, what, unsound.name
"""
_DUE: Final = """
    SELECT hosts.name, modules.name FROM modules JOIN hosts ON hosts.id = host_id
    WHERE verified < ? AND (EXISTS (SELECT 1 FROM snapshots WHERE module_id = modules.id)
                            OR EXISTS (SELECT 1 FROM unsound WHERE module_id = modules.id))
    ORDER BY verified, 1, 2
"""
# The next check finds the module changed, and the pull that follows looks at what there is to stand on.
_LOOK_AGAIN: Final = "UPDATE memory SET fingerprint = x'' WHERE module_id = ?"
# When a module was verified that is to be in the turn that comes next.
_AT_ONCE: Final = 1.0


class UnsoundTables:
    """The part of the catalog that knows what is wrong with logs and manifests."""

    _database: Database
    _clock: Clock

    def unsound(self, host: str | None = None, module: str | None = None) -> list[views.UnsoundView]:
        """What was found and is not known to be right again: all, of a host, or of a module; by name."""
        with self._database.reading() as raw:
            found = raw.execute(_ALL, (host, module)).fetchall()
        return [
            views.UnsoundView(host, module, what, name, kind, cause, hint, since, tuple(json.loads(named)), total)
            for host, module, what, name, kind, cause, hint, since, named, total in found
        ]

    def due_modules(self, before: float) -> list[tuple[str, str]]:
        """Modules whose log and manifests were not read since then (seconds since 1970), the oldest first.

        Those of a new one count from now: they were not written unread. One that was read in the future, by a clock
        that was wrong then, is due.
        """
        now = self._clock.now()
        with self._database.writing() as raw:
            raw.execute("UPDATE modules SET verified = ? WHERE verified = 0", (now,))
            raw.execute("UPDATE modules SET verified = ? WHERE verified > ?", (_AT_ONCE, now))
            return raw.execute(_DUE, (before,)).fetchall()

    def module_verified(self, host: str, module: str, found: Iterable[Finding]) -> list[Finding]:
        """A module's log and manifests were read just now, and that is all that is wrong; returns what is new of it."""
        now = self._clock.now()
        with self._database.writing() as raw:
            row = module_row(raw, host, module)
            query = "SELECT what, name, since FROM unsound WHERE module_id = ?"
            known = {(what, name): since for what, name, since in raw.execute(query, (row,))}
            raw.execute("DELETE FROM unsound WHERE module_id = ?", (row,))
            fresh = []
            # Of several about one log the first stands for all.
            for (what, name), finding in {(each.what, _name(each)): each for each in reversed(list(found))}.items():
                since = known.get((what, name))
                if since is None:
                    fresh.append(finding)
                _put(raw, row, finding, now if since is None else since)
            if fresh:
                raw.execute(_LOOK_AGAIN, (row,))
            raw.execute("UPDATE modules SET verified = ? WHERE id = ?", (now, row))
        return fresh

    def unusable(self, host: str, module: str, name: str, cause: str, *, missing: bool) -> None:
        """A pull could not stand on snapshot `name`, the newest; the next verification says what exactly is wrong."""
        place = f"{host}/{module}@{name}"
        finding = Finding(
            MISSING if missing else TAMPERED, MANIFEST, place, cause, Needing().with_one(place), NEXT_MANIFEST
        )
        with self._database.writing() as raw:
            row = module_row(raw, host, module)
            if raw.execute("SELECT 1 FROM unsound WHERE module_id = ?", (row,)).fetchone() is None:
                _put(raw, row, finding, self._clock.now())
            raw.execute("UPDATE modules SET verified = ? WHERE id = ?", (_AT_ONCE, row))

    def record_lost(self, lost: Iterable[Lost]) -> None:
        """What the store lacks of this catalog. What it lacked before and has again is a finding no more."""
        by_module: dict[tuple[str, str], list[Lost]] = {}
        for one in lost:
            by_module.setdefault((one.host, one.module), []).append(one)
        before = {(one.host, one.module) for one in self.unsound() if one.kind == MISSING}
        for host, module in sorted(before | by_module.keys()):
            with self._database.writing() as raw:
                _settle(raw, host, module, by_module.get((host, module), []), self._clock.now())


def _settle(raw: sqlite3.Connection, host: str, module: str, lost: Iterable[Lost], now: float) -> None:
    row = module_row(raw, host, module)
    query = "SELECT what, name, since FROM unsound WHERE module_id = ?"
    known = {(what, name): since for what, name, since in raw.execute(query, (row,))}
    # Of a base, which is no snapshot any more, only the one who reads what stands on it can tell.
    raw.execute(
        "DELETE FROM unsound WHERE module_id = :module AND kind = :missing AND (what = :log OR name IN "
        "(SELECT snapshots.name FROM snapshots WHERE module_id = :module))",
        {"module": row, "missing": MISSING, "log": LOG},
    )
    found = findings(host, module, lost)
    for finding in found:
        _put(raw, row, finding, known.get((finding.what, _name(finding)), now))
    if any((finding.what, _name(finding)) not in known for finding in found):
        raw.execute(_LOOK_AGAIN, (row,))
    raw.execute("UPDATE modules SET verified = ? WHERE id = ?", (_AT_ONCE, row))


def _put(raw: sqlite3.Connection, module: int, finding: Finding, since: float) -> None:
    values = {
        "module": module,
        "what": finding.what,
        "name": _name(finding),
        "kind": finding.kind,
        "cause": finding.cause,
        "hint": finding.next,
        "since": since,
        "snapshots": json.dumps(finding.needing.snapshots),
        "total": finding.needing.count,
    }
    raw.execute(_PUT, values)


def _name(finding: Finding) -> str:
    """What the rows of one module are told apart by."""
    return finding.name.rpartition("@")[2] if finding.what == MANIFEST else ""
