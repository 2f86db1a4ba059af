"""The merge of what a module holds now with its newest snapshot: pure, one pass, bounded memory.

Both come in the order of `entry.order`. What is the same is only counted; everything else is a `Finding`. Nothing that
could not be read is taken for removed: it is carried forward from the snapshot, marked stale.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from enum import IntEnum

import msgspec

from pyrsyncbackup_collector.entry import DIRECTORY, FILE, UNKNOWN, Entry, order
from pyrsyncbackup_collector.transport.offer import ErrorKind, Listed

# What a cursor holds behind the last entry.
END = Entry()


class Need(IntEnum):
    """What has to be done before a finding can be recorded."""

    NOTHING = 0
    # Only token or metadata differ: the content may be the one that is known. Ask for its digest.
    HASH = 1
    # The content is new, or has another size.
    CONTENT = 2


class Finding(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One path that is not the same as before.

    `entry` is what to record (None: removed), without content while `need` is not NOTHING; `before` is its entry in the
    newest snapshot; `position` is its place among the entries that are there now; `problem` is the reason why it could
    not be read.
    """

    path: bytes
    entry: Entry | None
    before: Entry | None = None
    need: Need = Need.NOTHING
    token: int = 0
    young: bool = False
    root: int = 0
    position: int = -1
    problem: str = ""


class Comparison:
    """Runs the merge once; afterwards `tokens` holds a token (0: none to keep) for each entry that is there now."""

    def __init__(self, known_tokens: array[int], lost: AbstractSet[str] = frozenset()) -> None:
        """`known_tokens` belong to the entries of the newest snapshot, in their order; empty if there are none.

        `lost` are digests of contents that have to come again although nothing changed.
        """
        self._lost = lost
        self.tokens: array[int] = array("Q")
        self.same = 0
        self._known = known_tokens
        # Order keys, with separator, of the directories around this place that could not be read.
        self._blocked: list[bytes] = []

    @property
    def remembers(self) -> bool:
        """Whether there were tokens to compare with."""
        return bool(self._known)

    def findings(self, listing: Iterable[Listed], snapshot: Iterable[Entry]) -> Iterator[Finding]:
        """Everything that differs, in order; consumes both."""
        older = _Cursor(snapshot)
        for listed in listing:
            path = listed.entry.path
            key = order(path)
            while older.key is not None and older.key < key:
                yield self._gone(older.entry, older.key)
                older.advance()
            before = None
            position = older.position
            if older.key == key:
                before = older.entry
                older.advance()
            if listed.error is not None:
                if listed.error is ErrorKind.VANISHED:
                    if before is not None:
                        yield Finding(path, None, before)
                    continue
                # Nothing below those that do not hold this one can come any more.
                while self._blocked and not key.startswith(self._blocked[-1]):
                    self._blocked.pop()
                self._blocked.append(key + b"\0")
                yield self._unreadable(listed, before)
                continue
            finding = self._readable(path, listed, before, position)
            if finding is not None:
                yield finding
        while older.key is not None:
            yield self._gone(older.entry, older.key)
            older.advance()

    def _gone(self, before: Entry, key: bytes) -> Finding:
        """An entry of the snapshot that was not listed: removed, or hidden below what could not be read."""
        while self._blocked and not key.startswith(self._blocked[-1]):
            self._blocked.pop()
        if not self._blocked:
            return Finding(before.path, None, before)
        kept = _carried(before)
        return Finding(before.path, kept, before, position=self._place(0), problem="its directory could not be read")

    def _unreadable(self, listed: Listed, before: Entry | None) -> Finding:
        entry, problem = listed.entry, listed.entry.error
        if before is None or _never_read(before):
            # Its name and the reason are all there is.
            return Finding(entry.path, entry, before, position=self._place(0), problem=problem)
        if entry.type == DIRECTORY and before.type == DIRECTORY:
            # Its own metadata could be read, what is in it could not.
            kept = msgspec.structs.replace(entry, stale=True)
        else:
            kept = _carried(before)
        return Finding(entry.path, kept, before, position=self._place(0), problem=problem)

    def _readable(self, path: bytes, listed: Listed, before: Entry | None, position: int) -> Finding | None:
        entry, token = listed.entry, listed.token
        content = entry.type == FILE and not entry.link_to_text and not entry.link_to_b64
        kept = 0 if listed.young else token
        if before is None or before.type != entry.type:
            need = Need.CONTENT if content else Need.NOTHING
            return Finding(path, entry, before, need, token, listed.young, listed.root, self._place(kept))
        if entry.type != FILE:
            # Blocks in use move without a change to the content, and count for files alone.
            self.tokens.append(kept)
            if entry == before:
                self.same += 1
                return None
            return Finding(path, entry, before, Need.NOTHING, token, listed.young, listed.root, len(self.tokens) - 1)
        settled = position < len(self._known) and self._known[position] == token and token != 0
        # `stale`, `changing` and `error` of the snapshot's entry are not taken over, so that such a one always differs.
        aligned = msgspec.structs.replace(
            entry, sha256=before.sha256, chunks=before.chunks, claimed=before.claimed, allocated=before.allocated
        )
        self.tokens.append(kept)
        lost = content and before.sha256 in self._lost
        if settled and aligned == before and not lost:
            self.same += 1
            return None
        if content:
            need = Need.HASH if before.sha256 and before.size == entry.size and not lost else Need.CONTENT
        else:
            need = Need.NOTHING  # another name of a file: its first name tells about the content
        return Finding(path, entry, before, need, token, listed.young, listed.root, len(self.tokens) - 1)

    def _place(self, token: int) -> int:
        self.tokens.append(token)
        return len(self.tokens) - 1


def _carried(before: Entry) -> Entry:
    """`before` as it is carried forward. Of files alone it is found out whether the first name still is the same."""
    kept = msgspec.structs.replace(before, stale=True)
    return kept if before.type == FILE else msgspec.structs.replace(kept, link_to_text="", link_to_b64=b"")


def _never_read(before: Entry) -> bool:
    """Whether no snapshot holds anything of what is in it."""
    if before.type == DIRECTORY:
        return bool(before.error) and not before.stale
    return before.type == UNKNOWN or (before.type == FILE and not before.sha256)


class _Cursor:
    """The next entry of a snapshot with its sort key and position; at the end the key is None."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = iter(entries)
        self.position = -1
        self.advance()

    def advance(self) -> None:
        """Go to the next entry."""
        self.position += 1
        entry = next(self._entries, None)
        self.key = None if entry is None else order(entry.path)
        self.entry = entry or END
