"""`init`, `check`, `daemon`, `invitation`: setting a collector up, and running it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from pyrsyncbackup_collector.cli import screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import exit_codes
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.errors import BackupError


@app.command(epilog=exit_codes(10, 11), short_help="Write a first configuration, make keys and store.")
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the configuration goes.")],
) -> None:
    """Write a commented configuration to DIR, and make keys, store and catalog.

    What is there already is kept: run it again after changing `store` in the new collector.toml, for example.
    """
    directory = directory.absolute()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / "hosts.d").mkdir(mode=0o700, exist_ok=True)
        _template("collector.toml", directory / "collector.toml")
        if not any((directory / "hosts.d").iterdir()):
            _template("hosts.toml", directory / "hosts.d" / "hosts.toml")
    except OSError as error:
        raise BackupError(f"cannot write the configuration: {error.filename}: {error.strerror}") from error
    place = Workplace.load(directory / "collector.toml")
    _made(place.make_keys(), "keys", place.config.state)
    _made(place.make_store(), "store", place.config.store)
    _made(place.make_catalog(), "catalog", place.config.catalog)
    screen.say()
    screen.say("Next:", screen.TITLE)
    screen.say(f"  add a host to {directory / 'hosts.d' / 'hosts.toml'}")
    screen.say(f"  export PYRSYNCBACKUP_CONFIG={directory / 'collector.toml'}")
    screen.say("  pyrsyncbackup invitation HOST      and on the host: pyrsyncbackup-agent accept FILE")
    screen.say("  pyrsyncbackup host trust HOST")


def _template(name: str, target: Path) -> None:
    if target.exists():
        _made(False, "configuration", target)
        return
    target.write_text(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"), encoding="utf-8")
    _made(True, "configuration", target)


def _made(new: bool, what: str, path: Path) -> None:
    screen.say(f"{'new ' if new else 'kept'}  {what:<14} {path}", "" if new else screen.QUIET)
