"""What drills found, written down and asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pyrsyncbackup_collector.catalog import views
from pyrsyncbackup_collector.catalog.database import Database
from pyrsyncbackup_collector.catalog.ledger import module_row
from pyrsyncbackup_collector.catalog.scope import glob
from pyrsyncbackup_collector.clock import Clock

if TYPE_CHECKING:
    from pyrsyncbackup_collector.drill.drill import Drilled

# Of each module; older ones say nothing any more.
KEPT: Final = 100
_LAST: Final = """
    SELECT hosts.name, modules.name, drills.sequence, drills.time, drills.entries, drills.size, whole, differences,
           examples, validation, said
    FROM drills JOIN modules ON modules.id = module_id JOIN hosts ON hosts.id = host_id
    WHERE drills.id IN (SELECT max(id) FROM drills GROUP BY module_id)
    ORDER BY hosts.name, modules.name
"""
# A host or module may have been asked for that no drill was held of yet: those come first.
_TURN: Final = """
    SELECT hosts.name, modules.name FROM modules JOIN hosts ON hosts.id = host_id
    LEFT JOIN (SELECT module_id, max(id) AS last FROM drills GROUP BY module_id) AS held ON held.module_id = modules.id
    WHERE EXISTS (SELECT 1 FROM snapshots WHERE snapshots.module_id = modules.id)
      AND hosts.name GLOB ? AND modules.name GLOB ?
    ORDER BY ifnull(last, 0), hosts.name, modules.name
"""


class Drills:
    """The part of the catalog that knows drills."""

    _database: Database
    _clock: Clock

    def drilled(self, found: Drilled) -> None:
        """Record a drill."""
        snapshot, validation = found.snapshot, found.validation
        with self._database.writing() as raw:
            module = module_row(raw, snapshot.host, snapshot.module)
            raw.execute(
                "INSERT INTO drills (module_id, sequence, time, entries, size, whole, differences, examples, "
                "validation, said) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    module,
                    snapshot.sequence,
                    self._clock.now(),
                    found.entries,
                    found.size,
                    found.whole,
                    found.differences,
                    json.dumps(found.examples),
                    validation.outcome if validation else "",
                    json.dumps(validation.lines if validation else ()),
                ),
            )
            raw.execute(
                "DELETE FROM drills WHERE module_id = :module AND id <= "
                "(SELECT id FROM drills WHERE module_id = :module ORDER BY id DESC LIMIT 1 OFFSET :kept)",
                {"module": module, "kept": KEPT},
            )

    def drills(self) -> list[views.DrillView]:
        """The last drill of each module."""
        with self._database.reading() as raw:
            return [_drill(*row) for row in raw.execute(_LAST)]

    def drill_turn(self, host: str | None = None, module: str | None = None) -> list[tuple[str, str]]:
        """Modules that have snapshots, as (host, module); the one first whose last drill is the longest ago.

        `host` and `module` may have wildcards, None is any.
        """
        with self._database.reading() as raw:
            return list(raw.execute(_TURN, (glob(host), glob(module))))


def _drill(host: str, module: str, *row: Any) -> views.DrillView:
    sequence, time, entries, size, whole, differences, examples, validation, said = row
    facts = (sequence, time, entries, size, bool(whole), differences, tuple(json.loads(examples)), validation)
    return views.DrillView(host, module, *facts, tuple(json.loads(said)))
