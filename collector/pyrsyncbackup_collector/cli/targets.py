"""HOST[/MODULE]... of a command line as hosts with modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyrsyncbackup import valid_name

from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import BackupError, UsageError
from pyrsyncbackup_collector.fleet.hosts import Fleet, Host


@dataclass(frozen=True, slots=True)
class Target:
    """A host and the modules that were named; none were: all of them."""

    host: Host
    modules: tuple[str, ...]


def parse(fleet: Fleet, words: Sequence[str]) -> list[Target]:
    """Each host once, in the order of the words; HOST may be a pattern. Raises UsageError, NotFound."""
    wanted: dict[str, tuple[Host, list[str]]] = {}
    whole: set[str] = set()
    for word in words:
        pattern, slash, module = word.partition("/")
        if not pattern or (slash and not valid_name(module)):
            raise UsageError(
                f"{printable(word)!r} does not name a host or a module",
                "write HOST or HOST/MODULE; HOST may be a pattern",
            )
        for host in fleet.match(pattern):
            _, modules = wanted.setdefault(host.name, (host, []))
            if not slash:
                whole.add(host.name)
            elif module not in modules:
                modules.append(module)
    targets = [Target(host, () if name in whole else tuple(modules)) for name, (host, modules) in wanted.items()]
    for target in targets:
        _check(target)
    return targets


def stored(which: str | None) -> tuple[str | None, str | None]:
    """HOST[/MODULE] of something that may be in the store alone, taken apart; None: all. Raises UsageError."""
    if which is None:
        return None, None
    host, slash, module = which.partition("/")
    if not valid_name(host) or (slash and not valid_name(module)):
        raise UsageError(f"{printable(which)!r} does not name a host or a module", "write HOST or HOST/MODULE")
    return host, module or None


def _check(target: Target) -> None:
    host = target.host
    if not host.enabled:
        raise BackupError(f"{host.name} is disabled", "set enabled = true in its definition")
    for module in target.modules:
        if not host.wants(module):
            raise BackupError(
                f"{host.name}/{module} is left out by the host's definition", "see modules.include and modules.exclude"
            )
