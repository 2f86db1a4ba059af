"""`compare`: which hosts share which version of a module's paths, who differs, and since when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from pyrsyncbackup_collector.catalog.comparing import Group, ModuleComparison, PathComparison, UnequalPath, Variant
from pyrsyncbackup_collector.catalog.states import State
from pyrsyncbackup_collector.catalog.tables import CHANGING
from pyrsyncbackup_collector.cli import amounts, fleetwide, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.lines import show_lines
from pyrsyncbackup_collector.cli.names import Which
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.screen import Column
from pyrsyncbackup_collector.cli.snapshots import stored_path
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.entry import DIRECTORY, FILE, Entry, printable
from pyrsyncbackup_collector.errors import NotFound, UsageError
from pyrsyncbackup_collector.store.store import Store

_SHOWN = 20


@app.command(epilog=exit_codes(4, 10, 11))
def compare(
    module: Annotated[str, typer.Argument(metavar="MODULE", show_default=False)],
    path: Annotated[str | None, typer.Argument(metavar="PATH", show_default=False)] = None,
    hosts: Annotated[
        str | None, typer.Option("--hosts", "--host", metavar="PATTERN", help="Only hosts with such names: 'web*'.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Mode, owner and attributes count too.")] = False,
    lines: Annotated[
        bool, typer.Option("--diff", help="With PATH: how the others differ from the majority, line by line.")
    ] = False,
    limit: Annotated[int, fleetwide.limit_option(_SHOWN, "paths or versions")] = _SHOWN,
    as_json: JsonOption = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Compare what hosts have now: which share a version of PATH, who differs, and since when.

    Without PATH, and for a directory: the paths of MODULE, or below PATH, that are not the same on all hosts, those
    with the fewest outliers first.
    """
    if lines and path is None:
        raise UsageError("--diff needs a PATH", "`pyrsyncbackup compare MODULE` shows which paths differ")
    if "/" in module:
        name = printable(module.partition("/")[2])
        raise UsageError(f"{printable(module)!r} is no name of a module", f"write {name}, and the hosts with --hosts")
    place = Workplace.load(config)
    with place.catalog() as catalog, place.store() as store:
        fleetwide.must_match(place, catalog, Which(hosts, module))
        wanted = stored_path(path or "")
        if not wanted:
            whole = catalog.compare_module(module, hosts, strict=strict, limit=fleetwide.bound(limit))
            (_module_json if as_json else _show_module)(module, whole)
            return
        found = catalog.compare_path(module, wanted, hosts, strict=strict)
        if all(group.state is None for group in found.groups):
            raise NotFound(
                f"none of {amounts.counted(found.hosts, 'host')} has /{printable(found.path)} in {module} now",
                f"`pyrsyncbackup find {fleetwide.typed(found.path.rpartition(b'/')[2])}` looks for it everywhere",
            )
        inside = None
        if all(group.state is None or group.state.type == DIRECTORY for group in found.groups):
            if lines:
                raise UsageError(f"/{printable(found.path)} is a directory", "--diff needs the path of a file")
            bound = fleetwide.bound(limit)
            inside = catalog.compare_module(module, hosts, below=found.path, strict=strict, limit=bound)
        if as_json:
            _path_json(module, found, inside)
            return
        if inside is not None:
            _show_module(module, inside, found.path)
            return
        _show_path(found, limit)
        if lines:
            _show_differences(store, found, limit)


def _show_path(found: PathComparison, limit: int) -> None:
    screen.sentence(f"/{printable(found.path)}: {_verdict(found)}", screen.TITLE)
    columns = [Column("HOSTS", right=True), Column("SIZE", right=True), Column("DIGEST"), Column("SINCE")]
    shown = found.groups[: fleetwide.bound(limit)]
    screen.table([*columns, Column("WHO", fold=True)], [_row(group) for group in shown])
    fleetwide.more(len(found.groups) - len(shown), "version")


def _verdict(found: PathComparison) -> str:
    majority, *others = found.groups
    if found.hosts == 1:
        return f"only {majority.members[0].host} is there to compare"
    if not others:
        return f"the same on {amounts.counted(found.hosts, 'host')}"
    if len(majority.members) == 1 and found.hosts > 2:
        return f"no two of {amounts.counted(found.hosts, 'host')} are alike"
    alike = f"{amounts.number(len(majority.members))} of {amounts.counted(found.hosts, 'host')} are alike"
    if majority.state is None:
        alike = f"{amounts.number(len(majority.members))} of {amounts.counted(found.hosts, 'host')} do not have it"
    outliers = [
        (member, since) for group in others for member, since in zip(group.members, group.differs_since, strict=True)
    ]
    names = fleetwide.few([member.host for member, _ in outliers])
    since = _day(min(since for _, since in outliers))
    if found.hosts == 2:
        return f"{majority.members[0].host} and {names} differ since {since}"
    return f"{alike}, {names} {'differs' if len(outliers) == 1 else 'differ'} since {since}"


