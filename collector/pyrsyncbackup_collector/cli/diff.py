"""`diff`: what differs between two snapshots, also of two hosts."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.snapshots import RefArgument, document, not_in, stored_path, warn
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.entry import Entry, printable
from pyrsyncbackup_collector.store.difference import MAX_TEXT, Difference, differences, text_difference
from pyrsyncbackup_collector.store.snapshot import Snapshot
from pyrsyncbackup_collector.store.store import Store

_MARKS = {
    "added": ("+", screen.GOOD),
    "removed": ("-", screen.BAD),
    "type": ("!", screen.DOUBT),
    "content": ("M", screen.DOUBT),
    "metadata": ("m", screen.QUIET),
}
_WORDS = {
    "added": "added",
    "removed": "removed",
    "content": "changed",
    "metadata": "with other metadata",
    "type": "of another type",
}
_LINE_STYLES = (("+++", screen.TITLE), ("---", screen.TITLE), ("@@", "cyan"), ("+", screen.GOOD), ("-", screen.BAD))


@app.command(epilog=exit_codes(4, 10), short_help="Show what differs between two snapshots.")
def diff(
    before: RefArgument,
    after: Annotated[str, typer.Argument(metavar="REF", help="The later one, or that of another host.")],
    path: Annotated[str | None, typer.Argument(metavar="PATH", help="Only this and what is below.")] = None,
    brief: Annotated[bool, typer.Option("--brief", "-q", help="Which paths differ, without their lines.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Show what differs between two snapshots: + added, - removed, M content, m metadata only, ! another type.

    Changed text files follow line by line, as `diff -u` shows them.
    """
    place = Workplace.load(config)
    with place.snapshot(before) as (store, old), place.snapshot(after) as (_, new):
        wanted = stored_path(path) if path else b""
        found = [
            each
            for each in differences(store.entries(old), store.entries(new))
            if not wanted or each.path == wanted or each.path.startswith(wanted + b"/")
        ]
        if wanted and not found:
            _must_be_there(store, old, new, wanted)
        if as_json:
            screen.json({"before": document(old), "after": document(new), "differences": list(map(_document, found))})
            return
        warn(old)
        warn(new)
        for each in found:
            _show(store, each, brief=brief)
    _summary(found)


def _must_be_there(store: Store, old: Snapshot, new: Snapshot, path: bytes) -> None:
    """Raise NotFound for a path of neither snapshot: "no differences" would be taken for an answer."""
    if not any(entry.path == path for snapshot in (new, old) for entry in store.entries(snapshot)):
        raise not_in(new, path)


def _show(store: Store, difference: Difference, *, brief: bool) -> None:
    mark, style = _MARKS[difference.kind]
    fields = f"  ({', '.join(_details(difference))})" if difference.fields else ""
    screen.line(Text(f"{mark} ", style), screen.text(b"/" + difference.path, style), Text(fields, screen.QUIET))
    if not brief and difference.kind == "content" and "content" in difference.fields:
        _show_lines(store, difference)


def _details(difference: Difference) -> list[str]:
    """The changed fields, with both values where they are short."""
    old, new = difference.before, difference.after
    if old is None or new is None:
        return list(difference.fields)
    shown = {
        "size": f"size {amounts.size(old.size)} -> {amounts.size(new.size)}",
        "mode": f"mode {old.mode:04o} -> {new.mode:04o}",
        "owner": f"owner {printable(old.user) or old.uid} -> {printable(new.user) or new.uid}",
        "group": f"group {printable(old.group) or old.gid} -> {printable(new.group) or new.gid}",
        "target": f"target {printable(old.target)} -> {printable(new.target)}",
        "type": f"{old.type} -> {new.type}",
    }
    return [shown.get(field, field) for field in difference.fields]


def _show_lines(store: Store, difference: Difference) -> None:
    old, new = difference.before, difference.after
    if old is None or new is None or max(old.size, new.size) > MAX_TEXT or not (old.sha256 and new.sha256):
        return
    name = "/" + printable(difference.path)
    told = text_difference(_content(store, old), _content(store, new), name, name)
    if told.reason:
        screen.say(f"    {told.reason}: no lines are shown", screen.QUIET)
    for line in told.lines:
        style = next((style for start, style in _LINE_STYLES if line.startswith(start)), "")
        cells = [printable(cell) for cell in line.split("\t")]
        screen.line("    ", Text("\t".join(cells), style))


def _content(store: Store, entry: Entry) -> bytes:
    with store.objects.open_entry(entry) as content:
        return content.read()


def _summary(found: list[Difference]) -> None:
    if not found:
        screen.say("no differences")
        return
    kinds: Counter[str] = Counter(each.kind for each in found)
    counts = [f"{amounts.number(kinds[kind])} {word}" for kind, word in _WORDS.items() if kinds[kind]]
    screen.say(", ".join(counts), screen.TITLE)


def _document(difference: Difference) -> dict[str, object]:
    return {
        "kind": difference.kind,
        "fields": list(difference.fields),
        "before": msgspec.to_builtins(difference.before) if difference.before else None,
        "after": msgspec.to_builtins(difference.after) if difference.after else None,
    }
