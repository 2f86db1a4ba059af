"""How two contents differ, line by line, as a person reads it on a terminal."""

from __future__ import annotations

from rich.text import Text

from pyrsyncbackup_collector.cli import fleetwide, screen
from pyrsyncbackup_collector.entry import FILE, Entry, printable_line
from pyrsyncbackup_collector.store.difference import MAX_TEXT, TextDifference, text_difference
from pyrsyncbackup_collector.store.store import Store

_STYLES = (("+++", screen.TITLE), ("---", screen.TITLE), ("@@", "cyan"), ("+", screen.GOOD), ("-", screen.BAD))


def compared(
    store: Store, old: Entry | None, new: Entry | None, old_name: str = "before", new_name: str = "after"
) -> TextDifference:
    """The difference of two files' contents; None stands for a file that is not there."""
    if max(each.size for each in (old, new) if each is not None) > MAX_TEXT:
        return TextDifference((), "too large")
    return text_difference(_content(store, old), _content(store, new), old_name, new_name)


def show_lines(store: Store, old: Entry | None, old_name: str, new: Entry | None, new_name: str) -> None:
    """Print what differs between two contents: unified where they are text, else their digests."""
    if any(each is not None and (each.type != FILE or not each.sha256) for each in (old, new)):
        screen.say(f"    {_kind(old)} -> {_kind(new)}", screen.QUIET)
        return
    told = compared(store, old, new, old_name, new_name)
    if told.reason:
        screen.say(f"    {told.reason}: sha256 {_kind(old)} -> {_kind(new)}", screen.QUIET)
    for line in told.lines:
        style = next((style for start, style in _STYLES if line.startswith(start)), "")
        screen.line("    ", Text(printable_line(line), style))


def _kind(entry: Entry | None) -> str:
    if entry is None:
        return "nothing"
    return fleetwide.short(entry.sha256) or ("a file that was not read" if entry.type == FILE else entry.type)


def _content(store: Store, entry: Entry | None) -> bytes | None:
    return None if entry is None else store.objects.read_entry(entry)