def _row(group: Group) -> list[screen.Cell]:
    state = group.state
    since = [member.since.time for member in group.members if member.since]
    oldest = amounts.local(min(since)) if since else ""
    names = fleetwide.few([member.host for member in group.members], named=4)
    if state is None:
        return [amounts.number(len(group.members)), "", Text("missing", screen.BAD), oldest, names]
    size = amounts.size(state.size) if state.type == FILE else state.type
    digest = fleetwide.short(state.sha256.hex()) if state.sha256 else ""
    return [amounts.number(len(group.members)), size, digest, oldest, names]


def _day(moment: float) -> str:
    """A date with its day of the week, which is what people remember; a time that is unknown is as old as can be."""
    if not moment:
        return "ever"
    return datetime.fromtimestamp(moment, tz=UTC).astimezone().strftime("%a %Y-%m-%d")


def _show_differences(store: Store, found: PathComparison, limit: int) -> None:
    majority, *others = found.groups
    for group in others[: fleetwide.bound(limit)]:
        screen.say()
        names = fleetwide.few([member.host for member in group.members], named=4)
        screen.say(f"{majority.members[0].host} and {names}:", screen.TITLE)
        pair = [
            (None if one.state is None else _entry(one.state), f"{one.members[0].host}:/{printable(found.path)}")
            for one in (majority, group)
        ]
        show_lines(store, *pair[0], *pair[1])


def _entry(state: State) -> Entry:
    """As much of an entry as names a content."""
    digest = state.sha256.hex() if state.sha256 else ""
    return Entry(type=state.type, size=state.size, sha256=digest, changing=bool(state.flags & CHANGING))


def _show_module(module: str, found: ModuleComparison, below: bytes = b"") -> None:
    total = len(found.hosts)
    what = f"/{printable(below)} of {module}" if below else module
    if total == 1:
        screen.say(f"only {found.hosts[0]} has {what}: nothing to compare", screen.TITLE)
        return
    if not found.paths:
        screen.say(f"{what} is the same on {amounts.counted(total, 'host')}", screen.TITLE)
        return
    differing = amounts.counted(len(found.paths) + found.more, "path")
    screen.say(f"{what} on {amounts.counted(total, 'host')}: {differing} not the same everywhere", screen.TITLE)
    columns = [Column("PATH", fold=True), Column("ALIKE", right=True), Column("OTHERS", fold=True)]
    screen.table(columns, [_unequal_row(one, total) for one in found.paths])
    fleetwide.more(found.more, "path")


def _unequal_row(one: UnequalPath, total: int) -> list[screen.Cell]:
    alike = len(one.variants[0].hosts)
    others = [_others(variant) for variant in one.variants[1:3]]
    if len(one.variants) > 3:
        others.append(
            f"{len(one.variants) - 3} more versions on {sum(len(each.hosts) for each in one.variants[3:])} hosts"
        )
    shown = Text.assemble(("missing on " if one.variants[0].state is None else ""), f"{alike} of {total}")
    return [screen.text(b"/" + one.path), shown, "; ".join(others)]


def _others(variant: Variant) -> str:
    return ("missing on " if variant.state is None else "") + fleetwide.few(variant.hosts)


def _path_json(module: str, found: PathComparison, inside: ModuleComparison | None) -> None:
    groups = [
        {
            **_state(group.state),
            "majority": number == 0,
            "hosts": [
                {
                    "host": member.host,
                    "since": amounts.iso(member.since.time) if member.since else None,
                    "differs_since": amounts.iso(group.differs_since[place]) if number else None,
                }
                for place, member in enumerate(group.members)
            ],
        }
        for number, group in enumerate(found.groups)
    ]
    below = {} if inside is None else {"paths": _unequal_json(inside), "more": inside.more}
    screen.json({"module": module, **fleetwide.told_apart(found.path), "hosts": found.hosts, "groups": groups, **below})


def _module_json(module: str, found: ModuleComparison) -> None:
    screen.json({"module": module, "hosts": list(found.hosts), "paths": _unequal_json(found), "more": found.more})


def _unequal_json(found: ModuleComparison) -> list[dict[str, object]]:
    return [
        {
            **fleetwide.told_apart(one.path),
            "versions": [{**_state(variant.state), "hosts": list(variant.hosts)} for variant in one.variants],
        }
        for one in found.paths
    ]


def _state(state: State | None) -> dict[str, object]:
    if state is None:
        return {"missing": True}
    digest = state.sha256.hex() if state.sha256 else ""
    return {"missing": False, "type": state.type, "mode": state.mode, "size": state.size, "sha256": digest}
