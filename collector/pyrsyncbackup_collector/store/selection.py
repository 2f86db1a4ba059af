"""Picks the entries that somebody named by path: the path itself, all below it, and the directories above it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from pyrsyncbackup_collector.entry import Entry, parent, printable
from pyrsyncbackup_collector.errors import NotFound

# Names kept to suggest from; a directory of a million files must not fill memory for the sake of a hint.
_MAX_CANDIDATES = 10_000


def normal(path: bytes) -> bytes:
    """A path as a person writes it, as entries have it: no slash at either end, none doubled; b"" is everything."""
    return b"/".join(name for name in path.split(b"/") if name not in (b"", b"."))


def select(entries: Iterable[Entry], paths: Sequence[bytes]) -> list[Entry]:
    """The entries chosen by `paths`, in order; raise NotFound, with near names, if one of them is not there.

    They are held in memory, so that nothing is done before every path is known to exist.
    """
    wanted = [normal(path) for path in paths]
    if b"" in wanted:
        return list(entries)
    exact = frozenset(wanted)
    below = tuple(path + b"/" for path in wanted)
    above = frozenset(_ancestors(wanted))
    siblings = frozenset(map(parent, wanted))
    names = frozenset(path.rpartition(b"/")[2] for path in wanted)
    chosen, found, candidates = [], set[bytes](), list[bytes]()
    for entry in entries:
        path = entry.path
        if path in exact:
            found.add(path)
            chosen.append(entry)
        elif path in above or path.startswith(below):
            chosen.append(entry)
        if len(candidates) < _MAX_CANDIDATES:
            directory, _, name = path.rpartition(b"/")
            if directory in siblings or name in names:
                candidates.append(path)
    for path in wanted:
        if path not in found:
            raise NotFound(f"/{printable(path)} is not in the snapshot", _near(path, candidates))
    return chosen


def _ancestors(paths: Iterable[bytes]) -> Iterable[bytes]:
    for path in paths:
        while path := parent(path):
            yield path


def _near(path: bytes, candidates: list[bytes]) -> str:
    name = path.rpartition(b"/")[2]
    same = [each for each in candidates if each.rpartition(b"/")[2] == name]
    texts = {each.decode("utf-8", "surrogateescape"): each for each in candidates}
    close = difflib.get_close_matches(path.decode("utf-8", "surrogateescape"), texts, n=3, cutoff=0.7)
    near = list(dict.fromkeys([*same[:3], *(texts[text] for text in close)]))
    if not near:
        return "`pyrsyncbackup ls HOST/MODULE` shows what is"
    return "did you mean " + " or ".join(f"/{printable(each)}" for each in near[:3]) + "?"
