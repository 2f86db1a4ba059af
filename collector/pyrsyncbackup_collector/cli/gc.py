"""`gc`: what nothing names any more goes from the store, or what would go."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyrsyncbackup_collector.cli import amounts, chore, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.screen import Column
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.config import quantities
from pyrsyncbackup_collector.config.model import LEAST_GRACE
from pyrsyncbackup_collector.errors import CatalogMismatch, UsageError
from pyrsyncbackup_collector.store.garbage import unknown_files

if TYPE_CHECKING:
    from pyrsyncbackup_collector.catalog.views import Unnamed


@app.command(epilog=exit_codes(10, 11))
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be freed.")] = False,
    grace: Annotated[
        str | None,
        typer.Option(metavar="DURATION", show_default=False, help="How long nothing named it. [default: space.grace]"),
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", show_default=False, help="Objects a second. [default: as fast as it goes]"),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Remove the contents that no snapshot names any more, since `space.grace` (a day) at least.

    The daemon does so by itself (`upkeep.gc`). What `prune` took away today goes tomorrow.
    """
    place = Workplace.load(config)
    seconds = _grace(grace, place.config.space.grace)
    if dry_run:
        _show_plan(_plan(place, seconds), as_json=as_json)
        return
    done = chore.do(place, "gc", {"grace": seconds, "rate": rate or 0})
    if as_json:
        screen.json(done)
        return
    count = done["objects"] + done["files"]
    if count:
        screen.say(
            f"{amounts.counted(count, 'object')} removed, {amounts.size(done['bytes'] + done['file_bytes'])} freed"
        )
    else:
        screen.say("nothing to remove")
    _say_rest(done["waiting_objects"], done["waiting_bytes"], seconds)


def _grace(text: str | None, default: float) -> float:
    try:
        seconds = default if text is None else quantities.duration(text)
    except ValueError as error:
        raise UsageError(f"--grace: {error}") from None
    if seconds < LEAST_GRACE:
        raise UsageError(
            f"--grace: at least {amounts.span(LEAST_GRACE)}", "a pull that was cut off goes on with what it has"
        )
    return seconds


def _plan(place: Workplace, grace: float) -> dict[str, Any]:
    with place.store() as store, place.catalog() as catalog:
        if lacking := catalog.lacking(store):
            one = lacking[0][1]
            raise CatalogMismatch(
                f"the catalog lacks snapshot {one.name} of {one.host}/{one.module}: nothing would be removed",
                "try again in a minute; if it stays so, `pyrsyncbackup catalog rebuild`",
            )
        unnamed = catalog.unnamed(grace)
        files, file_bytes = unknown_files(store.objects, catalog, SystemClock().now() - grace)
    due = [each for each in unnamed if each.due]
    waiting = [each for each in unnamed if not each.due]
    return {
        "grace": grace,
        "objects": sum(each.objects for each in due),
        "bytes": sum(each.bytes for each in due),
        "files": files,
        "file_bytes": file_bytes,
        "waiting_objects": sum(each.objects for each in waiting),
        "waiting_bytes": sum(each.bytes for each in waiting),
        "groups": [_group(each, grace) for each in unnamed],
    }


def _group(each: Unnamed, grace: float) -> dict[str, object]:
    return {
        "unnamed_since": amounts.iso(each.since),
        "objects": each.objects,
        "bytes": each.bytes,
        "due": each.due,
        "goes": amounts.iso(each.since + grace),
        "pinned": each.pinned,
    }


def _show_plan(plan: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        screen.json(plan)
        return
    rows = [_row(group) for group in plan["groups"]]
    if plan["files"]:
        said = "no row in the catalog: left by a crash"
        rows.append([said, amounts.number(plan["files"]), amounts.size(plan["file_bytes"]), "now"])
    if not rows:
        screen.say("nothing to remove: every object is named by a snapshot")
        return
    columns = [Column("WHY", fold=True), Column("OBJECTS", right=True), Column("STORED", right=True), Column("GOES")]
    screen.table(columns, rows)
    screen.say()
    count, size = plan["objects"] + plan["files"], plan["bytes"] + plan["file_bytes"]
    what = f"`gc` would remove {amounts.counted(count, 'object')} and free {amounts.size(size)}"
    screen.say(what if count else "`gc` would remove nothing now", screen.TITLE)


def _row(group: dict[str, Any]) -> Sequence[screen.Cell]:
    since, goes = (datetime.fromisoformat(group[key]).timestamp() for key in ("unnamed_since", "goes"))
    when = "now" if group["due"] else "after the pull" if group["pinned"] else amounts.local(goes)
    return [
        f"named by nothing since {amounts.local(since)}",
        amounts.number(group["objects"]),
        amounts.size(group["bytes"]),
        screen.text(when, screen.GOOD if group["due"] else screen.QUIET),
    ]


def _say_rest(objects: int, size: int, grace: float) -> None:
    if objects:
        waits = f"{amounts.counted(objects, 'object')} of {amounts.size(size)}"
        wait = "waits for its" if objects == 1 else "wait for their"
        screen.say(f"{waits} {wait} {amounts.span(grace)} without a name", screen.QUIET)
