"""Which mirrors are behind, since when and why, by the runs that updated them."""

from __future__ import annotations

from typing import Final

from pyrsyncbackup_collector.catalog import views
from pyrsyncbackup_collector.catalog.database import Database

MIRROR: Final = "mirror"

# A withdrawn run says nothing; rowid is the order in which runs began.
_BEHIND: Final = """
    WITH ended AS (
        SELECT rowid AS number, host, module, outcome, end, cause, hint, note FROM runs
        WHERE kind = 'mirror' AND end IS NOT NULL AND outcome != 'cancelled'
          AND host = ifnull(?, host) AND module = ifnull(?, module)
    ),
    known AS (
        SELECT host, module, max(number) AS last, max(iif(outcome = 'complete', number, 0)) AS good FROM ended
        GROUP BY host, module
    )
    SELECT host, module, ended.outcome, ended.cause, ended.hint, ended.note,
           (SELECT min(bad.end) FROM ended AS bad WHERE (bad.host, bad.module) = (known.host, known.module)
            AND bad.number > known.good)
    FROM known JOIN ended USING (host, module)
    WHERE ended.number = known.last AND known.last > known.good
    ORDER BY host, module
"""


class Mirrors:
    """The part of the catalog that knows mirrors."""

    _database: Database

    def mirrors_behind(self, host: str | None = None, module: str | None = None) -> list[views.MirrorView]:
        """The mirrors whose last update failed or left something out: of all modules, those of a host, or one."""
        with self._database.reading() as raw:
            return [views.MirrorView(*row) for row in raw.execute(_BEHIND, (host, module))]
