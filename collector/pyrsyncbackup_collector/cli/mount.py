"""`mount`: all hosts, modules and snapshots as a read-only file system."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Annotated

import typer

from pyrsyncbackup_collector.cli import screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, exit_codes
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import BackupError, RestoreError


@app.command(epilog=exit_codes(10, 12))
def mount(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An empty directory.", readable=False)],
    others: Annotated[
        bool, typer.Option("--allow-other", help="All users may look, as far as the files' modes let them.")
    ] = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Show all hosts, modules and snapshots below DIR as HOST/MODULE/SNAPSHOT/PATH, until Ctrl-C or `umount DIR`.

    `latest` beside the snapshots leads to the newest one. Links are shown as they were on the host: absolute ones lead
    to files of this machine. A snapshot that is looked into is not pruned meanwhile.
    """
    from pyrsyncbackup_collector.mount.filesystem import mount as mount_store

    place = Workplace.load(config)
    target = _target(directory)
    told: set[str] = set()

    def tell(path: str, error: BackupError) -> None:
        # The same object may be asked for by a whole `grep -r`.
        if error.cause not in told:
            told.add(error.cause)
            screen.error(f"{printable(path)}: {error.cause}", error.hint)

    def begun() -> None:
        screen.say(f"mounted at {printable(str(target))}; it ends with Ctrl-C, or `umount` of it")

    with place.store() as store:
        mount_store(store, target, SystemClock(), tell, begun, others=others)


def _target(directory: Path) -> Path:
    """The directory, absolute. Raises RestoreError where nothing can be mounted."""
    name = printable(str(directory))
    try:
        if os.path.ismount(directory):
            raise RestoreError(f"cannot mount at {name}: something is mounted there", f"`umount {name}` first")
        if next(directory.iterdir(), None) is not None:
            raise RestoreError(f"cannot mount at {name}: it is not empty", "name an empty directory")
    except NotADirectoryError as error:
        raise RestoreError(f"cannot mount at {name}: it is no directory", "name an empty directory") from error
    except OSError as error:
        raise RestoreError(f"cannot mount at {name}: {error.strerror}", _remedy(error.errno, name)) from error
    return directory.absolute()


def _remedy(code: int | None, name: str) -> str:
    if code == errno.ENOTCONN:
        return f"`umount {name}` first: whoever had mounted it was killed"
    return f"`mkdir {name}`, or name another" if code == errno.ENOENT else "name an empty directory"
