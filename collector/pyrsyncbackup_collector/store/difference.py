"""Says what differs between two lists of entries in manifest order, and between two texts. Pure, one pass.

Whether a difference is worth a transfer is decided elsewhere; here is what a person wants to see.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from pyrsyncbackup_collector.entry import DIRECTORY, FILE, UNKNOWN, Entry, order
from pyrsyncbackup_collector.store.unified import unified

Kind = Literal["added", "removed", "type", "content", "metadata"]

# What is larger nobody reads line by line.
MAX_TEXT: Final = 1024 * 1024
MAX_LINES: Final = 10_000

_ACL_PREFIX: Final = "system.posix_acl_"
_CONTENT: Final = frozenset({"content", "target", "device"})


@dataclass(frozen=True, slots=True)
class Difference:
    """One path that differs.

    `kind`: "added" (no `before`), "removed" (no `after`), "type" (a file became a directory, ...), "content" (bytes of
    a file, target of a link, numbers of a device) or "metadata" (only that). `fields` names what changed, for the last
    three: "type", "content", "size", "target", "device", "mode", "owner", "group", "mtime", "acl", "xattrs", "link"
    (which names are one inode), "readable" (it could not be read, or can be again).
    """

    path: bytes
    kind: Kind
    before: Entry | None
    after: Entry | None
    fields: tuple[str, ...] = ()


def differences(before: Iterable[Entry], after: Iterable[Entry]) -> Iterator[Difference]:
    """Merge two lists of entries, each in manifest order, into what differs, in the same order.

    An entry of type file without a digest (a listing from an agent, before any transfer) counts as changed content
    when its size or time differ.
    """
    left, right = iter(before), iter(after)
    old, new = next(left, None), next(right, None)
    while old is not None or new is not None:
        old_key = order(old.path) if old is not None else None
        new_key = order(new.path) if new is not None else None
        if new is None or (old_key is not None and new_key is not None and old_key < new_key):
            assert old is not None  # noqa: S101 (the loop's condition)
            yield Difference(old.path, "removed", old, None)
            old = next(left, None)
        elif old is None or old_key != new_key:
            yield Difference(new.path, "added", None, new)
            new = next(right, None)
        else:
            if old != new and (found := compare(old, new)):
                yield found
            old, new = next(left, None), next(right, None)


def compare(before: Entry, after: Entry) -> Difference | None:
    """What differs between two states of one path, if anything that a person can see does."""
    fields = tuple(_fields(before, after))
    if not fields:
        return None
    kind: Kind = "type" if "type" in fields else "content" if _CONTENT.intersection(fields) else "metadata"
    return Difference(after.path, kind, before, after, fields)


def _fields(before: Entry, after: Entry) -> Iterator[str]:
    if before.type != after.type:
        yield "type"
        if UNKNOWN in (before.type, after.type):
            yield "readable"
        return
    if before.type == FILE and _content_differs(before, after):
        yield "content"
    # The size of a directory is its file system's affair.
    if before.type != DIRECTORY and before.size != after.size:
        yield "size"
    if before.target != after.target:
        yield "target"
    if before.rdev != after.rdev:
        yield "device"
    if before.mode != after.mode:
        yield "mode"
    if (before.uid, before.user) != (after.uid, after.user):
        yield "owner"
    if (before.gid, before.group) != (after.gid, after.group):
        yield "group"
    if (before.mtime_s, before.mtime_ns) != (after.mtime_s, after.mtime_ns):
        yield "mtime"
    if before.xattrs != after.xattrs:
        yield from _xattr_fields(before.xattrs, after.xattrs)
    if before.link_to != after.link_to:
        yield "link"
    if bool(before.error) != bool(after.error):
        yield "readable"


def _content_differs(before: Entry, after: Entry) -> bool:
    if before.sha256 and after.sha256:
        return before.sha256 != after.sha256
    if before.error or after.error:
        # Nothing is known of the content of what could not be read.
        return False
    state = (before.size, before.mtime_s, before.mtime_ns)
    return state != (after.size, after.mtime_s, after.mtime_ns)


def _xattr_fields(before: dict[str, bytes], after: dict[str, bytes]) -> Iterator[str]:
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    if any(name.startswith(_ACL_PREFIX) for name in changed):
        yield "acl"
    if not all(name.startswith(_ACL_PREFIX) for name in changed):
        yield "xattrs"


@dataclass(frozen=True, slots=True)
class TextDifference:
    """A unified difference: `lines` without line ends, or `reason` why there are none ("binary", "too large").

    Lines are the host's text: bytes that are not UTF-8 are surrogates, control characters are as they are.
    """

    lines: tuple[str, ...]
    reason: Literal["", "binary", "too large"] = ""


def text_difference(
    before: bytes | None, after: bytes | None, before_name: str = "before", after_name: str = "after", context: int = 3
) -> TextDifference:
    """Compare two contents line by line as `diff -u` does; None stands for a file that is not there."""
    contents = (before or b"", after or b"")
    if any(len(each) > MAX_TEXT for each in contents):
        return TextDifference((), "too large")
    if any(b"\0" in each for each in contents):
        return TextDifference((), "binary")
    lines = [_lines(each) for each in contents]
    if any(len(each) > MAX_LINES for each in lines):
        return TextDifference((), "too large")
    names = (before_name if before is not None else "/dev/null", after_name if after is not None else "/dev/null")
    return TextDifference(tuple(_shown(unified(lines[0], lines[1], *names, context))))


def _lines(content: bytes) -> list[str]:
    """Lines with their ends; only a newline ends one, as diff(1) has it."""
    text = content.decode("utf-8", "surrogateescape")
    lines = [line + "\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _shown(unified: Iterable[str]) -> Iterator[str]:
    for line in unified:
        if line.endswith("\n"):
            yield line[:-1]
        else:
            yield line
            yield "\\ No newline at end of file"
