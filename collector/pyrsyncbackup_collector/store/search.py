"""Finds a text in contents, line by line. Pure, but for the pattern's own time.

Decides what a line is, what counts as text, and how a match is told. Lines are cut for patterns: a host chooses what
they are matched against, and a regular expression may take time in the square of a line's length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import UsageError

# Characters of a line that a regular expression sees: minified code has longer ones, configuration has not.
MAX_LINE: Final = 10_000
# Lines of one content that are kept.
MAX_LINES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Line:
    """A line, numbered from 1, without its end; `matches` or it is beside one that does.

    Bytes that are not UTF-8 are surrogates.
    """

    number: int
    text: str
    matches: bool


@dataclass(frozen=True, slots=True)
class Hit:
    """What matches in one content: the first `MAX_LINES` lines with those beside them; `count` is of all."""

    lines: tuple[Line, ...]
    count: int


class Needle:
    """What is looked for: a text as it is, or with `regex` a regular expression of Python's."""

    def __init__(self, text: str, *, regex: bool = False, ignore_case: bool = False) -> None:
        if not text:
            raise UsageError("there is nothing to look for: the text is empty")
        if "\n" in text:
            raise UsageError("a text of several lines is in no line", "look for one line of it")
        # Quicker than any pattern, and most contents do not have it.
        self._literal = text.encode("utf-8", "surrogateescape") if not regex and not ignore_case else b""
        self._whole = not regex
        try:
            self._pattern = re.compile(text if regex else re.escape(text), re.IGNORECASE if ignore_case else 0)
        except (re.error, OverflowError, RecursionError) as fault:
            raise UsageError(
                f"{printable(text)!r} is no regular expression: {fault}", "leave out -E to look for it as it is"
            ) from None

    def hit(self, content: bytes, context: int = 0) -> Hit | None:
        """The lines that match, with `context` lines before and after each; None if none does."""
        if self._literal and self._literal not in content:
            return None
        text = content.decode("utf-8", "surrogateescape")
        if self._whole and not self._pattern.search(text):
            return None
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        found = [number for number, line in enumerate(lines) if self._matches(line)]
        if not found:
            return None
        return Hit(tuple(_shown(lines, found[:MAX_LINES], context)), len(found))

    def _matches(self, line: str) -> bool:
        return self._pattern.search(line if self._whole else line[:MAX_LINE]) is not None


def is_text(content: bytes) -> bool:
    """Whether a content is searched: nothing with a zero byte is text."""
    return b"\0" not in content


def _shown(lines: list[str], found: list[int], context: int) -> Iterator[Line]:
    matching = set(found)
    last = -1
    for number in found:
        for place in range(max(last + 1, number - context), min(len(lines), number + context + 1)):
            yield Line(place + 1, lines[place].removesuffix("\r"), place in matching)
            last = place
