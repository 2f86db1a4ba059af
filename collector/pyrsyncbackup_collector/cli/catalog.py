"""`catalog rebuild`: the index made anew from the store."""

from __future__ import annotations

import typer

from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, exit_codes
from pyrsyncbackup_collector.cli.workplace import Workplace

catalog_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The database of history and index.")
app.add_typer(catalog_app, name="catalog")


@catalog_app.command("rebuild", epilog=exit_codes(10, 11), short_help="Make the catalog anew from the store.")
def rebuild(config: ConfigOption = NOT_GIVEN) -> None:
    """Make the catalog anew from the store's manifests and logs; the old file is kept as NAME.old.

    The daemon must not run. The history of runs is carried over as far as the old catalog can be read.
    """
    from pyrsyncbackup_collector.catalog.rebuild import rebuild as rebuild_catalog

    place = Workplace.load(config)
    with place.store(lock=True) as store:
        with screen.err().status("reading manifests"):
            done = rebuild_catalog(place.config.catalog, store)
        done.catalog.close()
    screen.say(f"{place.config.catalog}: {amounts.counted(done.snapshots, 'snapshot')} of store {store.id}")
    if "runs" not in done.carried:
        screen.say("  the history of runs could not be carried over", screen.DOUBT)
    for recorded, reason in done.damaged:
        screen.line("  ", screen.text(f"{recorded.host}/{recorded.module}@{recorded.name}: {reason}", screen.BAD))
