"""`prune` and `forget`: removing snapshots, by the rules of the policies or all of a module."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from pyrsyncbackup_collector.cli import amounts, chore, fleetwide, frozen, names, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, PARTIAL, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.screen import Column
from pyrsyncbackup_collector.cli.targets import stored
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.config import retention_rules
from pyrsyncbackup_collector.errors import UsageError
from pyrsyncbackup_collector.store.reserve import REMOVAL, Reserve

WhichArgument = Annotated[str | None, typer.Argument(metavar="HOST[/MODULE]", show_default=False)]
_WORDS = {"keep": ("keep", screen.GOOD), "remove": ("remove", screen.DOUBT), "removed": ("removed", screen.DOUBT)}


@app.command(epilog=exit_codes(4, 10, 11, PARTIAL))
def prune(
    which: WhichArgument = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only show what would be removed.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Remove the snapshots that no `keep` rule keeps, of all hosts, one host or one module; say why each goes.

    With --dry-run those that stay are shown, too, each with all its reasons. The newest complete snapshot is never
    removed, nor is a pinned one. Contents that no snapshot needs any more are freed by `gc`. HOST and MODULE may have
    wildcards.
    """
    place = Workplace.load(config)
    wanted = names.which(which)
    if dry_run:
        document = _planned(place, wanted)
    else:
        Reserve(place.config.store).lend(place.config.catalog.parent, REMOVAL)
        _known(place, wanted)
        rules = retention_rules(place.config)
        document = chore.do(place, "prune", {"host": wanted.host or "", "module": wanted.module or "", "rules": rules})
    if as_json:
        screen.json(_with_times(document))
    else:
        _show(document, dry_run=dry_run)
    if document["problems"] or document["locked"]:
        raise typer.Exit(PARTIAL)


def _known(place: Workplace, wanted: names.Which) -> None:
    with place.catalog() as catalog:
        if wanted.host is not None:
            fleetwide.must_match(place, catalog, wanted)


def _planned(place: Workplace, wanted: names.Which) -> dict[str, Any]:
    """What prune would do now, as it would say it."""
    from pyrsyncbackup_collector.daemon import clock_guard
    from pyrsyncbackup_collector.daemon.plan import plans
    from pyrsyncbackup_collector.daemon.retention import document

    clock = SystemClock()
    _known(place, wanted)
    with place.store() as store, place.catalog() as catalog:
        catalog.difference(store)
        now, seen = clock_guard.look(clock), clock_guard.load(catalog.clock_seen())
        doubt = clock_guard.doubt(now, seen, catalog.newest_times())
        found = list(plans(store, catalog, place.config, clock.now(), wanted.host, wanted.module))
    if doubt:
        screen.note(f"note: prune would remove nothing now: {doubt}", screen.DOUBT)
    return {
        "removed": sum(len(plan.removed) for plan in found),
        "kept": sum(len(plan.decisions) - len(plan.removed) for plan in found),
        "locked": 0,
        "frozen": sum(1 for plan in found if plan.frozen),
        "problems": 0,
        "modules": [document(plan, set(), set(), verbose=True) for plan in found],
    }


def _show(document: Mapping[str, Any], *, dry_run: bool) -> None:
    columns = [Column(""), Column("SNAPSHOT"), Column("WHY", fold=True)]
    for module in document["modules"]:
        name = f"{module['host']}/{module['module']}"
        if module["snapshots"]:
            screen.table(columns, [_row(each) for each in module["snapshots"]], title=name)
        else:
            screen.say(name, screen.TITLE)
        if module["frozen"]:
            frozen.show(name, module["frozen"])
        if module["problem"]:
            screen.line("  ", screen.text(module["problem"], screen.BAD))
            if module["hint"]:
                screen.say(f"  next: {screen.as_typed(module['hint'])}", screen.QUIET)
        screen.say()
    would = "would be " if dry_run else ""
    screen.say(
        f"{amounts.counted(document['removed'], 'snapshot')} {would}removed, {amounts.number(document['kept'])} kept"
    )
    if document["locked"]:
        screen.say(f"  {amounts.number(document['locked'])} are being read: the next prune removes them", screen.DOUBT)
    if document["removed"] and not dry_run:
        screen.say(f"  {screen.as_typed('`pyrsyncbackup gc` frees what nothing needs any more')}", screen.QUIET)


