"""`schedule`: when each module is pulled next, and why then."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import typer

from pyrsyncbackup_collector import config as configuration
from pyrsyncbackup_collector.catalog.views import HostView, ModuleView
from pyrsyncbackup_collector.cli import amounts, names, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.screen import Column
from pyrsyncbackup_collector.cli.status import is_alive
from pyrsyncbackup_collector.cli.targets import Target, parse
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.config import Policy
from pyrsyncbackup_collector.config.calendar import Calendar
from pyrsyncbackup_collector.config.zones import zone_of
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.schedule.forecast import Forecast, Why, following, forecast

_STYLES = {Why.BACKOFF: screen.BAD, Why.CLOSED: screen.BAD, Why.WINDOW: screen.DOUBT, Why.BLACKOUT: screen.DOUBT}


@dataclass(frozen=True, slots=True)
class _Row:
    """A module with its next pulls."""

    host: str
    module: str
    policy: Policy
    last: float | None
    found: tuple[Forecast, ...]
    waits_for: str

    @property
    def next(self) -> Forecast:
        return self.found[0]


@app.command(epilog=exit_codes(4, 10, 11))
def schedule(
    targets: Annotated[list[str] | None, typer.Argument(metavar="HOST[/MODULE]", show_default=False)] = None,
    number: Annotated[int, typer.Option("--next", min=1, max=1000, help="Show so many moments of each.")] = 1,
    as_json: JsonOption = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Show when each module is pulled next and why then, the soonest first; HOST may be a pattern.

    The reason is an interval or a moment of the calendar, else what puts it off: a window that is not open yet, a
    blackout, a wait after a failure. A check that sees a change brings the pull forward, to the next open window.
    """
    place = Workplace.load(config)
    now = SystemClock().now()
    wanted = (
        parse(place.fleet, targets, place.offered_modules)
        if targets
        else [Target(h, ()) for h in place.fleet.hosts if h.enabled]
    )
    with place.catalog() as catalog:
        known = catalog.fleet()
    rows = _rows(place, wanted, known.hosts, known.modules, number, now)
    if as_json:
        screen.json(_document(rows, now))
    elif not rows:
        screen.note("nothing is known yet: `pyrsyncbackup pull HOST` or the daemon asks the hosts")
    else:
        _show(rows, now)
        if not is_alive(known.daemon, now):
            screen.say("daemon: does not run; nothing is pulled by schedule", screen.DOUBT)


def _rows(
    place: Workplace,
    wanted: Sequence[Target],
    hosts: Sequence[HostView],
    modules: Sequence[ModuleView],
    number: int,
    now: float,
) -> list[_Row]:
    by_name = {host.name: host for host in hosts}
    found = []
    for target in wanted:
        # What the configuration leaves out may have been known from before.
        of_host = (one for one in modules if one.host == target.host.name and target.host.wants(one.name))
        own = [one for one in of_host if one.state == "ready"]
        missing = set(target.modules) - {one.name for one in own}
        if missing:
            raise names.no_module(target.host.name, min(missing), [one.name for one in own])
        for module in own:
            if not target.modules or module.name in target.modules:
                found.append(_row(place, target.host, by_name.get(module.host), module, number, now))
    return sorted(found, key=lambda row: (row.next.at, row.host, row.module))


def _row(place: Workplace, host: Host, whole: HostView | None, module: ModuleView, number: int, now: float) -> _Row:
    policy = configuration.effective(place.config, host.name, module.name, module.hints)
    healths = [health for health in (whole.health if whole else None, module.health) if health is not None]
    waits = [health for health in healths if health.outcome == "failed" and health.next_try is not None]
    latest = max(waits, key=lambda health: health.next_try or 0.0, default=None)
    until = latest.next_try if latest is not None and latest.next_try is not None else 0.0
    first = forecast(policy, host.name, module.name, last=module.last_listed, now=now, waits_until=until)
    more = itertools.islice(following(policy, host.name, module.name, first.at), number - 1)
    cause = latest.failure.cause if latest is not None and latest.failure is not None else ""
    found = (first, *(one for one in more if not math.isinf(one.at)))
    return _Row(host.name, module.name, policy, module.last_listed, found, cause if first.why is Why.BACKOFF else "")


def _show(rows: Sequence[_Row], now: float) -> None:
    columns = [Column("MODULE", fold=True), Column("NEXT PULL"), Column("IN", right=True), Column("WHY", fold=True)]
    cells: list[list[screen.Cell]] = []
    for row in rows:
        for place, one in enumerate(row.found):
            name = f"{row.host}/{row.module}" if place == 0 else ""
            reason = screen.text(_reason(row, one), _STYLES.get(one.why, ""))
            cells.append([name, _moment(one), _in(one, now), reason])
    screen.table(columns, cells)
    screen.say()
    screen.say(f"moments are of this machine's clock ({_machine_zone(now)})", screen.QUIET)


def _moment(one: Forecast) -> str:
    return "never" if math.isinf(one.at) else amounts.local(one.at)


def _in(one: Forecast, now: float) -> str:
    if math.isinf(one.at):
        return "-"
    return "now" if one.at <= now else amounts.span(one.at - now)


def _reason(row: _Row, one: Forecast) -> str:
    policy = row.policy
    zone = f" ({policy.zone})" if policy.zone else ""
    every = f"{policy.pull.text}{zone}" if isinstance(policy.pull, Calendar) else f"every {_every(policy.pull)}"
    sentences = {
        Why.NEW: "it was not pulled yet",
        Why.INTERVAL: every,
        Why.CALENDAR: every,
        Why.BACKOFF: f"waits after a failure: {row.waits_for}" if row.waits_for else "waits after a failure",
        Why.WINDOW: f"{every}; waits for a window: {', '.join(span.text for span in policy.windows)}{zone}",
        Why.BLACKOUT: f"{every}; blackout: {one.blackout}{zone}",
        Why.DISABLED: "enabled = false in its policy",
        Why.CLOSED: "no window is ever open" if policy.windows else "never comes",
    }
    return sentences[one.why]


def _every(seconds: float) -> str:
    """As it is written in the configuration: 90m is 1h30m."""
    text, left = "", int(seconds)
    for length, unit in ((604800, "w"), (86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        if left >= length:
            text, left = f"{text}{left // length}{unit}", left % length
    return text


def _machine_zone(now: float) -> str:
    zone = zone_of(None)
    return str(getattr(zone, "key", None) or datetime.fromtimestamp(now, zone).tzname())


def _document(rows: Sequence[_Row], now: float) -> dict[str, object]:
    return {
        "time": amounts.iso(now),
        "modules": [
            {
                "host": row.host,
                "module": row.module,
                "pull": row.policy.pull.text if isinstance(row.policy.pull, Calendar) else _every(row.policy.pull),
                "zone": row.policy.zone or _machine_zone(now),
                "windows": [span.text for span in row.policy.windows],
                "blackouts": [span.text for span in row.policy.blackouts],
                "last": amounts.iso(row.last),
                "next": [
                    {
                        "at": None if math.isinf(one.at) else amounts.iso(one.at),
                        "why": one.why.value,
                        "reason": _reason(row, one),
                    }
                    for one in row.found
                ],
            }
            for row in rows
        ],
    }
