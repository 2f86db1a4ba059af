"""`retention`, `pin`, `unpin`: which rules are in force, what they do not touch, and when they go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from pyrsyncbackup_collector import config as configuration
from pyrsyncbackup_collector.cli import amounts, chore, fleetwide, frozen, names, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.prune import WhichArgument
from pyrsyncbackup_collector.cli.screen import Column
from pyrsyncbackup_collector.cli.snapshots import RefArgument
from pyrsyncbackup_collector.cli.targets import stored
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.config import Policy, quantities
from pyrsyncbackup_collector.config.model import Keep
from pyrsyncbackup_collector.errors import UsageError
from pyrsyncbackup_collector.store.snapshot import Snapshot

# Of a pin, in characters: a line of the log, and of each table that shows it.
MOST_WHY: Final = 1000

retention_app = typer.Typer(rich_markup_mode=None, help="Which snapshots are kept, and what keeps retention from it.")
app.add_typer(retention_app, name="retention")


@dataclass(frozen=True, slots=True)
class _Kept:
    """A module with its rules, how many snapshots it has, its pins by the snapshot's name, and its freeze."""

    name: str
    policy: Policy
    count: int
    pins: dict[str, str]
    frozen: float | None
    why: str


@retention_app.callback(invoke_without_command=True, epilog=exit_codes(4, 10, 11))
def retention(context: typer.Context, config: ConfigOption = NOT_GIVEN) -> None:
    """Show the rules in force, what is pinned, and which modules are frozen; `show` takes a host or module."""
    if context.invoked_subcommand is None:
        _show(None, as_json=False, config=config)


@retention_app.command("show", epilog=exit_codes(4, 10, 11), short_help="Show rules, pins and freezes.")
def show(which: WhichArgument = None, as_json: JsonOption = False, config: ConfigOption = NOT_GIVEN) -> None:
    """Show the rules in force, what is pinned, and which modules are frozen."""
    _show(which, as_json=as_json, config=config)


def _show(which: str | None, *, as_json: bool, config: Any) -> None:
    place = Workplace.load(config)
    found = _found(place, names.which(which))
    doubt = _clock_doubt(place)
    if as_json:
        screen.json({"clock": doubt or None, "modules": [_document(each) for each in found]})
        return
    if not found:
        screen.note("no modules yet; `pyrsyncbackup pull HOST` makes the first snapshots")
    columns = [Column("MODULE", fold=True), Column("KEPT", right=True), Column("RULES", fold=True)]
    if found:
        screen.table(columns, [[each.name, amounts.number(each.count), words(each.policy.keep)] for each in found])
    for each in found:
        _show_exceptions(each)
    if doubt:
        screen.say()
        screen.line(screen.text(f"nothing is removed: {doubt}", screen.BAD))
        hint = "once the clock is right: `pyrsyncbackup retention resume --clock`"
        screen.say(f"  next: {screen.as_typed(hint)}", screen.QUIET)


def _show_exceptions(each: _Kept) -> None:
    if each.frozen is None and not each.pins:
        return
    screen.say()
    screen.say(each.name, screen.TITLE)
    if each.frozen is not None:
        frozen.show(each.name, f"{each.why} (since {amounts.local(each.frozen)})")
    for name, why in each.pins.items():
        screen.paragraph(f"pinned {name}{f': {why}' if why else ''}", screen.GOOD)


def words(keep: Keep) -> str:
    """Rules as a person reads them: `last 3, daily 30, within 2d`."""
    parts = [f"{name} {value}" for name in Keep.model_fields if name != "within" and (value := getattr(keep, name))]
    parts += [f"within {quantities.written(keep.within)}"] if keep.within else []
    return ", ".join(parts) or "no rule: everything is kept"


