"""`restore`: bringing a snapshot, or a part of it, back into a directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, PARTIAL, ConfigOption, exit_codes
from pyrsyncbackup_collector.cli.snapshots import RefArgument, stored_path, warn
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.store.restore import restore as restore_entries
from pyrsyncbackup_collector.store.restore_report import RestoreReport


@app.command(epilog=exit_codes(4, 10, 12, PARTIAL), short_help="Restore a snapshot into a directory.")
def restore(
    ref: RefArgument,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where to; made 0700 if it is not there.")],
    paths: Annotated[list[str] | None, typer.Argument(metavar="PATH", show_default=False)] = None,
    special: Annotated[
        bool, typer.Option("--special", help="Also devices, set-id bits and file capabilities.")
    ] = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Restore a snapshot, or PATHs of it, below DIR. Nothing that is in DIR already is changed or replaced.

    As root with owners, modes, times, links, ACLs and attributes; otherwise with what is possible, and what is not is
    said.
    """
    place = Workplace.load(config)
    with place.snapshot(ref) as (store, snapshot):
        warn(snapshot)
        wanted = [stored_path(path) for path in paths or []]
        with _bars(snapshot.totals.entries if not wanted else None) as bars:
            task = bars.add_task("restore", total=snapshot.totals.entries if not wanted else None)
            report = restore_entries(
                store.entries(snapshot),
                store.objects,
                to,
                paths=wanted,
                special=special,
                progress=lambda entries, _size: bars.advance(task, entries),
            )
    _show(report, f"{snapshot.host}/{snapshot.module}@{snapshot.name}")
    if not report.complete:
        raise typer.Exit(PARTIAL)


def _bars(total: int | None) -> Bars:
    console = screen.err()
    columns = (TextColumn("{task.description}"), BarColumn(24))
    counted = TextColumn("{task.completed:,.0f} of {task.total:,.0f}" if total else "{task.completed:,.0f} entries")
    return Bars(*columns, counted, console=console, transient=True, disable=not console.is_terminal)


def _show(report: RestoreReport, ref: str) -> None:
    words = {"file": "file", "dir": "directory", "link": "link"}
    counts = [amounts.counted(report.counts[kind], word) for kind, word in words.items() if report.counts.get(kind)]
    others = sum(count for kind, count in report.counts.items() if kind not in words)
    counts += [amounts.counted(others, "special file")] if others else []
    screen.say(f"restored {ref} to {report.target}: {', '.join(counts) or 'nothing'}, {amounts.size(report.size)}")
    for shortfall in report.shortfalls:
        screen.line(Text(f"  {shortfall.line()}", screen.DOUBT if shortfall.reason.missing else screen.QUIET))
    if os.geteuid() != 0 and any("root" in line for line in report.lines()):
        screen.say("  as root these would come back too", screen.QUIET)
