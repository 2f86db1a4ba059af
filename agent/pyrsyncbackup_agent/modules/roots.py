"""Where the paths of a module really lead: links resolved where they can be trusted, overlapping trees merged.

A link is followed only if it and the directory that holds it belong to a trusted user (root) and nobody else can write
there; otherwise a local user could make the privileged reader walk /root for him. What is below a root is walked
without following any link: that is `entries`' business.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from pyrsyncbackup_agent.modules.detected import Root

MAX_LINKS = 40  # as Linux
# Trees that the kernel makes up: a link into them (/etc/mtab leads to /proc/PID/mounts) is kept as a link.
MADE_UP = frozenset({b"proc", b"sys", b"dev"})


@dataclass(frozen=True)
class Place:
    """A tree, or with `name` one entry of the directory `path`; relative to "/" like `alias`, the path as defined."""

    path: bytes
    name: bytes = b""
    alias: bytes = b""


class _NotFollowed(Exception):
    """A link on the way cannot be trusted, or leads nowhere."""


def resolve(path: bytes, trusted: frozenset[int]) -> tuple[list[Place], str]:
    """The places that the absolute `path` stands for, and a note about what was left out.

    A link at the end of the path is a place itself, and so is what it leads to if it can be trusted. FileNotFoundError
    if there is nothing; PermissionError where it cannot be looked at.
    """
    walk = _Walk(trusted)
    wanted = path.strip(b"/")
    if not wanted:
        return [Place(b"")], ""
    try:
        parent = walk.enter(wanted.split(b"/")[:-1])
    except _NotFollowed as reason:
        return [], str(reason)
    name = wanted.rpartition(b"/")[2]
    status = os.lstat(_absolute(parent, name))
    if stat.S_ISDIR(status.st_mode):
        return [_aliased(Place(_join(parent, name)), wanted)], ""
    places = [_aliased(Place(_joined(parent), name), wanted)]
    if not stat.S_ISLNK(status.st_mode):
        return places, ""
    try:
        target = Place(_joined(walk.enter([name])), alias=wanted)
    except NotADirectoryError:
        target = Place(_joined(walk.here[:-1]), walk.here[-1], alias=wanted)
    except (_NotFollowed, FileNotFoundError) as reason:
        note = str(reason) if isinstance(reason, _NotFollowed) else f"{_shown(wanted)} leads nowhere"
        return places, note
    if walk.here[:1] and walk.here[0] in MADE_UP:
        return places, f"the link {_shown(wanted)} leads into /{os.fsdecode(walk.here[0])}, so it is not followed"
    return [*places, target], ""


def merge(places: Iterable[Place]) -> tuple[Root, ...]:
    """Roots for the places: trees inside other trees and double ones are gone, ids from 1 in path order."""
    places = list(places)
    trees = {place.path for place in places if not place.name}
    tops = {tree for tree in trees if not any(_inside(tree, other) for other in trees if other != tree)}
    names: dict[bytes, set[bytes]] = {}
    aliases: dict[bytes, set[bytes]] = {}
    for place in places:
        cover = next((top for top in tops if place.path == top or _inside(place.path, top)), None)
        if cover is None:
            names.setdefault(place.path, set()).add(place.name)
        if place.alias:
            aliases.setdefault(place.path if cover is None else cover, set()).add(place.alias)
    paths = sorted(tops | set(names), key=lambda path: path.replace(b"/", b"\0"))
    return tuple(
        Root(number, path, frozenset(names.get(path, ())), tuple(sorted(aliases.get(path, ()))))
        for number, path in enumerate(paths, 1)
    )


class _Walk:
    """Goes down from "/" name by name, over links that can be trusted."""

    def __init__(self, trusted: frozenset[int]) -> None:
        self.here: list[bytes] = []
        self._trusted = trusted
        self._links = 0

    def enter(self, names: list[bytes]) -> list[bytes]:
        """Follow `names` from here; the real names of the directory reached.

        NotADirectoryError if the end is something else, which `here` then names.
        """
        waiting = list(reversed(names))
        while waiting:
            name = waiting.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                self.here = self.here[:-1]
                continue
            status = os.lstat(_absolute(self.here, name))
            if stat.S_ISLNK(status.st_mode):
                target = self._follow(name, status)
                if target.startswith(b"/"):
                    self.here = []
                waiting.extend(reversed(target.split(b"/")))
                continue
            self.here = [*self.here, name]
            if not stat.S_ISDIR(status.st_mode):
                if waiting:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), _absolute(self.here))
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), _absolute(self.here))
        return self.here

    def _follow(self, name: bytes, link: os.stat_result) -> bytes:
        shown = _shown(_join(self.here, name))
        self._links += 1
        if self._links > MAX_LINKS:
            raise _NotFollowed(f"{shown}: too many links")
        if link.st_uid not in self._trusted:
            raise _NotFollowed(f"the link {shown} belongs to user {link.st_uid}, so it is not followed")
        self._check_directories(shown)
        return os.readlink(_absolute(self.here, name))

    def _check_directories(self, shown: str) -> None:
        """Nobody but the trusted may be able to put another link here, nor another directory above it."""
        for depth in range(len(self.here), -1, -1):
            directory = self.here[:depth]
            status = os.lstat(_absolute(directory))
            writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            # In a sticky directory above, others cannot replace the trusted user's directory.
            if writable and depth < len(self.here) and status.st_mode & stat.S_ISVTX:
                writable = 0
            if status.st_uid not in self._trusted or writable:
                where = _shown(b"/".join(directory))
                raise _NotFollowed(f"the link {shown} is not followed: others can write to {where}")


def _aliased(place: Place, wanted: bytes) -> Place:
    real = _join([place.path] if place.path else [], place.name) if place.name else place.path
    return place if real == wanted else Place(place.path, place.name, wanted)


def _inside(path: bytes, tree: bytes) -> bool:
    return path != tree and (not tree or path.startswith(tree + b"/"))


def _joined(names: list[bytes]) -> bytes:
    return b"/".join(names)


def _join(names: list[bytes], name: bytes) -> bytes:
    return b"/".join([*names, name])


def _absolute(names: list[bytes], name: bytes = b"") -> bytes:
    return b"/" + (_join(names, name) if name else _joined(names))


def _shown(path: bytes) -> str:
    return "/" + os.fsdecode(path)
