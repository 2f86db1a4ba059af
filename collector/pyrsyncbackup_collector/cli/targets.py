"""HOST[/MODULE]... of a command line as hosts with modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pyrsyncbackup import valid_name

from pyrsyncbackup_collector.cli import names
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import BackupError, UsageError
from pyrsyncbackup_collector.fleet.hosts import Fleet, Host


@dataclass(frozen=True, slots=True)
class Target:
    """A host and the modules that were named; none were: all of them."""

    host: Host
    modules: tuple[str, ...]


def parse(fleet: Fleet, words: Sequence[str], offered: Callable[[], Iterable[tuple[str, str]]] = tuple) -> list[Target]:
    """Each host once, in the order of the words; HOST and MODULE may be patterns. Raises UsageError, NotFound.

    Patterns of modules are looked up in what is `offered`, as (host, module). What a pattern matches and the
    configuration leaves out is left out; what is named and left out is an error.
    """
    wanted: dict[str, tuple[Host, list[str]]] = {}
    whole: set[str] = set()
    for word in words:
        for host, module in _meant(fleet, word, offered):
            _, modules = wanted.setdefault(host.name, (host, []))
            if not module:
                whole.add(host.name)
            elif module not in modules:
                modules.append(module)
    return [Target(host, () if name in whole else tuple(modules)) for name, (host, modules) in wanted.items()]


def _meant(fleet: Fleet, word: str, offered: Callable[[], Iterable[tuple[str, str]]]) -> list[tuple[Host, str]]:
    """The hosts with a module, "" for all of them, that a word means, at least one."""
    found = []
    for one in names.expand(word, offered):
        pattern, slash, module = one.partition("/")
        if slash and not valid_name(module):
            raise UsageError(f"{printable(one)!r} does not name a host or a module", names.ANYTHING)
        found += [(host, module) for host in fleet.match(pattern)]
    fit = [(host, module) for host, module in found if host.enabled and (not module or host.wants(module))]
    if fit and names.is_pattern(word):
        return fit
    for host, module in found:
        _check(host, module)
    return found


def stored(which: str | None) -> tuple[str | None, str | None]:
    """HOST[/MODULE] of something that may be in the store alone, taken apart; None: all. Raises UsageError."""
    if which is None:
        return None, None
    host, slash, module = which.partition("/")
    if not valid_name(host) or (slash and not valid_name(module)):
        raise UsageError(
            f"{printable(which)!r} does not name a host or a module",
            "write HOST or HOST/MODULE; no pattern is taken here",
        )
    return host, module or None


def _check(host: Host, module: str) -> None:
    if not host.enabled:
        raise BackupError(f"{host.name} is disabled", "set enabled = true in its definition")
    if module and not host.wants(module):
        raise BackupError(
            f"{host.name}/{module} is left out by the host's definition", "see modules.include and modules.exclude"
        )