def _found(place: Workplace, wanted: names.Which) -> list[_Kept]:
    with place.store() as store, place.catalog() as catalog:
        if wanted.host is not None:
            fleetwide.must_match(place, catalog, wanted)
        return [
            _Kept(
                f"{known.host}/{known.module}",
                configuration.effective(place.config, known.host, known.module),
                len(snapshots),
                _named(store.pins(known.host, known.module), snapshots),
                known.frozen,
                known.why,
            )
            for known in catalog.retained(wanted.host, wanted.module)
            if (snapshots := catalog.snapshots(known.host, known.module))
        ]


def _named(pins: dict[int, str], snapshots: Sequence[Snapshot]) -> dict[str, str]:
    return {one.name: pins[one.sequence] for one in snapshots if one.sequence in pins}


def _clock_doubt(place: Workplace) -> str:
    from pyrsyncbackup_collector.daemon import clock_guard

    with place.catalog() as catalog:
        now, seen = clock_guard.look(SystemClock()), clock_guard.load(catalog.clock_seen())
        return clock_guard.doubt(now, seen, catalog.newest_times())


def _document(each: _Kept) -> dict[str, Any]:
    keep = each.policy.keep
    return {
        "module": each.name,
        "snapshots": each.count,
        "keep": {name: value for name in Keep.model_fields if (value := getattr(keep, name))},
        "freeze": each.policy.freeze,
        "pinned": each.pins,
        "frozen": amounts.iso(each.frozen),
        "why": each.why or None,
    }


@retention_app.command("resume", epilog=exit_codes(4, 10, 11), short_help="Let a frozen module's retention go on.")
def resume(
    which: Annotated[str | None, typer.Argument(metavar="HOST/MODULE", show_default=False)] = None,
    clock: Annotated[bool, typer.Option("--clock", help="The collector's clock is right as it is now.")] = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Let retention go on: of a module whose change was meant, or of all, once the clock is right."""
    place = Workplace.load(config)
    host, module = stored(which)
    if clock is (which is not None) or (which is not None and module is None):
        raise UsageError("retention of what?", "name HOST/MODULE, or say --clock")
    options = {"clock": True} if clock else {"host": host, "module": module}
    if host is not None:
        with place.catalog() as catalog:
            fleetwide.must_match(place, catalog, names.Which(host, module))
    document = chore.do(place, "resume", options)
    what = "the clock" if clock else f"{host}/{module}"
    if not document["resumed"]:
        screen.note(f"{what}: there was nothing to resume")
    elif clock:
        screen.say("the clock is taken as right, retention goes on")
        screen.paragraph(f"it had stopped: {document['was']}", screen.QUIET)
    else:
        screen.say(f"{what}: retention goes on")
        screen.paragraph(f"it had stopped: {document['was']}", screen.QUIET)


@app.command(epilog=exit_codes(4, 10, 11))
def pin(
    ref: RefArgument,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="What it is kept for.")] = "",
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Keep a snapshot from being pruned, whatever the rules say. The log of the store has it, and so every copy."""
    place = Workplace.load(config)
    snapshot = _resolved(place, ref)
    # What a terminal of another encoding sent is no text.
    reason = why.encode(errors="surrogateescape").decode(errors="replace")[:MOST_WHY]
    chore.do(place, "pin", _options(snapshot) | {"why": reason})
    screen.say(f"pinned {snapshot.host}/{snapshot.module}@{snapshot.name}" + (f": {reason}" if reason else ""))


@app.command(epilog=exit_codes(4, 10, 11))
def unpin(ref: RefArgument, config: ConfigOption = NOT_GIVEN) -> None:
    """Let rules decide about a pinned snapshot again."""
    place = Workplace.load(config)
    snapshot = _resolved(place, ref)
    chore.do(place, "unpin", _options(snapshot))
    screen.say(f"unpinned {snapshot.host}/{snapshot.module}@{snapshot.name}")


def _resolved(place: Workplace, ref: str) -> Snapshot:
    with place.snapshot(ref) as (_, snapshot):
        return snapshot


def _options(snapshot: Snapshot) -> dict[str, Any]:
    return {"host": snapshot.host, "module": snapshot.module, "sequence": snapshot.sequence}
