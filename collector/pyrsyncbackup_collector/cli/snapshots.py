"""`snapshots`, `ls`, `cat`: looking into what is stored.

They read the store alone, without a daemon; a catalog that can be read adds a note to `snapshots`.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import Annotated, BinaryIO

import typer

from pyrsyncbackup_collector.cli import amounts, fleetwide, names, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import (
    NOT_GIVEN,
    ConfigOption,
    FromOption,
    IdentityOption,
    JsonOption,
    exit_codes,
)
from pyrsyncbackup_collector.cli.screen import Column
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.entry import DIRECTORY, FILE, SYMLINK, Entry, parent, printable, printable_line
from pyrsyncbackup_collector.errors import BackupError, CatalogError, NotFound, did_you_mean
from pyrsyncbackup_collector.store.reference import caution
from pyrsyncbackup_collector.store.snapshot import DAMAGED, Snapshot

RefArgument = Annotated[str, typer.Argument(metavar="REF", help="HOST/MODULE[@WHEN]", show_default=False)]

_TYPES = {
    "file": stat.S_IFREG,
    "dir": stat.S_IFDIR,
    "link": stat.S_IFLNK,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
}
_CHUNK = 1 << 20


@app.command(epilog=exit_codes(4, 10))
def snapshots(
    which: Annotated[str | None, typer.Argument(metavar="HOST[/MODULE]", show_default=False)] = None,
    as_json: JsonOption = False,
    copy: FromOption = None,
    identity: IdentityOption = None,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """List snapshots, of all hosts, one host or one module; the newest last. HOST and MODULE may have wildcards."""
    place = Workplace.reading(config, copy, identity)
    found, pins = _wanted(place, which)
    if as_json:
        screen.json({"snapshots": [document(each) | {"pinned": pins.get(_key(each))} for each in found]})
        return
    if not found:
        screen.note("no snapshots yet; `pyrsyncbackup pull HOST` makes the first")
        return
    now, frozen = SystemClock().now(), _frozen(place)
    columns = [Column("SNAPSHOT"), Column("TAKEN"), Column("AGE", right=True), Column("STATE")]
    columns += [Column("FILES", right=True), Column("SIZE", right=True)]
    for number, (name, group) in enumerate(groupby(found, key=lambda each: f"{each.host}/{each.module}")):
        if number:
            screen.say()
        these = list(group)
        screen.table(columns, [_row(each, now) for each in these], title=name)
        # Below, not in a column: with it the table is too wide for a terminal, and the reason had no place.
        for each in these:
            if (why := pins.get(_key(each))) is not None:
                screen.line("  ", screen.text(f"pinned {each.name}", screen.GOOD), f": {why}" if why else "")
        if name in frozen:
            screen.note(f"note: its retention is frozen: {frozen[name]}", screen.DOUBT)


def _key(snapshot: Snapshot) -> tuple[str, str, int]:
    return snapshot.host, snapshot.module, snapshot.sequence


def _frozen(place: Workplace) -> dict[str, str]:
    """Why modules are frozen; that is nothing to fail for."""
    with contextlib.suppress(CatalogError), place.catalog() as catalog:
        return {f"{one.host}/{one.module}": one.why for one in catalog.retained() if one.frozen is not None}
    return {}


def _wanted(place: Workplace, which: str | None) -> tuple[list[Snapshot], dict[tuple[str, str, int], str]]:
    """Snapshots, and which of them are pinned why."""
    wanted = names.which(which)
    with place.store() as store:
        there = list(store.modules())
        names.must_be_there(wanted, there, place.host_names)
        known = [each for each in there if wanted.holds(*each)]
        found = [snapshot for each in known for snapshot in store.snapshots(*each)]
        pins = {(*each, number): why for each in known for number, why in store.pins(*each).items()}
        return found, pins


def _row(snapshot: Snapshot, now: float) -> list[screen.Cell]:
    if snapshot.state == DAMAGED:
        # What it held is not known; only its name and time are.
        state = screen.text(DAMAGED, screen.BAD)
        return [snapshot.name, amounts.local(snapshot.time), amounts.span(max(0.0, now - snapshot.time)), state, "", ""]
    whole = snapshot.state == "complete"
    return [
        snapshot.name,
        amounts.local(snapshot.time),
        amounts.span(max(0.0, now - snapshot.time)),
        screen.text(snapshot.state, screen.GOOD if whole else screen.DOUBT),
        amounts.number(snapshot.totals.files),
        amounts.size(snapshot.totals.size),
    ]


def document(snapshot: Snapshot) -> dict[str, object]:
    """A snapshot for JSON."""
    return {
        "ref": f"{snapshot.host}/{snapshot.module}@{snapshot.name}",
        "host": snapshot.host,
        "module": snapshot.module,
        "name": snapshot.name,
        "sequence": snapshot.sequence,
        "time": amounts.iso(snapshot.time),
        "state": snapshot.state,
        "entries": snapshot.totals.entries,
        "files": snapshot.totals.files,
        "size": snapshot.totals.size,
        "stale": snapshot.totals.stale,
        "changing": snapshot.totals.changing,
        "unreadable": snapshot.totals.unreadable,
    }


def stored_path(text: str) -> bytes:
    """A path as a person writes it, with or without the leading slash, as entries have it."""
    return os.fsencode(os.path.normpath("/" + text)).strip(b"/")


@app.command("ls", epilog=exit_codes(4, 10))
def list_entries(
    ref: RefArgument,
    path: Annotated[str | None, typer.Argument(metavar="PATH", show_default=False)] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-R", help="All below, not one level.")] = False,
    as_json: JsonOption = False,
    copy: FromOption = None,
    identity: IdentityOption = None,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """List what a snapshot holds: the module's own directory, or PATH."""
    place = Workplace.reading(config, copy, identity)
    with place.snapshot(ref) as (store, snapshot):
        top = stored_path(path) if path else common_directory(store.entries(snapshot))
        # As it comes: a snapshot may hold millions.
        found = _below(store.entries(snapshot), top, recursive=recursive)
        first = next(found, None)
        if first is None and path:
            raise not_in(snapshot, top, store.entries(snapshot))
        found = chain([first] if first else [], found)
        if as_json:
            screen.json_list({"snapshot": document(snapshot), "path": os.fsdecode(top)}, "entries", found)
            return
        warn(snapshot)
        columns = [Column("MODE"), Column("OWNER"), Column("SIZE", right=True), Column("MODIFIED")]
        screen.table(
            [*columns, Column("NAME", fold=True)],
            (_entry_row(entry, top) for entry in found),
            title=f"/{printable(top)}",
        )


