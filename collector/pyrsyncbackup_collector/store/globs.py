"""Patterns for paths of a snapshot: wildcards in what a person asks for, and what is to be left out of it. Pure.

Which entries are chosen by them is decided by `selection`. `*` and `?` match no slash; `**` matches any, and `/**/`
one slash as well; `[a-c]`, `[!a-c]` are classes; a backslash takes the meaning from the next character.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import UsageError

_WILD: Final = re.compile(rb"[*?\[]")
# Nobody writes a longer one, and a regular expression of it would take its time.
_MAX_PATTERN: Final = 4096


@dataclass(frozen=True, slots=True)
class Glob:
    """One pattern. `matches` takes a whole path, relative to "/"."""

    text: bytes
    expression: re.Pattern[bytes]
    by_name: bool
    only_directories: bool = False

    def matches(self, path: bytes, *, directory: bool) -> bool:
        """Whether this very path is meant; what lies below it is the caller's business."""
        if self.only_directories and not directory:
            return False
        subject = path[path.rfind(b"/") + 1 :] if self.by_name else path
        return self.expression.fullmatch(subject) is not None


def is_wild(path: bytes) -> bool:
    """Whether a path holds wildcards."""
    return _WILD.search(path) is not None


def wanted(text: bytes) -> Glob:
    """A PATH with wildcards: from the top, like every PATH; one without a slash means names at any depth."""
    body = text.strip(b"/")
    return Glob(text, _compile(body), by_name=b"/" not in text and b"**" not in text)


def excluded(text: bytes) -> Glob:
    """A pattern as a module's excludes have it: anchored by a slash at its begin, directories by one at its end."""
    body = text.strip(b"/")
    if text.startswith(b"/") or body.startswith(b"**"):
        expression = _compile(body)
    elif b"/" in body or b"**" in body:
        expression = _compile(body, anywhere=True)
    else:
        return Glob(text, _compile(body), by_name=True, only_directories=text.endswith(b"/"))
    return Glob(text, expression, by_name=False, only_directories=text.endswith(b"/"))


def any_matches(globs: Iterable[Glob], path: bytes, *, directory: bool) -> bool:
    """Whether one of them means this path."""
    return any(glob.matches(path, directory=directory) for glob in globs)


def _compile(body: bytes, *, anywhere: bool = False) -> re.Pattern[bytes]:
    if not body or len(body) > _MAX_PATTERN or b"\0" in body:
        raise UsageError(
            f"{printable(body[:200])!r} is no pattern that a path could match", "write one as 'etc/*.conf'"
        )
    try:
        return re.compile((b"(?:.*/)?" if anywhere else b"") + _translated(body), re.DOTALL)
    except ValueError as error:
        raise UsageError(
            f"the pattern {printable(body)!r} {error}", "a backslash takes the meaning from a character: \\["
        ) from None


def _translated(body: bytes) -> bytes:
    parts, at = [], 0
    while at < len(body):
        if body.startswith(b"/**/", at):
            parts.append(b"/(?:.*/)?")
            at += 4
        elif at == 0 and body.startswith(b"**/"):
            parts.append(b"(?:.*/)?")
            at += 3
        elif body.startswith(b"**", at):
            parts.append(b".*")
            at += len(body) - at - len(body[at:].lstrip(b"*"))
        elif body[at : at + 1] == b"[":
            members, at = _class(body, at + 1)
            parts.append(members)
        else:
            char = body[at : at + 1]
            if char == b"\\":
                at += 1
                char = body[at : at + 1]
                if not char:
                    raise ValueError("ends with a backslash that escapes nothing")
                parts.append(re.escape(char))
            else:
                parts.append({b"*": b"[^/]*", b"?": b"[^/]"}.get(char, re.escape(char)))
            at += 1
    return b"".join(parts)


def _class(body: bytes, at: int) -> tuple[bytes, int]:
    """The class whose "[" is just before `at` as an expression, and where the pattern goes on."""
    negated = body[at : at + 1] in (b"!", b"^")
    begin = at + negated
    end = body.find(b"]", begin + 1)
    if end < 0:
        raise ValueError("has a [ without its ]")
    members, low = set[int](), begin
    while low < end:
        if body[low + 1 : low + 2] == b"-" and low + 2 < end:
            members.update(range(body[low], body[low + 2] + 1))
            low += 3
        else:
            members.add(body[low])
            low += 1
    members = (set(range(256)) - members if negated else members) - {ord("/")}
    return (b"[%s]" % b"".join(b"\\x%02x" % member for member in sorted(members)) if members else b"(?!)"), end + 1
