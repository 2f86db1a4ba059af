"""`diff`: what differs between two snapshots, also of two hosts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.diff_names import different_names, show_names
from pyrsyncbackup_collector.cli.diff_stat import Statistics
from pyrsyncbackup_collector.cli.lines import show_lines
from pyrsyncbackup_collector.cli.marks import MARKS, WORDS
from pyrsyncbackup_collector.cli.options import (
    NOT_GIVEN,
    ConfigOption,
    FromOption,
    IdentityOption,
    JsonOption,
    exit_codes,
)
from pyrsyncbackup_collector.cli.snapshots import RefArgument, document, not_in, stored_path, warn
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import NotFound, UsageError
from pyrsyncbackup_collector.store.difference import Difference, differences
from pyrsyncbackup_collector.store.snapshot import Snapshot
from pyrsyncbackup_collector.store.store import Store


@app.command(epilog=exit_codes(4, 10))
def diff(
    ref: RefArgument,
    others: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REF] [PATH...]",
            help="The later one, or that of another host; without, REF is compared with the snapshot before it. "
            "Only PATHs and what is below; without a second REF they begin with a slash.",
            show_default=False,
        ),
    ] = None,
    brief: Annotated[bool, typer.Option("--brief", "-q", help="Which paths differ, without their lines.")] = False,
    names: Annotated[bool, typer.Option("--name-only", help="Nothing but the paths.")] = False,
    stat: Annotated[bool, typer.Option("--stat", help="How many lines each file gained and lost.")] = False,
    times: Annotated[
        bool, typer.Option("--times", help="Between hosts: also what differs in its time of modification alone.")
    ] = False,
    as_json: JsonOption = False,
    copy: FromOption = None,
    identity: IdentityOption = None,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Show what differs between two snapshots: + added, - removed, M content, m metadata only, ! another type.

    Changed text files follow line by line, as `diff -u` shows them; of others size and digest.
    """
    if brief + names + stat > 1:
        raise UsageError("--brief, --name-only and --stat exclude each other", "choose one of them")
    place = Workplace.reading(config, copy, identity)
    after, paths = _told_apart(others or [])
    wanted = [stored_path(path) for path in paths]
    if names and (found := different_names(place, ref, after, wanted)):
        show_names(found, as_json=as_json)
        return
    with ExitStack() as held:
        store, old, new = _pair(held, place, ref, after)
        between_hosts = old.host != new.host and not times
        listed = (one for one in differences(store.entries(old), store.entries(new)) if _below(one.path, wanted))
        shown = (one for one in listed if not (between_hosts and one.fields == ("mtime",)))
        if as_json and not names:
            ends = {"before": document(old), "after": document(new)}
            screen.json_list(ends, "differences", map(_document, shown))
            return
        warn(old)
        warn(new)
        if names:
            show_names([one.path for one in shown], as_json=as_json)
            return
        if not (_show_statistics if stat else _show_all)(store, shown, brief):
            if wanted:
                _must_be_there(store, old, new, wanted)
            screen.say("no differences")


def _told_apart(others: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """The second REF, if there is one, and the paths."""
    if others and not others[0].startswith("/"):
        return others[0], others[1:]
    return None, others


def _pair(held: ExitStack, place: Workplace, ref: str, after: str | None) -> tuple[Store, Snapshot, Snapshot]:
    """The snapshots to compare, kept from being pruned as long as `held`; the one before `ref` without `after`."""
    store, first = held.enter_context(place.snapshot(ref))
    if after is not None:
        return store, first, held.enter_context(place.snapshot(after))[1]
    earlier = [one for one in store.recorded(first.host, first.module) if one.sequence < first.sequence]
    if not earlier:
        named = f"{first.host}/{first.module}@{first.name}"
        raise NotFound(f"there is no snapshot before {named}", f"`pyrsyncbackup ls -R {named}` shows what it holds")
    before = store.snapshot(earlier[-1])
    held.enter_context(store.reading(before))
    return store, before, first


def _below(path: bytes, wanted: Sequence[bytes]) -> bool:
    return not wanted or any(not top or path == top or path.startswith(top + b"/") for top in wanted)


def _must_be_there(store: Store, old: Snapshot, new: Snapshot, wanted: Sequence[bytes]) -> None:
    """Raise NotFound for a path of neither snapshot: "no differences" would be taken for an answer."""
    present = {entry.path for snapshot in (new, old) for entry in store.entries(snapshot) if entry.path in wanted}
    for path in wanted:
        if path and path not in present:
            raise not_in(new, path)


def _show_all(store: Store, found: Iterable[Difference], brief: bool) -> bool:
    kinds: Counter[str] = Counter()
    for one in found:
        kinds[one.kind] += 1
        _show(store, one, brief=brief)
    counts = [f"{amounts.number(kinds[kind])} {word}" for kind, word in WORDS.items() if kinds[kind]]
    if counts:
        screen.say(", ".join(counts), screen.TITLE)
    return bool(counts)


def _show_statistics(store: Store, found: Iterable[Difference], _brief: bool) -> bool:
    statistics = Statistics(store)
    for one in found:
        statistics.add(one)
    statistics.show()
    return bool(statistics.rows)


def _show(store: Store, difference: Difference, *, brief: bool) -> None:
    mark, style = MARKS[difference.kind]
    fields = f"  ({', '.join(_details(difference))})" if difference.fields else ""
    screen.line(Text(f"{mark} ", style), screen.text(b"/" + difference.path, style), Text(fields, screen.QUIET))
    if not brief and difference.kind == "content" and "content" in difference.fields:
        name = f"/{printable(difference.path)}"
        show_lines(store, difference.before, name, difference.after, name)


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


def _document(difference: Difference) -> dict[str, object]:
    return {
        "kind": difference.kind,
        "fields": list(difference.fields),
        "before": msgspec.to_builtins(difference.before) if difference.before else None,
        "after": msgspec.to_builtins(difference.after) if difference.after else None,
    }
