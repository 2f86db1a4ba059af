"""Picks the entries that somebody named: by path or by pattern, with all below and the directories above them.

A path that holds wildcards is looked for as it is, too. What is excluded goes with all that is below it, whatever was
named. A selection is made in two passes over a snapshot: one that proves that everything named is there, before
anything is done, and one that yields what is chosen; neither keeps entries in memory.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pyrsyncbackup_collector.entry import DIRECTORY, Entry, parent, printable
from pyrsyncbackup_collector.errors import NotFound
from pyrsyncbackup_collector.store import globs

# Names kept to suggest from; a directory of a million files must not fill memory for the sake of a hint.
_MAX_CANDIDATES = 10_000


@dataclass(frozen=True, slots=True)
class Amount:
    """What a selection comes to: entries, and the bytes of their contents."""

    entries: int
    size: int


def normal(path: bytes) -> bytes:
    """A path as a person writes it, as entries have it: no slash at either end, none doubled; b"" is everything."""
    return b"/".join(name for name in path.split(b"/") if name not in (b"", b"."))


class Selection:
    """`paths` (none: everything) without `excludes`. Raises UsageError for a pattern that cannot be one."""

    def __init__(self, paths: Sequence[bytes] = (), excludes: Sequence[bytes] = ()) -> None:
        plain = [normal(path) for path in paths]
        self._everything = not paths or b"" in plain
        self._exact = frozenset(plain)
        # "/*.conf" is at the top, "*.conf" anywhere: the slash that `normal` takes away says which.
        self._wild = {text: globs.wanted(path) for path, text in zip(paths, plain, strict=True) if globs.is_wild(text)}
        self._globs = tuple(self._wild.values())
        self._excludes = tuple(map(globs.excluded, excludes))
        self._texts = plain

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return self._everything and not self._excludes

    def chosen(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The chosen ones of `entries`, in order, each with the directories above it."""
        if self.everything:
            yield from entries
            return
        above: list[Entry] = []  # directories that lead here and were not chosen themselves
        whole = out = b""  # below this all is chosen, or nothing
        for entry in entries:
            path, directory = entry.path, entry.type == DIRECTORY
            if out and path.startswith(out):
                continue
            out = b""
            if self._excludes and globs.any_matches(self._excludes, path, directory=directory):
                out = path + b"/"
                continue
            while above and not path.startswith(above[-1].path + b"/"):
                above.pop()
            if self._everything or (whole and path.startswith(whole)) or self._names(path, directory=directory):
                yield from above
                above.clear()
                if directory and not (whole and path.startswith(whole)):
                    whole = path + b"/"
                yield entry
            elif directory:
                above.append(entry)

    def prove(self, entries: Iterable[Entry]) -> Amount:
        """What the selection comes to; raise NotFound, with near names, if something that was named is not there."""
        missing = set() if self._everything else set(self._texts)
        siblings = frozenset(map(parent, self._texts))
        names = frozenset(path.rpartition(b"/")[2] for path in self._texts)
        candidates: list[bytes] = []

        def watched() -> Iterator[Entry]:
            for entry in entries:
                path = entry.path
                if missing:
                    self._strike(missing, path, directory=entry.type == DIRECTORY)
                directory, _, name = path.rpartition(b"/")
                if len(candidates) < _MAX_CANDIDATES and (directory in siblings or name in names):
                    candidates.append(path)
                yield entry

        count = size = 0
        for entry in self.chosen(watched()):
            count += 1
            size += entry.size
        for text in self._texts:
            if text in missing:
                what = "nothing in the snapshot matches {}" if text in self._wild else "/{} is not in the snapshot"
                raise NotFound(what.format(printable(text)), _near(text, candidates))
        return Amount(count, size)

    def _strike(self, missing: set[bytes], path: bytes, *, directory: bool) -> None:
        missing.discard(path)
        for text in [text for text in missing if text in self._wild]:
            if self._wild[text].matches(path, directory=directory):
                missing.discard(text)

    def _names(self, path: bytes, *, directory: bool) -> bool:
        return path in self._exact or globs.any_matches(self._globs, path, directory=directory)


def select(entries: Iterable[Entry], paths: Sequence[bytes]) -> list[Entry]:
    """The entries chosen by `paths` as a list, for a snapshot that can be held in memory; raise NotFound."""
    held = list(entries)
    selection = Selection(paths)
    selection.prove(held)
    return list(selection.chosen(held))


def _is_like(name: bytes, other: bytes) -> bool:
    return difflib.SequenceMatcher(None, printable(name), printable(other)).ratio() >= 0.5


def _near(path: bytes, candidates: list[bytes]) -> str:
    name = path.rpartition(b"/")[2]
    same = [each for each in candidates if each.rpartition(b"/")[2] == name]
    texts = {each.decode("utf-8", "surrogateescape"): each for each in candidates}
    close = difflib.get_close_matches(path.decode("utf-8", "surrogateescape"), texts, n=3, cutoff=0.7)
    # Of long paths the directories alone make two alike.
    alike = [texts[text] for text in close if _is_like(name, texts[text].rpartition(b"/")[2])]
    near = list(dict.fromkeys([*same[:3], *alike]))
    if not near:
        return "`pyrsyncbackup ls HOST/MODULE` shows what is"
    return "did you mean " + " or ".join(f"/{printable(each)}" for each in near[:3]) + "?"
