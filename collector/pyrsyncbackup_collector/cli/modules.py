"""`modules`: what the hosts offer."""

from __future__ import annotations

from typing import Annotated

import typer

from pyrsyncbackup_collector.catalog.views import ModuleView
from pyrsyncbackup_collector.cli import amounts, names, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.screen import Column
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.entry import printable

_STYLES = {"ready": screen.GOOD, "invalid": screen.BAD}


@app.command(epilog=exit_codes(4, 10, 11))
def modules(
    which: Annotated[str | None, typer.Argument(metavar="HOST[/MODULE]", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also those that the host does not have.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """List modules as offered at the last check; `host test` asks the host now. HOST and MODULE may have wildcards."""
    place = Workplace.load(config)
    wanted = names.which(which)
    if wanted.host is not None:
        place.fleet.match(wanted.host)
    of_host = names.Which(wanted.host)
    with place.catalog() as catalog:
        asked = catalog.modules(None if of_host.is_pattern else wanted.host)
    known = [module for module in asked if of_host.holds(module.host, module.name)]
    found = [module for module in known if wanted.holds(module.host, module.name)]
    if known and not found:
        raise names.no_module(wanted.host or "*", wanted.module or "*", {module.name for module in known})
    if as_json:
        screen.json({"modules": [_document(module) for module in found]})
        return
    shown = [module for module in found if everything or module.state not in ("absent", "gone")]
    if not found:
        screen.note("nothing is known yet: `pyrsyncbackup pull HOST` or the daemon asks the host")
        return
    now = SystemClock().now()
    columns = [Column("MODULE", fold=True), Column("STATE"), Column("LAST GOOD"), Column("SNAPSHOTS", right=True)]
    screen.table([*columns, Column("WHAT", fold=True)], [_row(module, now) for module in shown])
    if hidden := len(found) - len(shown):
        screen.note(f"{amounts.counted(hidden, 'module')} not present there: --all shows them too")


def _row(module: ModuleView, now: float) -> list[screen.Cell]:
    return [
        f"{module.host}/{module.name}",
        screen.text(module.state, _STYLES.get(module.state, screen.QUIET)),
        amounts.ago(module.last_good, now),
        str(module.snapshots),
        module.title if module.state == "ready" else module.reason,
    ]


def _document(module: ModuleView) -> dict[str, object]:
    return {
        "host": module.host,
        "module": module.name,
        "title": module.title,
        "state": module.state,
        "reason": module.reason,
        "paths": [printable(path) for path in module.paths],
        "has_hooks": module.has_hooks,
        "last_pull": amounts.iso(module.last_pull),
        "last_good": amounts.iso(module.last_good),
        "outcome": module.health.outcome or None,
        "failing_since": amounts.iso(module.health.failing_since),
        "cause": module.health.failure.cause if module.health.failure else None,
        "snapshots": module.snapshots,
        "newest": module.newest.name if module.newest else None,
    }
