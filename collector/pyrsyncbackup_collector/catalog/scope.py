"""Which modules a question over the fleet is about, and which snapshots of them are kept."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from pyrsyncbackup_collector.catalog.states import Moment
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import UsageError

_PLACES: Final = """
    SELECT modules.id, hosts.name, modules.name,
           (SELECT max(sequence) FROM snapshots WHERE module_id = modules.id) AS newest
    FROM hosts CROSS JOIN modules ON host_id = hosts.id
    WHERE hosts.name BETWEEN ifnull(:host, '') AND ifnull(:host, x'')
      AND (:module IS NULL OR modules.name = :module) AND newest IS NOT NULL
    ORDER BY hosts.name, modules.name
"""
# The version of a path that the newest kept snapshot of its module has; `place` is a table like `temp.places`.
CURRENT: Final = "from_seq <= place.newest AND (until_seq IS NULL OR until_seq > place.newest)"

_WILDCARDS: Final = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Place:
    """A module of a host with at least one snapshot; `newest` is the sequence number of its last one."""

    id: int
    host: str
    module: str
    newest: int


def places(raw: sqlite3.Connection, host: str | None = None, module: str | None = None) -> list[Place]:
    """The modules whose names match, by host and module; `host` and `module` may have wildcards, None is any."""
    exact = {
        key: None if name is None or _WILDCARDS.intersection(name) else name
        for key, name in (("host", host), ("module", module))
    }
    return [Place(*row) for row in raw.execute(_PLACES, exact) if matches(row[1], row[2], host, module)]


def matches(host: str, module: str, host_pattern: str | None, module_pattern: str | None) -> bool:
    """Whether names are those meant: a pattern may have wildcards, None is any."""
    return (host_pattern is None or fnmatchcase(host, host_pattern)) and (
        module_pattern is None or fnmatchcase(module, module_pattern)
    )


def glob(pattern: str | None) -> str:
    """A pattern for names as SQLite's GLOB takes it; None is any. No name has a character with a meaning."""
    return "*" if pattern is None else pattern.replace("[!", "[^")


def lay_out(raw: sqlite3.Connection, chosen: Iterable[Place]) -> None:
    """Put places into `temp.places` (id, newest), for queries over just these; a table of the connection."""
    raw.execute("CREATE TEMP TABLE IF NOT EXISTS places (id INTEGER PRIMARY KEY, newest INTEGER NOT NULL)")
    raw.execute("DELETE FROM temp.places")
    raw.executemany("INSERT INTO temp.places VALUES (?, ?)", ((place.id, place.newest) for place in chosen))


def kept(raw: sqlite3.Connection, place: int) -> list[Moment]:
    """The snapshots of a module, oldest first."""
    found = raw.execute("SELECT sequence, time, name FROM snapshots WHERE module_id = ? ORDER BY sequence", (place,))
    return [Moment(*row) for row in found]


def path_pattern(pattern: str) -> re.Pattern[bytes]:
    """What matches the whole paths of entries that a glob means: one with "/" all of the path, else its last name.

    `*` and `?` stop at "/", `**` does not, `[a-z]` and `[!a-z]` are one byte of a set, a backslash before one of these
    characters takes its meaning away; case counts. What is called just like the pattern matches too. Raises UsageError.
    """
    wanted = pattern.encode("utf-8", "surrogateescape")
    anywhere = b"/" not in wanted
    wanted = wanted.lstrip(b"/") if wanted != b"/" else wanted
    body = b"(?:" + b"".join(_translated(wanted)) + b"|" + re.escape(wanted) + b")"
    try:
        return re.compile((b"(?:.*/)?" if anywhere else b"") + body + rb"\Z", re.DOTALL)
    except re.error as fault:
        raise UsageError(
            f"{printable(pattern)!r} is no pattern: {fault}", "write it like *.conf or /etc/**/ssl"
        ) from None


# A backslash before another character is one: systemd's units are called dev-disk-by\x2dlabel-swap.swap.
_TOKEN: Final = re.compile(rb"\*\*/|\*\*|\*|\?|\[!?\]?[^\]/]*\]|\\[*?\[\]\\]|.", re.DOTALL)
_SIMPLE: Final = {b"**/": b"(?:.*/)?", b"**": b".*", b"*": b"[^/]*", b"?": b"[^/]"}


def _translated(pattern: bytes) -> Iterable[bytes]:
    for token in _TOKEN.findall(pattern):
        if token in _SIMPLE:
            yield _SIMPLE[token]
        elif len(token) > 2:
            negated = token[1:2] == b"!"
            members = token[2:-1] if negated else token[1:-1]
            escaped = b"".join(b"-" if byte == 45 else b"\\x%02x" % byte for byte in members)
            yield b"[" + (b"^/" if negated else b"") + escaped + b"]"
        else:
            yield re.escape(token[-1:])


def longest_literal(pattern: str) -> bytes:
    """A long piece that every path has that `path_pattern` matches: looked for first, as SQLite is quick at it."""
    wanted = pattern.encode("utf-8", "surrogateescape").lstrip(b"/")
    pieces = [b""]
    for token in _TOKEN.findall(wanted):
        if len(token) > 1 or token in _SIMPLE:
            # Also at an escaped character: a name that is the pattern itself has the backslash.
            pieces.append(b"")
        else:
            pieces[-1] += token
    return max(pieces, key=len)
