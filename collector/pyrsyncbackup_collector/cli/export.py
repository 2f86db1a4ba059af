"""`export`: handing snapshots to another program's repository."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pyrsyncbackup_collector.cli import screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, PARTIAL, ConfigOption, exit_codes
from pyrsyncbackup_collector.cli.snapshots import warn
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.copies import restic_command, restic_process
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.store.snapshot import Snapshot


@app.command(epilog=exit_codes(4, 10, PARTIAL, 16))
def export(
    refs: Annotated[list[str], typer.Argument(metavar="REF...", show_default=False)],
    restic: Annotated[
        str,
        typer.Option(
            "--restic", metavar="REPO", envvar="RESTIC_REPOSITORY", show_default=False, help="Its repository."
        ),
    ],
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", metavar="FILE", show_default=False, help="[default: restic's environment]"),
    ] = None,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Hand snapshots to restic: each becomes one of its snapshots, of the same host and time, tagged with its REF.

    restic reads them through a file system that shows owners, modes, times and attributes as they were, so it needs no
    root and no space for a restored tree; it needs FUSE. What is there already is not saved again. The repository must
    exist; its password comes from a file or from restic's own environment.
    """
    place = Workplace.load(config)
    environment = restic_command.environment(os.environ, restic, password_file)
    incomplete = False
    with restic_process.mounted(config, Cancel().wait) as shown:
        for ref in refs:
            with place.snapshot(ref) as (_, snapshot):
                warn(snapshot)
                incomplete |= not _export(snapshot, shown, environment)
    if incomplete:
        raise typer.Exit(PARTIAL)


def _export(snapshot: Snapshot, shown: Path, environment: dict[str, str]) -> bool:
    """Whether restic has all of it."""
    name = restic_command.tag(snapshot)
    found = restic_process.run(restic_command.find(snapshot), environment)
    if found.code != 0:
        raise restic_command.failure(found.code, found.words)
    if restic_command.is_there(found.output):
        screen.say(f"{name}: is there already", screen.QUIET)
        return True
    directory = shown / snapshot.host / snapshot.module / snapshot.name
    with screen.err().status(f"{name}: restic backup"):
        done = restic_process.run(restic_command.backup(snapshot), environment, directory)
    if done.code not in (0, restic_command.INCOMPLETE):
        raise restic_command.failure(done.code, done.words)
    if done.code == restic_command.INCOMPLETE:
        screen.say(f"{name}: saved, but for what restic could not read:", screen.DOUBT)
        for line in restic_command.unread(done.words):
            screen.paragraph(line)
        return False
    screen.say(f"{name}: saved")
    return True
