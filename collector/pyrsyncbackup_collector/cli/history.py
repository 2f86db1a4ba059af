"""`history`: the versions of one path, and who else has them now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from pyrsyncbackup_collector.catalog.finding import PathVersion
from pyrsyncbackup_collector.cli import amounts, fleetwide, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.names import Which
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.snapshots import stored_path
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.entry import FILE, SYMLINK, printable
from pyrsyncbackup_collector.errors import NotFound

_SHOWN = 20

# The hosts that have a content now, by what stands for it.
Holders = dict[tuple[str, bytes | None, int], list[str]]


@app.command(epilog=exit_codes(4, 11))
def history(
    module: Annotated[str, typer.Argument(metavar="HOST/MODULE", show_default=False)],
    path: Annotated[str, typer.Argument(metavar="PATH", show_default=False)],
    limit: Annotated[int, fleetwide.limit_option(_SHOWN, "versions")] = _SHOWN,
    as_json: JsonOption = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Show each version of a path, the newest first: from when until when, and who else has the same now.

    Others are hosts that have it at the same path of a module with the same name.
    """
    place = Workplace.load(config)
    host, name = fleetwide.module_named(module)
    wanted = stored_path(path)
    with place.catalog() as catalog:
        fleetwide.must_match(place, catalog, Which(host, name))
        versions = catalog.path_history(host, name, wanted)
        if not versions:
            raise NotFound(
                f"no snapshot of {host}/{name} has /{printable(wanted)}",
                f"`pyrsyncbackup find {fleetwide.typed(wanted.rpartition(b'/')[2])}` looks for it on all hosts",
            )
        oldest = catalog.snapshots(host, name)[0].sequence
        holders: Holders = defaultdict(list)
        for holder in catalog.holders(name, wanted):
            if holder.host != host:
                holders[holder.state.content].append(holder.host)
    versions.reverse()
    shown = versions[: fleetwide.bound(limit)]
    if as_json:
        documents = [_document(version, holders) for version in shown]
        screen.json({"host": host, "module": name, **fleetwide.told_apart(wanted), "versions": documents})
        return
    screen.line(screen.text(f"{host}/{name} ", screen.TITLE), screen.text(b"/" + wanted, screen.TITLE))
    _show(shown, versions, holders, oldest)
    fleetwide.more(len(versions) - len(shown), "version")


def _show(shown: Sequence[PathVersion], versions: Sequence[PathVersion], holders: Holders, oldest: int) -> None:
    screen.say(f"{'FROM':<16}  {'UNTIL':<16}  {'SIZE':>8}  {'DIGEST':<12}  CHANGE", screen.TITLE)
    for number, version in enumerate(shown):
        before = versions[number + 1] if number + 1 < len(versions) else None
        if version.end and (number == 0 or versions[number - 1].first != version.end):
            screen.say(f"{amounts.local(version.end.time):<16}  {'':<42}not there", screen.BAD)
        until = amounts.local(version.end.time) if version.end else "now"
        size = amounts.size(version.state.size) if version.state.type == FILE else version.state.type
        digest = fleetwide.short(version.sha256)
        moments = f"{amounts.local(version.first.time):<16}  {until:<16}  {size:>8}  {digest:<12}  "
        screen.line(Text(moments), screen.text(_what(before, version, oldest)))
        last = (
            "" if version.snapshots == 1 else f" to {version.last.sequence:06d} ({amounts.number(version.snapshots)})"
        )
        others = holders.get(version.state.content, [])
        also = f"; now also on {fleetwide.few(others)}" if others else ""
        screen.say(f"  snapshot {version.first.name}{last}{also}", screen.QUIET)


def _what(before: PathVersion | None, version: PathVersion, oldest: int) -> str:
    """What became different, in few words; what the oldest snapshot has may have been there for long."""
    if before is None:
        return "first seen" if version.first.sequence == oldest else "added"
    if version.kind == "added":
        return "added again"
    old, new = before.state, version.state
    if version.kind == "type":
        return f"{old.type} -> {new.type}"
    words: list[str] = []
    if version.kind == "content":
        words.append("target" if new.type == SYMLINK else "content")
    if old.mode != new.mode:
        words.append(f"mode {old.mode:04o} -> {new.mode:04o}")
    if old.access[1] != new.access[1]:
        words.append("owner or attributes")
    if not words and (old.mtime_s, old.mtime_ns) != (new.mtime_s, new.mtime_ns):
        words.append("time")
    return ", ".join(words) or "metadata"


def _document(version: PathVersion, holders: Holders) -> dict[str, object]:
    state = version.state
    return {
        "from": amounts.iso(version.first.time),
        "until": amounts.iso(version.end.time) if version.end else None,
        "first": version.first.name,
        "last": version.last.name,
        "snapshots": version.snapshots,
        "change": version.kind,
        "type": state.type,
        "mode": state.mode,
        "size": state.size,
        "mtime_s": state.mtime_s,
        "mtime_ns": state.mtime_ns,
        "sha256": version.sha256,
        "also_on": holders.get(state.content, []),
    }
