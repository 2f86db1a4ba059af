"""`find`: names over all hosts and all time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from pyrsyncbackup_collector.catalog.finding import Found, FoundPath, Sighting
from pyrsyncbackup_collector.cli import amounts, fleetwide, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.fleetwide import HostsOption, ModulesOption
from pyrsyncbackup_collector.cli.names import Which
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.screen import Column
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.errors import UsageError

_SHOWN = 50


@app.command(epilog=exit_codes(11, _4="nothing matches, or no such host or module"))
def find(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", show_default=False)],
    host: HostsOption = None,
    module: ModulesOption = None,
    now: Annotated[bool, typer.Option("--now", help="Only what the newest snapshots have.")] = False,
    each: Annotated[bool, typer.Option("--each", help="A line for each host.")] = False,
    limit: Annotated[int, fleetwide.limit_option(_SHOWN, "paths")] = _SHOWN,
    as_json: JsonOption = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Find files and directories by name over all hosts and snapshots: where, since when, and whether still.

    PATTERN is compared with the last name (`*.conf`), one with a slash with the whole path (`/etc/**/ssl/*`): `*` and
    `?` stop at slashes, `**` does not; a backslash before a wildcard takes its meaning away.
    """
    if not pattern:
        raise UsageError("there is nothing to look for: the pattern is empty", "'*' finds every name")
    place = Workplace.load(config)
    with place.catalog() as catalog:
        fleetwide.must_match(place, catalog, Which(host, module))
        found = catalog.find(pattern, host=host, module=module, now=now, limit=fleetwide.bound(limit))
    if as_json:
        screen.json(_document(found))
    elif found.paths:
        _show(found, each)
    else:
        screen.note(f"nothing matches {pattern}" + (" now; without --now the past is searched too" if now else ""))
    if not found.paths:
        raise typer.Exit(fleetwide.NOTHING)


def _show(found: Found, each: bool) -> None:
    columns = [Column("PATH", fold=True), Column("WHERE", fold=True), Column("FROM"), Column("UNTIL")]
    screen.table(columns, [row for path in found.paths for row in _rows(path, each)])
    fleetwide.more(found.more, "place")


def _rows(found: FoundPath, each: bool) -> Iterable[list[screen.Cell]]:
    for sightings in [(one,) for one in found.sightings] if each else [found.sightings]:
        directory = "/" if all(one.type == "dir" for one in sightings) else ""
        path = screen.text(b"/" + found.path).append(directory)
        hosts = list(dict.fromkeys(one.host for one in sightings))
        where = f"{hosts[0]}/{sightings[0].module}" if len(sightings) == 1 else fleetwide.hosts(hosts)
        yield [path, where, _day(min(one.first.time for one in sightings)), _last(sightings)]


def _last(sightings: tuple[Sighting, ...]) -> screen.Cell:
    gone = [one.end.time for one in sightings if one.end]
    if not gone:
        return screen.text("now", screen.GOOD)
    if len(gone) < len(sightings):
        return screen.text(f"on {len(sightings) - len(gone)} of {len(sightings)}", screen.DOUBT)
    return screen.text(_day(max(gone)), screen.BAD)


def _day(moment: float) -> str:
    return amounts.local(moment).partition(" ")[0]


def _document(found: Found) -> dict[str, object]:
    return {
        "paths": [
            {
                **fleetwide.told_apart(one.path),
                "places": [
                    {
                        "host": seen.host,
                        "module": seen.module,
                        "type": seen.type,
                        "first_seen": amounts.iso(seen.first.time),
                        "last_seen": amounts.iso(seen.last.time),
                        "first": seen.first.name,
                        "last": seen.last.name,
                        "gone": amounts.iso(seen.end.time) if seen.end else None,
                        "now": seen.end is None,
                    }
                    for seen in one.sightings
                ],
            }
            for one in found.paths
        ],
        "more": found.more,
    }
