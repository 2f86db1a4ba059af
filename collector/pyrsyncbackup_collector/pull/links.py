"""Hard links of a pull: every further name of an inode records the content of its first name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from pyrsyncbackup_collector.entry import FILE, Entry
from pyrsyncbackup_collector.errors import AgentMisbehaved
from pyrsyncbackup_collector.pull.compare import Finding

# An agent remembers 100,000; what is beyond it lists as files of their own.
MAX_FIRST_NAMES = 200_000


class Links:
    """Notes which first names are wanted while listing, learns their contents while settling."""

    def __init__(self, snapshot: Callable[[], Iterator[Entry]]) -> None:
        """`snapshot` reads the newest snapshot anew, for first names that did not change."""
        self._snapshot = snapshot
        self._wanted: set[bytes] = set()
        self._first: dict[bytes, tuple[Entry | None, int]] = {}
        self._read = False

    def note(self, finding: Finding) -> None:
        """Remember the first name of a further one; links and special files have no content to share."""
        if finding.entry is not None and finding.entry.link_to and finding.entry.type == FILE:
            self._wanted.add(finding.entry.link_to)
            if len(self._wanted) > MAX_FIRST_NAMES:
                raise AgentMisbehaved(f"the agent listed hard links to more than {MAX_FIRST_NAMES} files")

    def settled(self, entry: Entry, token: int) -> None:
        """The final entry of a finding that may be a first name."""
        if entry.path in self._wanted:
            self._first[entry.path] = (entry, token)

    def gone(self, path: bytes) -> None:
        """A finding that is not there after all, or was removed."""
        if path in self._wanted:
            self._first[path] = (None, 0)

    def resolve(self, entry: Entry, finding: Finding, problem: str) -> tuple[Entry, str]:
        """`entry`, another name, with the content of its first name; or without, marked, if they no longer match."""
        first, token = self._first.get(entry.link_to) or self._unchanged(entry.link_to)
        if entry.stale:
            return _carried(entry, first), problem
        if first is None:
            before = finding.before
            if before is not None and before.sha256:
                # Known content is carried forward, never given up for what could not be had.
                entry = msgspec.structs.replace(before, link_to_text="", link_to_b64=b"", stale=True, changing=True)
            else:
                entry = msgspec.structs.replace(entry, link_to_text="", link_to_b64=b"", changing=True)
            return entry, "its first name vanished while it was pulled"
        if first.type != FILE or first.link_to:
            raise AgentMisbehaved("the agent listed a hard link to something that is no file")
        changed = (token not in (0, finding.token) and not first.stale) or first.size != entry.size
        linked = msgspec.structs.replace(
            entry,
            size=first.size,
            sha256=first.sha256,
            chunks=first.chunks,
            claimed=first.claimed,
            changing=first.changing or changed,
            public=entry.public and not first.changing and not changed,
            stale=first.stale,
            error=first.error,
        )
        return linked, "changed while it was pulled" if changed else problem

    def _unchanged(self, path: bytes) -> tuple[Entry | None, int]:
        """The first name as it is in the newest snapshot."""
        if not self._read:
            self._read = True
            for entry in self._snapshot():
                if entry.path in self._wanted and entry.path not in self._first:
                    self._first[entry.path] = (entry, 0)
        return self._first.get(path, (None, 0))


def _carried(entry: Entry, first: Entry | None) -> Entry:
    """`entry`, which could not be read now, as it was: a link only to a first name that is what it was, too."""
    if first is not None and first.type == FILE and not first.link_to and first.sha256 == entry.sha256:
        return entry
    return msgspec.structs.replace(entry, link_to_text="", link_to_b64=b"")
