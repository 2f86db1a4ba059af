"""rsync's filter patterns: which entries of a root belong to a module.

One `Rules` value decides what the walk lists, and writes the filter file from which the rsync daemon decides the
same. Patterns mean what rsync's manual says under FILTER RULES: includes are tried first, then excludes, and what
matches neither belongs. They become regular expressions over bytes, one alternation each for names and for whole
paths, so that an entry costs one or two matches however many patterns there are.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

# Longer ones would not fit with their prefix into what older rsyncs take as a path.
MAX_PATTERN = 1024

_Matcher = Callable[[bytes], object]


class HasNames(Protocol):
    """What is asked of a root here: the only names that belong to it, or nothing for all."""

    @property
    def names(self) -> frozenset[bytes]:
        """Names directly in the root."""


@dataclass(frozen=True)
class Rules:
    """The patterns of a module, compiled. Equal if the patterns are.

    Raises ValueError for a pattern that `problem` finds fault with.
    """

    includes: tuple[bytes, ...] = ()
    excludes: tuple[bytes, ...] = ()
    _included: _Group = field(init=False, repr=False, compare=False)
    _excluded: _Group = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for pattern in self.includes + self.excludes:
            if fault := problem(pattern):
                raise ValueError(f"{pattern!r}: {fault}")
        object.__setattr__(self, "_included", _Group(self.includes))
        object.__setattr__(self, "_excluded", _Group(self.excludes))

    @property
    def trivial(self) -> bool:
        """Whether nothing is ever excluded, so that nobody need ask."""
        return not self.excludes

    def excluded(self, relative_path: bytes, is_dir: bool) -> bool:
        """Whether the entry is left out; the path is relative to its root, and its parent is not excluded."""
        if not self.excludes:
            return False
        name = relative_path[relative_path.rfind(b"/") + 1 :]
        if not self._excluded.matches(relative_path, name, is_dir):
            return False
        return not (self.includes and self._included.matches(relative_path, name, is_dir))

    def filter_lines(self, root: HasNames) -> bytes:
        """The rules as a file for `filter = merge FILE` of the rsync daemon that serves `root`.

        A merged file, not `exclude from`: there rsync takes a pattern `x/` for `x/***`, which hides what an include
        had admitted. The `/` modifier binds patterns to the module's directory whatever part of it a client asks for.
        A root with names has had its names matched at detection: only these are served.
        """
        if root.names:
            lines = [b"+/ /" + _literal(name) for name in sorted(root.names)]
            lines.append(b"-/ *")
        else:
            lines = [b"+/ " + pattern for pattern in self.includes]
            lines += [b"-/ " + pattern for pattern in self.excludes]
        return b"".join(line + b"\n" for line in lines)


def problem(pattern: bytes) -> str:
    """Why `pattern` cannot be used, or nothing."""
    if not pattern.strip(b"/"):
        return "matches nothing"
    if len(pattern) > MAX_PATTERN:
        return f"is longer than {MAX_PATTERN} bytes"
    if any(char in pattern for char in b"\0\r\n"):
        return "holds a line break or a NUL"
    if pattern[-1:] in (b" ", b"\t"):
        return "ends with a blank"
    if pattern[:1] == b"!":
        return "negation is not supported; for a name that begins with an exclamation mark write [!]name"
    if pattern[:2] in (b"+ ", b"- "):
        return "write the pattern alone: `include` and `exclude` say which it is"
    if any(name in (b"", b".", b"..") for name in pattern.removeprefix(b"/").removesuffix(b"/").split(b"/")):
        return "has a name that no entry can have: nothing, a dot or two dots"
    if any(char in pattern for char in b"*?["):
        try:
            _translate(pattern.removesuffix(b"/"))
        except ValueError as error:
            return str(error)
    return ""


class _Group:
    """Patterns of which any one may match, as four regular expressions."""

    def __init__(self, patterns: Iterable[bytes]) -> None:
        by_kind: dict[tuple[bool, bool], list[bytes]] = {}
        for pattern in patterns:
            compiled = _Pattern(pattern)
            for is_dir in (False, True):
                if is_dir or not compiled.only_directories:
                    by_kind.setdefault((compiled.by_name, is_dir), []).append(compiled.expression(is_dir))
        self._name = {is_dir: _any_of(by_kind.get((True, is_dir))) for is_dir in (False, True)}
        self._path = {is_dir: _any_of(by_kind.get((False, is_dir))) for is_dir in (False, True)}

    def matches(self, path: bytes, name: bytes, is_dir: bool) -> bool:
        by_name = self._name[is_dir]
        if by_name is not None and by_name(name):
            return True
        by_path = self._path[is_dir]
        return by_path is not None and by_path(path) is not None


def _any_of(expressions: list[bytes] | None) -> _Matcher | None:
    if not expressions:
        return None
    return re.compile(b"|".join(b"(?:%s)" % expression for expression in expressions), re.DOTALL).fullmatch


class _Pattern:
    """One pattern, with the flags that rsync derives from its text (add_rule and rule_matches in its exclude.c)."""

    def __init__(self, pattern: bytes) -> None:
        self.only_directories = len(pattern) > 1 and pattern.endswith(b"/")
        if self.only_directories:
            pattern = pattern[:-1]
        self.anchored = pattern.startswith(b"/")
        self.wild = any(char in pattern for char in b"*?[")
        # rsync looks for two stars in the text, escaped or not.
        self.crosses = b"**" in pattern
        self.starts_with_crossing = pattern.startswith(b"**")
        self.takes_directory = self.crosses and pattern.endswith(b"***")
        self.by_name = b"/" not in pattern and not self.crosses
        self.body = pattern[1:] if self.anchored else pattern

    def expression(self, is_dir: bool) -> bytes:
        """What the whole name (if `by_name`) or the whole path must match."""
        if not self.wild:
            return self._from_any_start(re.escape(self.body))
        atoms = _translate(self.body)
        variants = [atoms]
        # rsync appends "/" to a directory for a pattern that ends with "***", so that x/*** takes x itself too.
        if is_dir and self.takes_directory and atoms[-2:-1] == [_SLASH]:
            variants.append(atoms[:-2])
        return self._from_any_start(b"|".join(self._join(variant) for variant in variants))

    def _from_any_start(self, body: bytes) -> bytes:
        if self.by_name or self.anchored or self.starts_with_crossing:
            return body
        return b"(?:.*/)?(?:" + body + b")"

    def _join(self, atoms: list[bytes]) -> bytes:
        # rsync puts "/" before the path for a pattern that begins with "**", so that **/x takes x at the top too.
        if self.starts_with_crossing and atoms[1:2] == [_SLASH]:
            return b"(?:.*/)?" + b"".join(atoms[2:])
        return b"".join(atoms)


_SLASH = b"/"
_ANY = b"[^/]"
_STAR = b"[^/]*"
_CROSSING = b".*"


def _translate(pattern: bytes) -> list[bytes]:
    """A wildcard pattern as expressions, one for each of its elements; ValueError if it can match nothing."""
    atoms = []
    at = 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        at += 1
        if char == b"\\":
            if at == len(pattern):
                raise ValueError("ends with a backslash that escapes nothing")
            char = pattern[at : at + 1]
            atoms.append(_SLASH if char == b"/" else re.escape(char))
            at += 1
        elif char == b"*":
            end = at
            while pattern[end : end + 1] == b"*":
                end += 1
            atoms.append(_STAR if end == at else _CROSSING)
            at = end
        elif char == b"?":
            atoms.append(_ANY)
        elif char == b"[":
            members, at = _class(pattern, at)
            atoms.append(b"[%s]" % b"".join(b"\\x%02x" % member for member in sorted(members)) if members else b"(?!)")
        else:
            atoms.append(_SLASH if char == b"/" else re.escape(char))
    return atoms


_POSIX = {
    b"alnum": (string.ascii_letters + string.digits).encode(),
    b"alpha": string.ascii_letters.encode(),
    b"blank": b" \t",
    b"cntrl": bytes(range(32)) + b"\x7f",
    b"digit": string.digits.encode(),
    b"graph": bytes(range(33, 127)),
    b"lower": string.ascii_lowercase.encode(),
    b"print": bytes(range(32, 127)),
    b"punct": string.punctuation.encode(),
    b"space": string.whitespace.encode(),
    b"upper": string.ascii_uppercase.encode(),
    b"xdigit": string.hexdigits.encode(),
}


def _class(pattern: bytes, at: int) -> tuple[set[int], int]:
    """The bytes that a class takes, and where the pattern goes on; `at` is just behind its "["."""
    negated = pattern[at : at + 1] in (b"!", b"^")
    at += negated
    first = at
    members: set[int] = set()
    low: int | None = None  # what a range that comes next would begin with
    while True:
        char = pattern[at : at + 1]
        if not char:
            raise ValueError("has a [ without its ]; for a name with a bracket write [[]")
        if char == b"]" and at > first:
            break
        if char == b"/":
            raise ValueError("has a slash between [ and ], which never matches one")
        if char == b"[" and pattern[at + 1 : at + 2] == b":" and (named := _POSIX_NAME.match(pattern, at)):
            if named[1] not in _POSIX:
                raise ValueError(f"has an unknown class [:{named[1].decode(errors='replace')}:]")
            members.update(_POSIX[named[1]])
            low, at = None, named.end()
            continue
        is_range = char == b"-" and low is not None and pattern[at + 1 : at + 2] not in (b"", b"]")
        at += is_range
        if pattern[at : at + 1] == b"\\":
            at += 1
            if at == len(pattern):
                raise ValueError("ends with a backslash that escapes nothing")
        value = pattern[at]
        members.update(range(low, value + 1) if is_range and low is not None else (value,))
        low = None if is_range else value
        at += 1
    return (set(range(256)) - members if negated else members) - {ord("/")}, at + 1


# Up to the first "]", which must follow a ":"; otherwise the bracket stands for itself.
_POSIX_NAME = re.compile(rb"\[:([^\]]*):\]")


def _literal(name: bytes) -> bytes:
    """A pattern for exactly `name`; what a line cannot hold is matched as any control character."""
    if not any(char in name for char in b"*?[\r\n"):
        return name
    escaped = re.sub(rb"[\\*?\[]", rb"\\\g<0>", name)
    return re.sub(rb"[\r\n]", b"[[:cntrl:]]", escaped)
