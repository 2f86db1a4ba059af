"""All commands, in the order in which help lists them, and the modules that have them.

A module is imported when a command of its is looked up, and adds its commands to `app` by that: what an administrator
waits for before a command begins is what that command needs, not what all of them do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from pyrsyncbackup_collector.cli.app import app

__all__ = ["COMMANDS", "app"]

# By name: what help says about it in a line, and the modules beside this one that have it or a part of it.
COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "init": ("Write a first configuration, make keys and store.", "first_steps"),
    "invitation": ("Print the file that a host accepts.", "first_steps"),
    "check": ("Try everything that the configuration names.", "first_steps"),
    "daemon": ("Run the collector: checks and pulls by schedule.", "first_steps"),
    "status": ("Show what is late, failing or unreachable.", "status"),
    "schedule": ("Show when modules are pulled next, and why then.", "schedule"),
    "modules": ("List what the hosts offer.", "modules"),
    "pull": ("Pull modules now.", "pull"),
    "snapshots": ("List snapshots.", "snapshots"),
    "ls": ("List what a snapshot holds.", "snapshots"),
    "cat": ("Write out the content of a file.", "snapshots"),
    "diff": ("Show what differs between two snapshots.", "diff"),
    "history": ("Show each version of a path.", "history"),
    "changes": ("Show what changed in the fleet.", "changes"),
    "compare": ("Compare hosts with each other.", "compare"),
    "find": ("Find names.", "find"),
    "grep": ("Search the contents of text files.", "grep"),
    "restore": ("Restore a snapshot: directory, tar, zip, to a host.", "restore"),
    "verify": ("Check that the store holds what was put there.", "verify"),
    "drill": ("Restore snapshots to see that they come back.", "drill"),
    "mount": ("Show all snapshots as a read-only file system.", "mount"),
    "prune": ("Remove the snapshots that no rule keeps.", "prune"),
    "forget": ("Remove all snapshots of a host or module.", "prune"),
    "pin": ("Keep a snapshot until `unpin`.", "retention"),
    "unpin": ("Let rules decide about a pinned snapshot again.", "retention"),
    "space": ("Show what takes the room in the store.", "space"),
    "gc": ("Remove contents that no snapshot names any more.", "gc"),
    "replicate": ("Bring second copies up to date.", "copies"),
    "recover": ("Make a lost store anew from a second copy.", "recover"),
    "export": ("Hand snapshots to restic.", "export"),
    "host": ("The hosts that are backed up.", "hosts", "trust", "accept", "walk", "tunnel"),
    "retention": ("Which snapshots are kept, and what keeps retention from it.", "retention"),
    "copies": ("Second copies of the store.", "copies"),
    "catalog": ("The database of history and index.", "catalog"),
}


@cache
def _imported(name: str) -> Any:
    """The command or group of that name, from its modules."""
    _, *modules = COMMANDS[name]
    for module in modules:
        import_module(f"pyrsyncbackup_collector.cli.{module}")
    one = typer.Typer(rich_markup_mode=None, add_completion=False)
    one.callback()(lambda: None)
    one.registered_commands = [
        info for info in app.registered_commands if info.callback and name in (info.name, info.callback.__name__)
    ]
    one.registered_groups = [info for info in app.registered_groups if info.name == name]
    return typer.main.get_group(one).commands[name]


class _Imported(Mapping[str, Any]):
    """The commands by name."""

    def __getitem__(self, name: str) -> Any:
        return _imported(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Commands(TyperGroup):
    """Help, completion and suggestions need the name and the line of each: they import nothing."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = _Imported()

    def list_commands(self, _ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:
        return TyperCommand(cmd_name, short_help=COMMANDS[cmd_name][0]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, _, rest = super().resolve_command(ctx, args)
        # What is completed may be a name that nothing has.
        return name, _imported(name) if name else None, rest


app.info.cls = _Commands
