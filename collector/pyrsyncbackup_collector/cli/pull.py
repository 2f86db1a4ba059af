"""`pull`: bring modules into the store now, by the daemon if it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from pyrsyncbackup_collector.cli import amounts, pull_result, screen, targets
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, PARTIAL, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.progress import PullDisplay
from pyrsyncbackup_collector.cli.pull_result import Result
from pyrsyncbackup_collector.cli.status import is_alive
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.errors import BackupError
from pyrsyncbackup_collector.pull.report import PlannedChange

# So many columns of a name are aligned.
_NAMES = 32
_MARKS = {"added": "+", "removed": "-", "type": "!", "content": "M", "metadata": "m", "unreadable": "?"}


@app.command(epilog=exit_codes(4, 5, 6, 7, 8, 9, 10, 11, PARTIAL, 130))
def pull(
    which: Annotated[list[str], typer.Argument(metavar="HOST[/MODULE]", help="Both may be patterns: 'web*/nginx'.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="List what would be transferred.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Pull all modules of hosts, or those that are named, and make a snapshot of each that changed.

    If the daemon runs it is asked to do it, and followed; else it is done here. One line tells the outcome of each
    module. Where several pulls failed in different ways the exit code is 1.
    """
    place = Workplace.load(config)
    wanted = targets.parse(place.fleet, which, place.offered_modules)
    if dry_run:
        raise typer.Exit(_plan(place, wanted, as_json=as_json))
    results: list[Result] = []
    width = _width(place, wanted)
    with PullDisplay(screen.err() if as_json else None) as display:

        def told(result: Result) -> None:
            results.append(result)
            if not as_json:
                # In one piece: others may end at the same moment.
                display.line(Text("\n").join(pull_result.lines(result, width, display.room)))

        _run(place, wanted, display, told)
    if as_json:
        screen.json({"pulls": [pull_result.document(result) for result in results]})
    elif len(results) > 1:
        screen.say(_summary(results), screen.TITLE)
    raise typer.Exit(pull_result.exit_code(results))


def _width(place: Workplace, wanted: list[targets.Target]) -> int:
    """Of names, as far as they are known before; a very long one stands out rather than moving all others."""
    whole = {target.host.name for target in wanted if not target.modules}
    found = [f"{target.host.name}/{module}" for target in wanted for module in target.modules]
    found += [f"{host}/{module}" for host, module in (place.offered_modules() if whole else []) if host in whole]
    return min(max(map(len, found), default=0), _NAMES)


def _run(place: Workplace, wanted: list[targets.Target], display: PullDisplay, told: Callable[[Result], None]) -> None:
    from pyrsyncbackup_collector.cli import pull_here, pull_request

    with place.catalog() as catalog:
        if is_alive(catalog.daemon(), SystemClock().now()):
            pull_request.pull_all(catalog, wanted, display, told)
            return
    pull_here.pull_all(place, wanted, display, told)


def _summary(results: list[Result]) -> str:
    outcomes = ("complete", "unchanged", "partial", "failed", "cancelled")
    counts = [(sum(1 for result in results if result.outcome == outcome), outcome) for outcome in outcomes]
    return f"{amounts.counted(len(results), 'pull')}: " + ", ".join(
        f"{count} {name}" for count, name in counts if count
    )


def _plan(place: Workplace, wanted: list[targets.Target], *, as_json: bool) -> int:
    """Show what would be pulled; returns the exit code."""
    from pyrsyncbackup_collector.cli import pull_here

    plans: list[dict[str, object]] = []
    failed: list[Result] = []
    for name, plan in pull_here.plan_all(place, wanted):
        if isinstance(plan, BackupError):
            failed.append(pull_result.of_error(name, "", plan))
            screen.error(f"{name}: {plan.cause}", plan.hint)
            continue
        if not as_json:
            screen.say(name, screen.TITLE)
        try:
            plans.append({"name": name, **_show_plan(plan, as_json=as_json)})
        except BackupError as error:
            failed.append(pull_result.of_error(name, "", error))
            screen.error(f"{name}: {error.cause}", error.hint)
    if as_json:
        screen.json({"plans": plans})
    return pull_result.exit_code(failed)


def _show_plan(plan: Iterable[PlannedChange], *, as_json: bool) -> dict[str, object]:
    """Show the changes, or return them for JSON, with their sums."""
    changes = []
    files = size = total = 0
    for change in plan:
        total += 1
        if as_json:
            changes.append(_document(change))
        else:
            screen.line(*_line(change))
        if change.transfer and change.entry is not None:
            files, size = files + 1, size + change.entry.size
    if not as_json:
        sums = f"would transfer up to {amounts.counted(files, 'file')}, {amounts.size(size)}"
        screen.say(f"  {sums}" if total else "  nothing differs", screen.QUIET)
    return {"files": files, "bytes": size, "changes": changes}


def _line(change: PlannedChange) -> list[Text]:
    style = "" if change.transfer else screen.QUIET
    size = f"  {amounts.size(change.entry.size)}" if change.transfer and change.entry is not None else ""
    mark = screen.text(f"  {_MARKS.get(change.kind, '?')} ", style)
    return [mark, screen.text(b"/" + change.path, style), screen.text(size, screen.QUIET)]


def _document(change: PlannedChange) -> dict[str, object]:
    return {
        "path": change.path.decode("utf-8", "backslashreplace"),
        "kind": change.kind,
        "transfer": change.transfer,
        "entry": msgspec.to_builtins(change.entry) if change.entry is not None else None,
    }
