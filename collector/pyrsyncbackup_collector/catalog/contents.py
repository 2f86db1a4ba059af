"""Where contents are: what a search through them reads, each once, and which paths each one is at."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Final

from pyrsyncbackup_collector.catalog import scope, states
from pyrsyncbackup_collector.catalog.database import Database
from pyrsyncbackup_collector.catalog.scope import Place
from pyrsyncbackup_collector.catalog.states import STATE, Row, State
from pyrsyncbackup_collector.catalog.tables import CHANGING
from pyrsyncbackup_collector.entry import FILE

_FILES: Final = f"""
    SELECT path, from_seq, until_seq, {STATE} FROM versions
    WHERE module_id = ? AND type = '{FILE}' AND sha256 IS NOT NULL ORDER BY path, from_seq
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """A file of a module with its content: in the newest snapshot (`now`), or in the kept snapshot `snapshot`.

    `snapshot` is the first one kept that has it so. With `changing` the size may be that of another moment.
    """

    host: str
    module: str
    path: bytes
    snapshot: str
    now: bool
    size: int
    sha256: str
    changing: bool


class Contents:
    """The part of the catalog that knows where contents are."""

    _database: Database

    def whereabouts(
        self,
        host: str | None = None,
        module: str | None = None,
        path: str | None = None,
        *,
        every: bool = False,
        among: Collection[str] | None = None,
    ) -> Iterator[Whereabouts]:
        """Files whose host, module and path match, by host, module and path; with `every` in all kept snapshots.

        `among`: only those with one of these digests. Each module is one transaction, which lasts while it is iterated.
        """
        matches = scope.path_pattern(path).match if path else None
        with self._database.reading() as raw:
            chosen = scope.places(raw, host, module)
        for place in chosen:
            for one in self._of_module(place, every):
                if (among is None or one.sha256 in among) and (matches is None or matches(one.path)):
                    yield one

    def _of_module(self, place: Place, every: bool) -> Iterator[Whereabouts]:
        with self._database.reading() as raw:
            kept = scope.kept(raw, place.id)
            for path, rows in groupby(raw.execute(_FILES, (place.id,)), key=itemgetter(0)):
                versions = (Row(row[1], row[2], State(*row[3:])) for row in rows)
                for span in states.spans(versions, kept, states.same_content):
                    now = span.end == len(kept)
                    if now or every:
                        yield _whereabouts(place, path, kept[span.begin].name, now, span.state)


def _whereabouts(place: Place, path: bytes, snapshot: str, now: bool, state: State) -> Whereabouts:
    digest = (state.sha256 or b"").hex()
    changing = bool(state.flags & CHANGING)
    return Whereabouts(place.host, place.module, path, snapshot, now, state.size, digest, changing)
