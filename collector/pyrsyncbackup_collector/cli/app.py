"""The command tree: which command is where. The commands are in the modules beside this one, one for each group."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pyrsyncbackup_collector import __version__
from pyrsyncbackup_collector.cli import READER_GONE, screen
from pyrsyncbackup_collector.cli.options import CONFIG_VARIABLE, DEFAULT_CONFIG


class Commands(typer.core.TyperGroup):
    """The commands; a closed pipe ends one with READER_GONE, which click would turn into 1, a failure."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was typed."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise SystemExit(READER_GONE) from None


# Help without rich's markup: it would take HOST[/MODULE] for a tag.
app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        screen.say(f"pyrsyncbackup {__version__}")
        raise typer.Exit


@app.callback()
def root(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            envvar=CONFIG_VARIABLE,
            show_envvar=False,
            help=f"Configuration, also after the command. [default: ${CONFIG_VARIABLE}, else {DEFAULT_CONFIG}]",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Log every step, and show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Pull backups of hosts: agents offer modules, this collector fetches them into immutable snapshots.

    REF names a snapshot: HOST/MODULE[@WHEN]. WHEN is `latest`, a snapshot's name, an age (`3d`) or a time.
    """