def _row(snapshot: Mapping[str, Any]) -> list[screen.Cell]:
    word = "keep" if snapshot["keep"] else "removed" if snapshot["removed"] else "remove"
    reasons = list(snapshot["reasons"]) + (["somebody reads it: not now"] if snapshot["locked"] else [])
    return [screen.text(*_WORDS[word]), snapshot["name"], "; ".join(reasons)]


def _with_times(document: dict[str, Any]) -> dict[str, Any]:
    for module in document["modules"]:
        for snapshot in module["snapshots"]:
            snapshot["time"] = amounts.iso(snapshot["time"])
    return document


@app.command(epilog=exit_codes(4, 10, 11, PARTIAL))
def forget(
    which: Annotated[str, typer.Argument(metavar="HOST[/MODULE]", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this it is only shown.")] = False,
    pinned_too: Annotated[bool, typer.Option("--pinned-too", help="Also what is pinned.")] = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Remove all snapshots of a host or of one module: of one that is gone, whose last ones are kept until then."""
    place = Workplace.load(config)
    host, module = stored(which)
    assert host is not None  # noqa: S101 - `which` is given
    going = _going(place, host, module)
    if not yes:
        for name, count, pins, frozen in going:
            pinned = f", {amounts.number(pins)} pinned" if pins else ""
            screen.say(f"{name}: {amounts.counted(count, 'snapshot')}{pinned}")
            if frozen:
                screen.paragraph(f"frozen: {frozen}", screen.DOUBT)
        raise UsageError("nothing was removed: these would be gone for ever", "say it again with --yes")
    options = {"host": host, "module": module or "", "pinned_too": pinned_too}
    document = chore.do(place, "forget", options)
    _show_forgotten(place, document["modules"])
    if document["problems"]:
        raise typer.Exit(PARTIAL)


def _going(place: Workplace, host: str, module: str | None) -> list[tuple[str, int, int, str]]:
    """The modules with snapshots, or with what a `forget` that was cut off left.

    Names, how many, how many of them are pinned, and why retention is frozen, if it is.
    """
    with place.store() as store, place.catalog() as catalog:
        recorded = Counter(one.module for one in catalog.snapshots(host))
        there = {name for of, name in store.modules() if of == host} | recorded.keys()
        wanted = sorted(name for name in there if module in (None, name))
        # Also what the store lost: the catalog keeps its place.
        counts = {name: max(len(store.recorded(host, name)), recorded[name]) for name in wanted}
        known = {one.module: one for one in catalog.retained(host, module)}
        left = set(known) & {name for name in wanted if not counts[name]}
        is_gone = host not in place.config.by_name
        unfinished = {name for name in left if is_gone or catalog.snapshots(host, name)}
        found = [
            (f"{host}/{name}", count, len(store.pins(host, name)), known[name].why if name in known else "")
            for name, count in counts.items()
            if count or name in unfinished
        ]
        if not found:
            raise names.no_snapshot(names.Which(host, module), catalog.stored(), place.host_names)
    return found


def _show_forgotten(place: Workplace, modules: Sequence[Mapping[str, Any]]) -> None:
    for each in modules:
        name = f"{each['host']}/{each['module']}"
        screen.say(f"{name}: {amounts.counted(each['removed'], 'snapshot')} removed")
        if each["locked"]:
            screen.say(f"  {', '.join(each['locked'])}: somebody reads it; say it again later", screen.DOUBT)
        mirror = place.config.mirror_dir / each["host"] / each["module"]
        if os.path.lexists(mirror):
            screen.say(f"  its mirror stays; `rm -r {shlex.quote(str(mirror))}` removes it", screen.QUIET)
    if place.config.copies:
        screen.say("  second copies keep what they have", screen.QUIET)
    if any(each["host"] in place.config.by_name for each in modules):
        screen.say("  what the host still offers is pulled anew", screen.QUIET)
