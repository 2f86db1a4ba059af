"""`drill`: restoring snapshots to see that they come back, and that what comes back is usable."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pyrsyncbackup_collector.cli import amounts, chore, fleetwide, names, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, PROBLEMS, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.workplace import Workplace

# What a validator's outcome means to a person, and its colour.
_OUTCOMES = {
    "passed": ("its validator is content", screen.GOOD),
    "failed": ("its validator is not content", screen.BAD),
    "timed out": ("its validator did not end in time", screen.BAD),
    "absent": ("its validator is not installed here", screen.QUIET),
    "not run": ("its validator was not run", screen.QUIET),
}


@app.command(
    epilog=exit_codes(4, 10, 11, 12, 130, _14="something did not come back, or a validator was not content"),
)
def drill(
    which: Annotated[
        str | None, typer.Argument(metavar="HOST[/MODULE]", help="Default: those whose turn it is.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Restore snapshots into a private directory, compare them with their manifests, and try them out.

    Mostly the newest complete snapshot of a module is taken, sometimes an older one; of large modules a random part.
    Where a module names a validator (`nginx -t`) that is installed here it is run in a sandbox. HOST and MODULE may
    have wildcards.
    """
    place = Workplace.load(config)
    wanted = names.which(which)
    if wanted.host is not None:
        with place.catalog() as catalog:
            fleetwide.must_match(place, catalog, wanted)
    named = {"host": wanted.host, "module": wanted.module}
    document = chore.do(place, "drill", {name: value for name, value in named.items() if value is not None})
    if as_json:
        screen.json(document)
    else:
        for held in document["drills"]:
            _show(held)
        for failed in document["failed"]:
            screen.error(f"{failed['host']}/{failed['module']}: {failed['cause']}", failed["hint"])
        if not document["drills"] and not document["failed"]:
            screen.say("there is no snapshot to restore")
    if document["problems"]:
        raise typer.Exit(PROBLEMS)


def _show(held: dict[str, Any]) -> None:
    name = f"{held['host']}/{held['module']}@{held['snapshot']}"
    part = "" if held["whole"] else " (a part of it)"
    what = f"{amounts.counted(held['entries'], 'entry')}, {amounts.size(held['bytes'])}{part}"
    if held["differences"]:
        words, style = f"{amounts.counted(held['differences'], 'entry')} did not come back", screen.BAD
    else:
        words, style = "all came back", screen.GOOD
    screen.line(screen.text(f"{name}: ", screen.TITLE), f"{what}: ", screen.text(words, style))
    for example in held["examples"]:
        screen.line(screen.text(f"  {example}", screen.BAD))
    if held["validation"]:
        text, style = _OUTCOMES[held["validation"]]
        screen.line(screen.text(f"  {text}", style))
        if held["validation"] != "passed":
            for line in held["said"]:
                screen.line(screen.text(f"    {line}", screen.QUIET))
