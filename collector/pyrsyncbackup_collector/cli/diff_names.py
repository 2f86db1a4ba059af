"""`diff --name-only`: from the catalog where both snapshots are of one module, without reading a manifest."""

from __future__ import annotations

from collections.abc import Sequence

from pyrsyncbackup_collector.cli import fleetwide, screen
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.errors import CatalogError
from pyrsyncbackup_collector.store import reference
from pyrsyncbackup_collector.store.snapshot import Snapshot


def different_names(place: Workplace, ref: str, after: str | None, wanted: Sequence[bytes]) -> list[bytes]:
    """The paths that differ; none also where the catalog cannot tell, and the manifests have to be asked."""
    first = reference.parse(ref)
    second = reference.parse(after) if after is not None else None
    if second and (second.host, second.module) != (first.host, first.module):
        return []
    try:
        with place.store() as store, place.catalog() as catalog:
            known = catalog.snapshots(first.host, first.module)
            stored = [one.sequence for one in store.recorded(first.host, first.module)]
            if not known or [one.sequence for one in known] != stored:
                return []
            pair = _pair(first, second, known)
            if pair is None:
                return []
            changes = catalog.changes_between(first.host, first.module, pair[0].sequence, pair[1].sequence)
    except CatalogError:
        return []
    return [
        one.path
        for one in changes
        if not wanted or any(not top or one.path == top or one.path.startswith(top + b"/") for top in wanted)
    ]


def _pair(
    first: reference.Reference, second: reference.Reference | None, known: Sequence[Snapshot]
) -> tuple[Snapshot, Snapshot] | None:
    now = SystemClock().now()
    chosen = reference.resolve(first, known, now)
    if second is not None:
        return chosen, reference.resolve(second, known, now)
    place = list(known).index(chosen)
    return (known[place - 1], chosen) if place else None


def show_names(paths: Sequence[bytes], *, as_json: bool) -> None:
    """Print them, one a line."""
    if as_json:
        screen.json({"paths": [fleetwide.told_apart(path) for path in paths]})
        return
    for path in paths:
        screen.say(b"/" + path)
    if not paths:
        screen.note("no differences")
