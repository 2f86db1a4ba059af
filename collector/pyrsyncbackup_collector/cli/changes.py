"""`changes`: what changed in the fleet, equal changes of many hosts told once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from pyrsyncbackup_collector.catalog.changing import (
    MOST,
    ChangeGroup,
    Changes,
    PathChange,
    SnapshotChanges,
    grouped,
)
from pyrsyncbackup_collector.cli import amounts, fleetwide, names, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.marks import MARKS, WORDS
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.errors import UsageError
from pyrsyncbackup_collector.store.reference import parse_since

_SHOWN = 20
_PATHS = 10


@app.command(epilog=exit_codes(4, 11))
def changes(
    which: Annotated[str | None, typer.Argument(metavar="HOST[/MODULE]", show_default=False)] = None,
    since: Annotated[str, typer.Option("--since", metavar="WHEN", help="An age (12h, 7d), or a date or time.")] = "1d",
    each: Annotated[bool, typer.Option("--each", help="Each snapshot apart; always so for one HOST.")] = False,
    paths: Annotated[int, typer.Option("--paths", metavar="N", min=0, help="Name at most N paths; 0: all.")] = _PATHS,
    limit: Annotated[int, fleetwide.limit_option(_SHOWN, "groups")] = _SHOWN,
    as_json: JsonOption = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Show what the snapshots since WHEN changed, newest first: + added, - removed, M content, m metadata only.

    Paths that changed alike on the same hosts are told together, once. HOST and MODULE may have wildcards.
    """
    place = Workplace.load(config)
    now = SystemClock().now()
    begin = parse_since(since, now)
    if begin > now:
        raise UsageError(f"{since!r} is still to come", "write an age (1d, 12h) or a time that has been")
    wanted = names.which(which)
    with place.catalog() as catalog:
        fleetwide.must_match(place, catalog, wanted)
        found = catalog.changes_since(begin, wanted.host, wanted.module)
    if as_json:
        screen.json(_document(begin, found))
        return
    apart = each or bool(wanted.host and not names.is_pattern(wanted.host))
    blocks = [_alone(one) for one in found.snapshots] if apart else grouped(found.snapshots)
    for block in blocks[: fleetwide.bound(limit)]:
        _show(block, paths)
    _summary(found, since)
    fleetwide.more(len(blocks) - len(blocks[: fleetwide.bound(limit)]), "group")
    if found.cut:
        screen.note(f"only the newest {amounts.number(MOST)} changes were read; ask for less with --since or HOST")


def _alone(one: SnapshotChanges) -> ChangeGroup:
    time = one.snapshot.time
    return ChangeGroup(one.module, (one.host,), one.changes, one.first, time, time)


def _show(group: ChangeGroup, paths: int) -> None:
    until = amounts.local(group.end)
    when = amounts.local(group.begin)
    if until != when:
        when += f" to {until.removeprefix(when[:11])}"
    where = (
        f"{group.hosts[0]}/{group.module}"
        if len(group.hosts) == 1
        else f"{group.module} on {fleetwide.hosts(group.hosts)}"
    )
    screen.line(Text(f"{when}  ", screen.QUIET), screen.text(where, screen.TITLE))
    if group.first:
        screen.say("  first snapshot", screen.QUIET)
    for change in group.changes[: fleetwide.bound(paths)]:
        mark, style = MARKS[change.kind]
        screen.line(Text(f"  {mark} ", style), screen.text(b"/" + change.path, style))
    left = group.changes[paths:] if paths else ()
    if left:
        screen.say(f"    and {_counts(left)} more; --paths 0 names all", screen.QUIET)


def _counts(found: Sequence[PathChange]) -> str:
    kinds: Counter[str] = Counter(change.kind for change in found)
    return ", ".join(f"{amounts.number(kinds[kind])} {word}" for kind, word in WORDS.items() if kinds[kind])


def _summary(found: Changes, since: str) -> None:
    every = [change for one in found.snapshots for change in one.changes]
    first = sum(one.first for one in found.snapshots)
    parts = [_counts(every)] if every else []
    parts += [amounts.counted(first, "first snapshot")] if first else []
    hosts = {one.host for one in found.snapshots}
    where = f" on {amounts.counted(len(hosts), 'host')}" if hosts else ""
    screen.sentence((", ".join(parts) or f"nothing changed since {since}") + where, screen.TITLE)


def _document(since: float, found: Changes) -> dict[str, object]:
    return {
        "since": amounts.iso(since),
        "cut": found.cut,
        "groups": [
            {
                "module": group.module,
                "hosts": list(group.hosts),
                "begin": amounts.iso(group.begin),
                "end": amounts.iso(group.end),
                "first": group.first,
                "changes": _changes(group.changes),
            }
            for group in grouped(found.snapshots)
        ],
        "snapshots": [
            {
                "ref": f"{one.host}/{one.module}@{one.snapshot.name}",
                "host": one.host,
                "module": one.module,
                "time": amounts.iso(one.snapshot.time),
                "first": one.first,
                "entries": one.entries,
                "counts": dict(Counter(change.kind for change in one.changes)),
                "changes": _changes(one.changes),
            }
            for one in found.snapshots
        ],
    }


def _changes(found: Sequence[PathChange]) -> list[dict[str, object]]:
    return [{**fleetwide.told_apart(change.path), "kind": change.kind} for change in found]
