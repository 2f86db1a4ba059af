"""Where in a TOML file a key stands, for messages; tomllib does not say.

A guess from the look of the lines: right for files as people write them, and only ever used to show a line number.
"""

from __future__ import annotations

import re
from typing import Final

Location = tuple[str | int, ...]

_KEY: Final = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_DOTTED: Final = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER: Final = re.compile(rf"\s*(?P<array>\[)?\[\s*(?P<keys>{_DOTTED})\s*\]")
_ASSIGNMENT: Final = re.compile(rf"\s*(?P<keys>{_DOTTED})\s*=")


def locate(text: str) -> dict[Location, int]:
    """Line (from 1) of each table and key; positions in arrays of tables are numbers in the location."""
    found: dict[Location, int] = {}
    counts: dict[Location, int] = {}
    table: Location = ()
    for number, line in enumerate(text.split("\n"), start=1):
        if header := _HEADER.match(line):
            table = _within_arrays(_split(header["keys"]), counts, new=header["array"] is not None)
            found.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            found.setdefault(table + _split(assignment["keys"]), number)
    return found


def line_of(found: dict[Location, int], location: Location) -> int | None:
    """The line of `location`, or of the closest thing around it that has one."""
    for end in range(len(location), 0, -1):
        if location[:end] in found:
            return found[location[:end]]
    return None


def _split(keys: str) -> tuple[str, ...]:
    return tuple(key.strip("\"'") for key in re.findall(_KEY, keys))


def _within_arrays(keys: tuple[str, ...], counts: dict[Location, int], *, new: bool) -> Location:
    table: Location = ()
    for position, key in enumerate(keys):
        table += (key,)
        if new and position == len(keys) - 1:
            counts[table] = counts.get(table, -1) + 1
        if table in counts:
            table += (counts[table],)
    return table
