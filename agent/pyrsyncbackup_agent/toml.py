"""Strict reading of TOML: every problem of a file at once, each with its key; unknown keys with a suggestion.

Decides what is well formed; what a key means is the reader's business (`settings`, `peers`,
`modules.definition`).
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the same library under its older name
    import tomli as tomllib

_DURATION = re.compile(r"([1-9][0-9]{0,5})([smhdw])\Z")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse(content: bytes) -> dict[str, Any]:
    """The tables of a TOML document; ValueError says what is wrong and in which line."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"not UTF-8 (at line {line})") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not TOML: {error}") from None


def seconds(duration: str) -> int:
    """Seconds of an interval such as "15m" (units s, m, h, d, w); ValueError for anything else."""
    match = _DURATION.match(duration)
    if match is None:
        raise ValueError(f'{duration!r} is not an interval such as "15m", "1h" or "1d"')
    return int(match[1]) * _UNIT_SECONDS[match[2]]


class Table:
    """A table that is read key by key; what does not fit goes to `problems`, and the default is returned.

    `problems` is shared with the tables below. Call `done` at the end to have unknown keys reported.
    """

    def __init__(self, values: dict[str, Any], problems: list[str], where: str = "") -> None:
        self._values = values
        self._where = where
        self._seen: set[str] = set()
        self.problems = problems

    def problem(self, key: str, text: str) -> None:
        """Report `text` about `key`."""
        self.problems.append(f"{self._where}{key}: {text}")

    def text(self, key: str, default: str = "") -> str:
        """A non-empty string."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, str) or not value:
            self.problem(key, f"must be a text in quotes, not {_kind(value)}")
            return default
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.problem(key, f"must be true or false, not {_kind(value)}")
            return default
        return value

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """A number from `low` to `high`."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.problem(key, f"must be a number from {low} to {high}, not {_kind(value)}")
            return default
        return value

    def interval(self, key: str) -> str:
        """An interval such as "15m", as written; empty if it is not set."""
        value = self.text(key)
        if value:
            try:
                seconds(value)
            except ValueError as error:
                self.problem(key, str(error))
                return ""
        return value

    def texts(self, key: str, default: Iterable[str] = ()) -> tuple[str, ...]:
        """A list of non-empty strings."""
        value = self._take(key)
        if value is None:
            return tuple(default)
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            self.problem(key, 'must be a list of texts: ["one", "two"]')
            return tuple(default)
        return tuple(value)

    def commands(self, key: str) -> tuple[tuple[str, ...], ...]:
        """A list of commands, each a list: program and arguments."""
        value = self._take(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(_is_command(item) for item in value):
            self.problem(key, 'must be a list of commands, each a list of texts: [["/bin/prog", "argument"]]')
            return ()
        return tuple(tuple(item) for item in value)

    def counts(self, key: str, allowed: tuple[str, ...]) -> dict[str, int]:
        """A table of non-negative numbers whose keys are among `allowed`."""
        table = self.table(key)
        read = {name: table.integer(name, -1, 0, 1_000_000) for name in allowed}
        table.done()
        return {name: count for name, count in read.items() if count >= 0}

    def table(self, key: str) -> Table:
        """The table below `key`; an empty one if it is not set."""
        value = self._take(key)
        if value is not None and not isinstance(value, dict):
            self.problem(key, f"must be a table, not {_kind(value)}")
            value = None
        return Table(value or {}, self.problems, f"{self._where}{key}.")

    def tables(self, key: str) -> list[Table]:
        """The tables of `[[key]]`, in their order."""
        value = self._take(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.problem(key, f"must be tables, each under a line [[{key}]], not {_kind(value)}")
            return []
        return [Table(item, self.problems, f"{self._where}{key}[{n}].") for n, item in enumerate(value, 1)]

    @property
    def place(self) -> str:
        """Where the table is: the file, and its key in there."""
        return self._where.rstrip(".: ")

    def done(self) -> None:
        """Report every key that was never asked for."""
        for key in self._values:
            if key not in self._seen:
                near = difflib.get_close_matches(key, self._seen, n=1)
                known = ", ".join(sorted(self._seen))
                self.problem(
                    key, f"unknown key; did you mean `{near[0]}`?" if near else f"unknown key (known: {known})"
                )

    def _take(self, key: str) -> Any:
        self._seen.add(key)
        return self._values.get(key)


def _is_command(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(word, str) for word in value) and bool(value[0])


def _kind(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return repr(value)
