"""What commands over hosts and time share: whom they are about, how much they show, many hosts in few words."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pyrsyncbackup_collector.cli import amounts, names, screen
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.entry import printable, text_or_bytes
from pyrsyncbackup_collector.errors import NotFound, UsageError

if TYPE_CHECKING:
    from pyrsyncbackup_collector.catalog import Catalog

# The exit code where nothing matches: as for a path that is not there.
NOTHING: Final = 4

# Digits of a digest that are shown: enough to tell contents apart at a glance.
_DIGITS: Final = 12
_NAMED: Final = 2

HostsOption = Annotated[
    str | None,
    typer.Option(
        "--host", "--hosts", metavar="PATTERN", help="Only hosts with such names: 'web*'.", show_default=False
    ),
]
ModulesOption = Annotated[
    str | None, typer.Option("--module", metavar="PATTERN", help="Only modules with such names.", show_default=False)
]


def limit_option(count: int, what: str) -> object:
    """`--limit N`: how much is shown, 0 for all."""
    return typer.Option("--limit", metavar="N", min=0, help=f"Show at most N {what}; 0: all.", show_default=str(count))


def bound(limit: int) -> int | None:
    """What a person wrote as limit, as queries take it."""
    return limit or None


def module_named(text: str) -> tuple[str, str]:
    """Split HOST/MODULE; raise UsageError."""
    host, _, module = text.partition("/")
    if names.is_pattern(text):
        raise UsageError(f"{printable(text)!r} may be many modules", "name one; `compare` and `find` look at many")
    if not host or not module or "/" in module or "@" in module:
        raise UsageError(f"{printable(text)!r} does not name a module of a host", "write HOST/MODULE, as web1/etc")
    return host, module


def must_match(place: Workplace, catalog: Catalog, wanted: names.Which) -> None:
    """Raise NotFound where no module with snapshots has such names: silence would be taken for an answer."""
    if catalog.stored(wanted.host, wanted.module):
        return
    if catalog.stored() or wanted.host:
        raise names.no_snapshot(wanted, catalog.stored(), place.host_names)
    raise NotFound("there are no snapshots yet", "`pyrsyncbackup pull HOST` makes the first")


def typed(name: bytes) -> str:
    """A name as a word of a command for bash."""
    shown = printable(name)
    return shlex.quote(shown) if shown.encode() == name else "$'" + shown.replace("'", "\\'") + "'"


def few(given: Collection[str], *, named: int = _NAMED) -> str:
    """`web01`, `web01, web02 and 18 more`."""
    first = list(given)[:named]
    left = len(given) - len(first)
    # "and 1 more" says less than the name does.
    if left == 1:
        return ", ".join(given)
    return ", ".join(first) + (f" and {amounts.number(left)} more" if left else "")


def hosts(given: Sequence[str]) -> str:
    """`web01`, or `20 hosts: web01, web02 and 18 more`."""
    return given[0] if len(given) == 1 else f"{amounts.counted(len(given), 'host')}: {few(given)}"


def short(sha256: str) -> str:
    """The begin of a digest."""
    return sha256[:_DIGITS]


def told_apart(path: bytes) -> dict[str, object]:
    """A path for JSON, as entries have it: `path`, or `path_b64` where it is not UTF-8."""
    text, raw = text_or_bytes(path)
    return {"path_b64": raw} if raw else {"path": text}


def more(count: int, what: str) -> None:
    """A word about what was not shown, on stderr."""
    if count:
        screen.note(f"and {amounts.counted(count, what)} more; --limit 0 shows all")
