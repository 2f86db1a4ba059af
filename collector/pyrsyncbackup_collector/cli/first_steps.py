"""`init`, `check`, `daemon`, `invitation`: setting a collector up, and running it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import stat
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from typing import IO, Annotated

import typer
from pyrsyncbackup import valid_name
from rich.text import Text

from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import CONFIG_VARIABLE, DEFAULT_CONFIG, NOT_GIVEN, ConfigOption, exit_codes
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.errors import BackupError, UsageError


@app.command(epilog=exit_codes(10, 11))
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the configuration goes.")],
    store: Annotated[Path | None, typer.Option("--store", metavar="DIR", help="Where the store goes.")] = None,
    catalog: Annotated[Path | None, typer.Option("--catalog", metavar="FILE", help="Where the catalog goes.")] = None,
) -> None:
    """Write a commented configuration to DIR, and make keys, store and catalog.

    Store and catalog go beside the configuration; for a DIR in /etc into the directory of the same name in /var/lib.
    What is there already is kept: run it again after changing `store` in the new collector.toml, for example.
    """
    directory = directory.absolute()
    file = directory / "collector.toml"
    if (store or catalog) and file.exists():
        raise UsageError(f"{file} is there already", "change `store` and `catalog` in it, then run this again without")
    places = _places(directory, store, catalog)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / "hosts.d").mkdir(mode=0o700, exist_ok=True)
        _template("collector.toml", file, places)
        if not any((directory / "hosts.d").iterdir()):
            _template("hosts.toml", directory / "hosts.d" / "hosts.toml", {})
    except OSError as error:
        raise BackupError(f"cannot write the configuration: {error.filename}: {error.strerror}") from error
    place = Workplace.load(file)
    _made(place.make_keys(), "keys", place.config.state)
    _made(place.make_store(), "store", place.config.store)
    _made(place.make_catalog(), "catalog", place.config.catalog)
    screen.say()
    screen.say("Next:", screen.TITLE)
    if file != DEFAULT_CONFIG:
        screen.say(f"  export {CONFIG_VARIABLE}={shlex.quote(str(file))}")
    screen.say(f"  add a host to {directory / 'hosts.d' / 'hosts.toml'}, then: pyrsyncbackup check")
    screen.say("  pyrsyncbackup invitation HOST > FILE")
    screen.say("  on the host: pyrsyncbackup-agent accept FILE")
    screen.say("  pyrsyncbackup host trust HOST, then: pyrsyncbackup pull HOST")


def _places(directory: Path, store: Path | None, catalog: Path | None) -> dict[str, str]:
    """What the template has for store and catalog -> what this configuration gets."""
    data = Path()
    if directory.parent == Path("/etc"):
        data = Path("/var/lib") / directory.name
    return {
        'store = "store"': f"store = {_toml(store.absolute() if store else data / 'store')}",
        'catalog = "catalog.sqlite"': f"catalog = {_toml(catalog.absolute() if catalog else data / 'catalog.sqlite')}",
    }


def _toml(path: Path) -> str:
    # A JSON string is a TOML string.
    return json.dumps(str(path), ensure_ascii=False)


def _template(name: str, target: Path, changes: Mapping[str, str]) -> None:
    if target.exists():
        _made(False, "configuration", target)
        return
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    for default, chosen in changes.items():
        text = text.replace(default, chosen, 1)
    target.write_text(text, encoding="utf-8")
    _made(True, "configuration", target)


def _made(new: bool, what: str, path: Path) -> None:
    screen.say(f"{'new ' if new else 'kept'}  {what:<14} {path}", "" if new else screen.QUIET)


@app.command(epilog=exit_codes(4))
def invitation(
    host: Annotated[str | None, typer.Argument(metavar="HOST", show_default=False)] = None,
    via: Annotated[
        str | None,
        typer.Option("--via", metavar="RELAY", help="For all hosts behind this relay; with HOST: for that new one."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What hosts call this collector.")] = None,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Print an invitation: what `pyrsyncbackup-agent accept FILE` needs on a host, or on every host.

    It holds a secret that proves the host at first contact: `pyrsyncbackup invitation web1 > web1.txt`, carry it there
    by a way that you trust, and delete it afterwards. One for a single HOST is worth nothing to the others. Behind a
    relay only the host's own or one with --via proves a host, and the relay itself must not have it.
    """
    place = Workplace.load(config)
    if via is not None:
        place.fleet.host(via)
        if host == via:
            raise UsageError(
                f"{via} must not have the invitation of the hosts behind it", f"`pyrsyncbackup invitation {via}`"
            )
    if host is not None and (via is None or not valid_name(host)):
        place.known_or_offered(host)
    if name is not None and not valid_name(name):
        raise UsageError(f"{name!r} is no name", "use a-z, 0-9, dot, dash and underscore")
    from pyrsyncbackup_collector.transport.invitations import invite

    os.umask(0o077)
    _only_for_the_owner(sys.stdout)
    screen.raw(invite(place.config.state, host, name, via=None if host else via).format().encode())


def _only_for_the_owner(output: IO[str]) -> None:
    """The shell that made the file for `>` knew nothing of a secret: take the others' permissions away."""
    with contextlib.suppress(io.UnsupportedOperation):
        if not stat.S_ISREG(mode := os.fstat(output.fileno()).st_mode):
            return
        try:
            os.fchmod(output.fileno(), 0o600)
        except OSError:
            if mode & 0o077:
                screen.note("this file holds a secret, and others can read it: chmod 600", screen.DOUBT)


@app.command(epilog=exit_codes(9, 10, 11, 12, 16))
def check(config: ConfigOption = NOT_GIVEN) -> None:
    """Read the configuration and try what it names: keys, store, catalog, sandbox, mirrors, second copies.

    Asks no host that is backed up; into each copy a small file is written, and removed again. All problems of the
    files are told at once; the exit code is that of the first part that fails.
    """
    place = Workplace.load(config)
    screen.line(_ok("configuration"), f"{place.config.file}: {amounts.counted(len(place.fleet.hosts), 'host')}")
    failed: BackupError | None = None
    parts: list[tuple[str, Callable[[], str]]] = [
        ("keys", place.try_keys),
        ("store", place.try_store),
        ("catalog", place.try_catalog),
        ("space", place.try_room),
        ("sandbox", place.try_sandbox),
        *([("mirrors", place.try_mirrors)] if place.has_mirrors else []),
        *((f"copy {copy.name}", partial(place.try_copy, copy)) for copy in place.config.copies),
    ]
    for what, work in parts:
        try:
            screen.line(_ok(what), work())
        except BackupError as error:
            screen.line(Text.assemble(_part(what), ("failed", screen.BAD)))
            screen.error(error.cause, error.hint)
            failed = failed or error
    if failed is not None:
        raise typer.Exit(failed.exit_code)


def _ok(what: str) -> Text:
    return Text.assemble(_part(what), ("ok", screen.GOOD), "  ")


def _part(what: str) -> str:
    return f"{what:<14}" if len(what) < 14 else f"{what}  "


@app.command(epilog=exit_codes(9, 10, 11))
def daemon(context: typer.Context, config: ConfigOption = NOT_GIVEN) -> None:
    """Check and pull by policy until SIGTERM or Ctrl-C; SIGHUP reads the configuration again.

    Logs go to standard error: lines for people on a terminal, JSON otherwise.
    """
    place = Workplace.load(config)
    from pyrsyncbackup_collector import daemon as composition
    from pyrsyncbackup_collector import logs

    logs.configure(level="debug" if context.find_root().params.get("debug") else "info")
    composition.run(place.config)
