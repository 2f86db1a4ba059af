"""HOST[/MODULE] as a person writes it: taken apart, matched, and what was meant where there is none of that name.

Both names may be patterns ('web*', '*/nginx', 'web*/ng*') wherever a command looks at what it finds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import NotFound, UsageError, did_you_mean

WILD: Final = frozenset("*?[")
# A name or a pattern of names; one in capitals is a slip of the pen, and told as such.
_NAME: Final = re.compile(r"[A-Za-z0-9*?\[][A-Za-z0-9._*?\[\]!-]*")
ANYTHING: Final = "write HOST or HOST/MODULE; both may be patterns: 'web*/nginx'"


def is_pattern(name: str) -> bool:
    """Whether it may stand for several names."""
    return not WILD.isdisjoint(name)


@dataclass(frozen=True, slots=True)
class Which:
    """The modules that are meant: patterns or names; None is any."""

    host: str | None = None
    module: str | None = None

    @property
    def is_pattern(self) -> bool:
        """Whether it may be several hosts or modules of the same name."""
        return is_pattern(self.host or "") or is_pattern(self.module or "")

    def holds(self, host: str, module: str) -> bool:
        """Whether that module is among them."""
        return (self.host is None or fnmatchcase(host, self.host)) and (
            self.module is None or fnmatchcase(module, self.module)
        )

    def __str__(self) -> str:
        """As it is written, safe for a terminal."""
        return "/".join(printable(name) for name in (self.host or "*", self.module) if name is not None)


def which(text: str | None) -> Which:
    """HOST[/MODULE] taken apart; None is all. Raises UsageError."""
    if text is None:
        return Which()
    if "@" in text:
        raise UsageError(f"{printable(text)!r} names a snapshot, and all of a module are meant", ANYTHING)
    host, slash, module = text.partition("/")
    if not _NAME.fullmatch(host) or (slash and not _NAME.fullmatch(module)):
        raise UsageError(f"{printable(text)!r} does not name a host or a module", ANYTHING)
    return Which(host, module or None)


def must_be_there(wanted: Which, known: Collection[tuple[str, str]], configured: Collection[str] | None) -> None:
    """Raise NotFound unless `wanted` is all, or among the `known` modules, those with snapshots, or a whole host.

    Nothing is wrong with a host that is configured and has no snapshot yet.
    """
    if wanted.host is None or any(wanted.holds(*each) for each in known):
        return
    if wanted.module is not None or not any(fnmatchcase(name, wanted.host) for name in configured or ()):
        raise no_snapshot(wanted, known, configured)


def no_snapshot(wanted: Which, known: Collection[tuple[str, str]], configured: Collection[str] | None) -> NotFound:
    """The error for names of which there is no snapshot: which one is wrong, and what was probably meant.

    `configured` is None where a second copy is all that is known: whether there is such a host it cannot say.
    """
    host, module = wanted.host or "*", wanted.module
    hosts = sorted({*(configured or ()), *(name for name, _ in known)})
    if not any(fnmatchcase(name, host) for name in hosts):
        return _no_host(wanted, hosts, known, is_copy=configured is None)
    many = wanted.host is None or wanted.is_pattern
    cause = f"no module with snapshots matches {wanted}" if many else f"there is no snapshot of {wanted}"
    modules = sorted({name for of, name in known if fnmatchcase(of, host)})
    if module is None or not modules:
        return NotFound(cause, f"make one with `pyrsyncbackup pull {as_word(str(wanted))}`")
    has = f"there is {_few(modules)}"
    return NotFound(cause, did_you_mean(module, modules, has, before="" if many else f"{host}/"))


def no_module(host: str, module: str, modules: Iterable[str]) -> NotFound:
    """The error for a module that a host does not have."""
    shown = f"`pyrsyncbackup modules {host} --all` shows what it has, and what not"
    return NotFound(
        f"{host} has no module {printable(module)}", did_you_mean(module, modules, shown, before=f"{host}/")
    )


def as_word(name: str) -> str:
    """A name or pattern as a word of a command: the shell would expand a pattern."""
    return f"'{name}'" if is_pattern(name) else name


def _no_host(wanted: Which, hosts: Collection[str], known: Iterable[tuple[str, str]], *, is_copy: bool) -> NotFound:
    host = wanted.host or "*"
    cause = f"no host {'matches' if is_pattern(host) else 'is called'} {printable(host)}"
    otherwise = "`pyrsyncbackup host list` shows all" if hosts else "no hosts are configured: add one in hosts.d"
    if is_copy:
        cause, otherwise = f"there is no snapshot of {wanted}", f"there is {_few(hosts) or 'none'}"
    if wanted.module is None and any(name == host for _, name in known):
        return NotFound(cause, f"{host} is a module: write HOST/{host}, or '*/{host}' for that of all hosts")
    return NotFound(cause, did_you_mean(host, hosts, otherwise))


def _few(names: Collection[str], shown: int = 6) -> str:
    first = list(names)[:shown]
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(first) + more


def expand(word: str, known: Callable[[], Iterable[tuple[str, str]]]) -> list[str]:
    """HOST/MODULE with a pattern for a module as the modules of the `known` that match; any other as it is."""
    wanted = which(word)
    if wanted.module is None or not is_pattern(wanted.module):
        return [word]
    there = sorted(set(known()))
    found = [f"{host}/{module}" for host, module in there if wanted.holds(host, module)]
    if not found:
        names = sorted({module for host, module in there if Which(wanted.host).holds(host, module)})
        hint = f"there is {_few(names)}" if names else "`pyrsyncbackup modules` shows what the hosts offer"
        raise NotFound(f"no module matches {wanted}", hint)
    return found
