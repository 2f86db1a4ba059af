"""How second copies go: the last round of each, and what it brought. What a copy holds, the copy itself says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pyrsyncbackup_collector.catalog.database import Database
from pyrsyncbackup_collector.catalog.views import Failure
from pyrsyncbackup_collector.errors import BackupError


@dataclass(frozen=True, slots=True)
class CopyView:
    """A copy by its name; times in seconds since 1970. `good` is when the last round began that brought all.

    `document` is what the last round did that came to its end, as `copies.report.Round` gives it.
    """

    name: str
    place: str
    tried: float
    good: float | None
    failing_since: float | None
    failure: Failure | None
    document: Mapping[str, Any]


class CopyRecords:
    """The part of the catalog that knows of second copies."""

    _database: Database

    def copy_done(self, name: str, place: str, began: float, document: Mapping[str, Any]) -> None:
        """A round ended; one with `problems` did not bring all."""
        good = None if document.get("problems") else began
        with self._database.writing() as raw:
            raw.execute(
                "INSERT INTO copies (name, place, tried, good, document) VALUES (?1, ?2, ?3, ?4, ?5) "
                "ON CONFLICT (name) DO UPDATE SET place = ?2, tried = ?3, good = ifnull(?4, good), document = ?5, "
                "failing_since = NULL, error_type = '', cause = '', hint = '', retryable = 0",
                (name, place, began, good, json.dumps(dict(document))),
            )

    def copy_failed(self, name: str, place: str, began: float, error: BackupError) -> None:
        """A round came to no end."""
        failure = (type(error).__name__, error.cause, error.hint, int(error.retryable))
        with self._database.writing() as raw:
            raw.execute(
                "INSERT INTO copies (name, place, tried, failing_since, error_type, cause, hint, retryable) "
                "VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6, ?7) "
                "ON CONFLICT (name) DO UPDATE SET place = ?2, tried = ?3, failing_since = ifnull(failing_since, ?3), "
                "error_type = ?4, cause = ?5, hint = ?6, retryable = ?7",
                (name, place, began, *failure),
            )

    def copies(self) -> list[CopyView]:
        """All that were ever tried, by name."""
        with self._database.reading() as raw:
            found = raw.execute(
                "SELECT name, place, tried, good, failing_since, error_type, cause, hint, retryable, document "
                "FROM copies ORDER BY name"
            ).fetchall()
        return [_view(*row) for row in found]

    def taken_since(self, moment: float, hosts: str, modules: str) -> int:
        """How many snapshots of the hosts and modules whose names match are younger."""
        with self._database.reading() as raw:
            found = raw.execute(
                "SELECT hosts.name, modules.name, count(*) FROM snapshots JOIN modules ON modules.id = module_id "
                "JOIN hosts ON hosts.id = host_id WHERE time >= ? GROUP BY module_id",
                (moment,),
            ).fetchall()
        return sum(count for host, module, count in found if fnmatchcase(host, hosts) and fnmatchcase(module, modules))


def _view(
    name: str, place: str, tried: float, good: float | None, since: float | None,
    error_type: str, cause: str, hint: str, retryable: int, document: str,
) -> CopyView:  # fmt: skip
    failure = Failure(error_type, cause, hint, bool(retryable)) if error_type else None
    return CopyView(name, place, tried, good, since, failure, json.loads(document))
