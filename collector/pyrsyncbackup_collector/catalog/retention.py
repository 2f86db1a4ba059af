"""What deciding about retention needs to remember: frozen modules, what was judged, how the clock went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyrsyncbackup_collector.catalog.database import Database
from pyrsyncbackup_collector.catalog.ledger import module_row
from pyrsyncbackup_collector.catalog.scope import glob

# The row of `meta` that holds what was seen of the clock. It outlives a rebuild.
CLOCK: Final = "clock"

_RETAINED: Final = """
    SELECT hosts.name, modules.name, state, last_good, frozen, frozen_why, judged, accepted FROM modules
    JOIN hosts ON hosts.id = host_id
    WHERE hosts.name GLOB ? AND modules.name GLOB ? ORDER BY 1, 2
"""
# Of the files of one snapshot, those whose content is at the same place no more in a later one.
_LOST: Final = """
    SELECT count(*) FROM versions AS old WHERE module_id = :module AND type = 'file' AND sha256 IS NOT NULL
    AND from_seq <= :older AND until_seq > :older AND until_seq <= :newer
    AND NOT EXISTS (
        SELECT 1 FROM versions AS new WHERE new.module_id = old.module_id AND new.path = old.path
        AND new.from_seq <= :newer AND ifnull(new.until_seq > :newer, 1) AND new.sha256 = old.sha256
    )
"""


@dataclass(frozen=True, slots=True)
class Retained:
    """What is remembered of a module's retention.

    `state` is that of its offer, `last_good` the last time that all of it was known to be in the store (seconds since
    1970). `frozen` is since when nothing of it is removed, and `why`; None: it is not. Snapshots up to `judged` were
    looked at for a sudden change, and one up to `accepted` is what later ones may look like.
    """

    host: str
    module: str
    state: str
    last_good: float | None
    frozen: float | None
    why: str
    judged: int
    accepted: int


class Retention:
    """The part of the catalog that retention is remembered in."""

    _database: Database

    def retained(self, host: str | None = None, module: str | None = None) -> list[Retained]:
        """All modules, or those of a host, or one, by name; both may have wildcards, None is any."""
        with self._database.reading() as raw:
            return [Retained(*row) for row in raw.execute(_RETAINED, (glob(host), glob(module)))]

    def newest_times(self) -> dict[str, tuple[int, float]]:
        """Sequence number and time of the newest snapshot of each module, by HOST/MODULE."""
        with self._database.reading() as raw:
            found = raw.execute(
                "SELECT hosts.name || '/' || modules.name, sequence, time FROM modules "
                "JOIN hosts ON hosts.id = host_id JOIN snapshots ON module_id = modules.id "
                "AND sequence = (SELECT max(sequence) FROM snapshots WHERE module_id = modules.id)"
            )
            return {name: (sequence, time) for name, sequence, time in found}

    def lost_files(self, host: str, module: str, older: int, newer: int) -> int:
        """How many files of snapshot `older` have another content in `newer`, or are gone. Reads the whole module."""
        with self._database.reading() as raw:
            row = raw.execute(
                "SELECT modules.id FROM modules JOIN hosts ON hosts.id = host_id "
                "WHERE hosts.name = ? AND modules.name = ?",
                (host, module),
            ).fetchone()
            if row is None:
                return 0
            return int(raw.execute(_LOST, {"module": row[0], "older": older, "newer": newer}).fetchone()[0])

    def judge(self, host: str, module: str, sequence: int) -> None:
        """Snapshots up to this one were looked at, and are what they should be."""
        with self._database.writing() as raw:
            row = module_row(raw, host, module)
            raw.execute("UPDATE modules SET judged = max(judged, ?) WHERE id = ?", (sequence, row))

    def freeze(self, host: str, module: str, since: float, why: str) -> None:
        """Remove nothing of the module until `resume`; one that is frozen stays as it is."""
        with self._database.writing() as raw:
            raw.execute(
                "UPDATE modules SET frozen = ?, frozen_why = ? WHERE id = ? AND frozen IS NULL",
                (since, why, module_row(raw, host, module)),
            )

    def resume(self, host: str, module: str, sequence: int) -> bool:
        """End a freeze: the module is as it should be in snapshot `sequence`. Whether there was one."""
        with self._database.writing() as raw:
            return bool(
                raw.execute(
                    "UPDATE modules SET frozen = NULL, frozen_why = '', judged = :now, accepted = :now "
                    "WHERE id = :module AND frozen IS NOT NULL",
                    {"now": sequence, "module": module_row(raw, host, module)},
                ).rowcount
            )

    def clock_seen(self) -> str:
        """What was last remembered of the clock; empty for a new catalog."""
        with self._database.reading() as raw:
            row = raw.execute("SELECT value FROM meta WHERE key = ?", (CLOCK,)).fetchone()
            return row[0] if row else ""

    def remember_clock(self, seen: str) -> None:
        """Replace that."""
        with self._database.writing() as raw:
            raw.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (CLOCK, seen))