def warn(snapshot: Snapshot) -> None:
    """Say on stderr what the reader of a partial snapshot should know."""
    if words := caution(snapshot):
        screen.note(f"note: {words}", screen.DOUBT)


def not_in(snapshot: Snapshot, path: bytes, entries: Iterable[Entry] = ()) -> NotFound:
    """The error for a path that a snapshot does not hold; of its `entries` those are named that come close."""
    ref = f"{snapshot.host}/{snapshot.module}@{snapshot.name}"
    shown = "/" + printable(path)
    history = f"`pyrsyncbackup history {snapshot.host}/{snapshot.module} {fleetwide.typed(b'/' + path)}`"
    hint = f"`pyrsyncbackup ls {ref}` shows what is, {history} whether it ever was"
    top = parent(path)
    beside = [printable(each.path.rpartition(b"/")[2]) for each in entries if parent(each.path) == top]
    before = f"/{printable(top)}/" if top else "/"
    return NotFound(f"{shown} is not in {ref}", did_you_mean(shown.rpartition("/")[2], beside, hint, before=before))


def common_directory(entries: Iterable[Entry]) -> bytes:
    """The deepest directory that holds all entries but its own ancestors: where the module begins."""
    top, descending = b"", True
    for entry in entries:
        if descending and entry.type == DIRECTORY and parent(entry.path) == top:
            top = entry.path
            continue
        # The first thing that is not on the way down; whatever lies beside the way takes us up again.
        descending = False
        while top and not entry.path.startswith(top + b"/"):
            top = parent(top)
    return top


def _below(entries: Iterable[Entry], top: bytes, *, recursive: bool) -> Iterator[Entry]:
    """What is in `top`, or `top` itself where it is no directory."""
    for entry in entries:
        inside = entry.path.startswith(top + b"/") if top else True
        direct = parent(entry.path) == top
        if direct or (recursive and inside) or (entry.path == top and entry.type != DIRECTORY):
            yield entry


def _entry_row(entry: Entry, top: bytes) -> list[screen.Cell]:
    target = f" -> {printable(entry.target)}" if entry.type == SYMLINK else ""
    marks = [word for word, on in (("stale", entry.stale), ("changing", entry.changing)) if on]
    marks += [f"not read: {printable(entry.error)}"] if entry.error else []
    below = entry.path.removeprefix(top + b"/") if top else entry.path
    path = screen.text(below if below != top else b"/" + top)
    path.append("/" if entry.type == DIRECTORY else target)
    if marks:
        path.append(f"  ({', '.join(marks)})", screen.DOUBT)
    return [
        stat.filemode(_TYPES.get(entry.type, 0) | entry.mode),
        f"{entry.user or entry.uid}:{entry.group or entry.gid}",
        amounts.size(entry.size) if entry.type == FILE else "",
        # Of a directory above those that a module names the time is not kept.
        "-" if entry.type == DIRECTORY and not (entry.mtime_s or entry.mtime_ns) else amounts.local(entry.mtime_s),
        path,
    ]


@app.command("cat", epilog=exit_codes(4, 10))
def cat(
    ref: RefArgument,
    path: Annotated[str, typer.Argument(metavar="PATH", show_default=False)],
    copy: FromOption = None,
    identity: IdentityOption = None,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Write the content of a file to standard output; on a terminal with its control characters escaped."""
    place = Workplace.reading(config, copy, identity)
    with place.snapshot(ref) as (store, snapshot):
        wanted = stored_path(path)
        entry = next((entry for entry in store.entries(snapshot) if entry.path == wanted), None)
        if entry is None:
            raise not_in(snapshot, wanted, store.entries(snapshot))
        if entry.type != FILE or not entry.sha256:
            what = f"is a {_WORDS.get(entry.type, entry.type)}" if entry.type != FILE else "was never read"
            raise BackupError(f"/{printable(wanted)} {what}, it has no content", _where_instead(entry, ref))
        warn(snapshot)
        with store.objects.open_entry(entry) as content:
            _copy(content)


_WORDS = {"dir": "directory", "link": "symbolic link", "char": "device", "block": "device"}


def _where_instead(entry: Entry, ref: str) -> str:
    if entry.type == DIRECTORY:
        return f"`pyrsyncbackup ls {ref} {shlex.quote('/' + printable(entry.path))}` shows what is in it"
    return f"it points to {printable(entry.target)}" if entry.type == SYMLINK else ""


def _copy(content: BinaryIO) -> None:
    terminal = sys.stdout.isatty()
    while chunk := content.read(_CHUNK):
        if terminal:
            _show(chunk.split(b"\n"))
        else:
            screen.raw(chunk)


def _show(lines: Sequence[bytes]) -> None:
    """Text of a host on a terminal: tabs and line ends are obeyed, nothing else is."""
    sys.stdout.write("\n".join(map(printable_line, lines)))
