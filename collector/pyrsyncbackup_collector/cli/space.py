"""`space`: what takes the room in the store, and what its removal would give back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from pyrsyncbackup_collector.cli import amounts, names, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.screen import Column
from pyrsyncbackup_collector.cli.workplace import Workplace

if TYPE_CHECKING:
    from pyrsyncbackup_collector.catalog.views import ModuleSpace, SnapshotSpace, StoreSpace, Taken
    from pyrsyncbackup_collector.store.room import Floor, Room

_SIZES = [Column("SIZE", right=True), Column("STORED", right=True), Column("UNIQUE", right=True)]
_SHARED = Column("SHARED", right=True)


@app.command(epilog=exit_codes(4, 10, 11))
def space(
    which: Annotated[str | None, typer.Argument(metavar="HOST[/MODULE]", show_default=False)] = None,
    as_json: JsonOption = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Show what hosts take in the store; with HOST its modules, with HOST/MODULE its snapshots.

    HOST and MODULE may have wildcards: then each module that matches is a line.

    SIZE is that of plain copies of all snapshots, STORED what lies in the store for them (compressed, each content
    once), UNIQUE what would be free without them, SHARED what others need too.
    """
    place = Workplace.load(config)
    wanted = names.which(which)
    with place.store(), place.catalog() as catalog:
        if wanted.host is not None and not catalog.stored(wanted.host, wanted.module):
            raise names.no_snapshot(wanted, catalog.stored(), place.host_names)
        if wanted.host and wanted.module and not wanted.is_pattern:
            found = catalog.snapshot_space(wanted.host, wanted.module)
            _show_snapshots(str(wanted), found, as_json=as_json)
            return
        taken = catalog.store_space()
        there, floor = place.room()
    modules = [each for each in taken.modules if wanted.holds(each.host, each.module)]
    if wanted.is_pattern:
        _show_many(modules, taken, as_json=as_json)
        return
    if wanted.host:
        _show_modules(wanted.host, modules, taken.hosts[wanted.host], as_json=as_json)
        return
    if as_json:
        screen.json(_store_document(taken, there, floor))
    else:
        _show_store(taken, there, floor)


def _show_store(taken: StoreSpace, there: Room, floor: Floor) -> None:
    rows = []
    for host, group in groupby(taken.modules, key=lambda each: each.host):
        modules = list(group)
        sums = (sum(each.snapshots for each in modules), sum(each.size for each in modules))
        rows.append([host, amounts.number(len(modules)), *_cells(*sums, taken.hosts[host])])
    if rows:
        columns = [
            Column("HOST", fold=True),
            Column("MODULES", right=True),
            Column("SNAPSHOTS", right=True),
            *_SIZES,
            _SHARED,
        ]
        screen.table(columns, rows)
        screen.say()
    inodes: Text | str = "not limited"
    if there.inodes_total:
        inodes = _free(there.inodes, there.inodes_total, floor.inodes, amounts.number)
    screen.facts(
        [
            ("contents", f"{amounts.size(taken.stored)} in the store"),
            ("unnamed", f"{amounts.size(taken.unnamed)} wait for `gc`" if taken.unnamed else "nothing"),
            ("free", _free(there.free, there.total, floor.free, amounts.size)),
            ("inodes", inodes),
        ]
    )


def _free(free: int, total: int, floor: int, shown: Callable[[int], str]) -> Text:
    words = f"{shown(free)} of {shown(total)} ({100 * free // max(total, 1)}%); pulls leave {shown(floor)} free"
    return screen.text(words, screen.BAD if free < floor else "")


def _show_modules(host: str, modules: Sequence[ModuleSpace], whole: Taken, *, as_json: bool) -> None:
    if as_json:
        screen.json({"host": host, **_taken(whole), "modules": [_module(each) for each in modules]})
        return
    rows = [[each.module, *_cells(each.snapshots, each.size, each.taken)] for each in modules]
    sums = (sum(each.snapshots for each in modules), sum(each.size for each in modules))
    rows.append([screen.text("all together", screen.TITLE), *_cells(*sums, whole)])
    screen.table([Column("MODULE", fold=True), Column("SNAPSHOTS", right=True), *_SIZES, _SHARED], rows, title=host)


def _show_many(modules: Sequence[ModuleSpace], whole: StoreSpace, *, as_json: bool) -> None:
    """Those of a pattern. No sum: what they share with each other, and with others, is not apart."""
    if as_json:
        hosts = [{"host": host, **_taken(whole.hosts[host])} for host in sorted({each.host for each in modules})]
        screen.json({"hosts": hosts, "modules": [_module(each) for each in modules]})
        return
    rows = [[f"{each.host}/{each.module}", *_cells(each.snapshots, each.size, each.taken)] for each in modules]
    screen.table([Column("MODULE", fold=True), Column("SNAPSHOTS", right=True), *_SIZES, _SHARED], rows)


def _show_snapshots(name: str, found: Sequence[SnapshotSpace], *, as_json: bool) -> None:
    if as_json:
        screen.json({"module": name, "snapshots": [_snapshot(each) for each in found]})
        return
    rows = [[each.name, *_cells(None, each.size, each.taken)] for each in found]
    screen.table([Column("SNAPSHOT"), *_SIZES, _SHARED], rows, title=name)


def _cells(snapshots: int | None, size: int, taken: Taken) -> list[screen.Cell]:
    count = [] if snapshots is None else [amounts.number(snapshots)]
    return [*count, *(amounts.size(each) for each in (size, taken.stored, taken.unique, taken.shared))]


def _taken(taken: Taken) -> dict[str, int]:
    return {"stored": taken.stored, "unique": taken.unique, "shared": taken.shared}


def _module(each: ModuleSpace) -> dict[str, object]:
    return {
        "host": each.host,
        "module": each.module,
        "snapshots": each.snapshots,
        "size": each.size,
        **_taken(each.taken),
    }


def _snapshot(each: SnapshotSpace) -> dict[str, object]:
    return {
        "name": each.name,
        "sequence": each.sequence,
        "time": amounts.iso(each.time),
        "state": each.state,
        "size": each.size,
        **_taken(each.taken),
    }


def _store_document(taken: StoreSpace, there: Room, floor: Floor) -> dict[str, object]:
    return {
        "stored": taken.stored,
        "unnamed": taken.unnamed,
        "free": there.free,
        "total": there.total,
        "min_free": floor.free,
        "inodes_free": there.inodes,
        "inodes_total": there.inodes_total,
        "min_free_inodes": floor.inodes,
        "hosts": [{"host": host, **_taken(each)} for host, each in taken.hosts.items()],
        "modules": [_module(each) for each in taken.modules],
    }
