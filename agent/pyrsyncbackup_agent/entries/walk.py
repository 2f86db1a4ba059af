"""The walk over a module: depth first, names of a directory in byte order, by directory descriptors.

One directory's names are held in memory, nothing else grows with the number of entries. The listing and the check read
the same stat data in the same order, so their fingerprints are equal.
"""

from __future__ import annotations

import errno
import marshal
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from pyrsyncbackup_agent.entries.attributes import YOUNG_NS, Attributes, change_token
from pyrsyncbackup_agent.entries.entry import REPLACED, Entry, Fingerprint, Kind, Problem, problem
from pyrsyncbackup_agent.entries.nearby import inside
from pyrsyncbackup_agent.entries.tree import Node, Tree

if TYPE_CHECKING:
    from pyrsyncbackup_agent.modules import Root
    from pyrsyncbackup_agent.patterns import Rules

# O_NONBLOCK: opening never waits, whatever took the directory's place.
DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Names whose stat data is read in one go: some hundred kB.
BLOCK: Final = 512
# Extended attributes that a level holds for its entries to come: some user's files may have a megabyte each.
HELD_BYTES: Final = 64 * 1024
# Levels whose descriptors stay open; above them a directory is opened again from below when the walk returns.
OPEN_LEVELS: Final = 64
# The protocol's limits; nobody's data is deeper, and a local user must not be able to stop a backup by nesting.
MAX_DEPTH: Final = 1000
MAX_PATH: Final = 32768

_ENCODING = sys.getfilesystemencoding()
_DIRECTORY = stat.S_IFDIR
_TYPE_MASK = 0o170000
_ALL = attrgetter("st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_ctime_ns", "st_ino", "st_nlink")
# A directory above the roots holds what is not ours: its times and size change with that.
_ABOVE = attrgetter("st_mode", "st_uid", "st_gid", "st_ino")

_TOO_DEEP = Problem(Kind.IO, "nested too deep to be listed")

Block = list[tuple[bytes, "os.stat_result | Problem"]]


class _Level:
    """A directory that the walk is in."""

    __slots__ = (
        "fd",
        "found",
        "identity",
        "items",
        "names",
        "node",
        "now",
        "position",
        "prefix",
        "public",
        "relative",
        "root",
    )

    def __init__(
        self,
        fd: int,
        status: os.stat_result,
        prefix: bytes,
        relative: bytes,
        root: int,
        node: Node | None,
        *,
        public: bool,
    ) -> None:
        self.fd = fd
        self.identity = (status.st_dev, status.st_ino)
        self.prefix = prefix
        self.relative = relative
        self.root = root
        self.node = node
        self.public = public and bool(status.st_mode & stat.S_IXOTH)
        self.names = _names(fd, node)
        self.position = 0
        self.now = 0
        self.found: Block = []
        self.items: list[Entry] = []  # the next one is the last, so that what is done with can go


class Walk:
    """One walk over `tree`. Iterate it once; `fingerprint` is there when it is exhausted.

    Without `attributes` (the check) it yields nothing and is a third as expensive. `stopped` is asked once per block
    of names; when it says so, the walk ends early and there is no fingerprint. Failures are entries, never exceptions.
    """

    def __init__(
        self, tree: Tree, attributes: Attributes | None = None, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._tree = tree
        self._attributes = attributes
        self._stopped = stopped
        self._digest = blake2b(digest_size=32)
        self._settled = True
        self._count = 0
        self._finished = False

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Digest over all that was walked; None before the end."""
        if not self._finished:
            return None
        return Fingerprint(self._digest.digest(), self._settled, self._count)

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries in the protocol's order."""
        stack: list[_Level] = []
        try:
            top = os.open("/", DIRECTORY_FLAGS)
            node = self._tree.top
            stack.append(_Level(top, os.fstat(top), b"", b"", node.root, None if node.root else node, public=True))
            yield from self._run(stack)
        finally:
            for level in stack:
                if level.fd >= 0:
                    os.close(level.fd)

    def _run(self, stack: list[_Level]) -> Iterator[Entry]:
        attributes = self._attributes
        while stack:
            level = stack[-1]
            items = level.items
            while items:
                entry = items.pop()
                status = entry.stat
                if status is not None and status.st_mode & _TYPE_MASK == _DIRECTORY:
                    directory, child = self._descend(stack, entry)
                    if child is not None:
                        stack.append(child)  # before the entry goes out: whoever stops there must not lose it
                    if attributes:
                        yield directory
                    if child is not None:
                        break
                elif attributes:
                    yield attributes.linked(entry) if status is not None and status.st_nlink > 1 else entry
            else:
                if self._stopped():
                    return
                if not self._fill(level):
                    self._leave(stack)
        self._finished = True

    def _fill(self, level: _Level) -> bool:
        """Read the next names; False when there are none left."""
        if not level.found:
            names = level.names[level.position : level.position + BLOCK]
            if not names:
                return False
            level.position += BLOCK
            level.now = time.time_ns()
            level.found = self._block_above(level, names) if level.node is not None else self._block(level, names)
        entries = self._entries(level, self._attributes) if self._attributes else _bare(level)
        del level.found[: len(entries)]
        entries.reverse()
        level.items = entries
        return True

    def _entries(self, level: _Level, attributes: Attributes) -> list[Entry]:
        """Make entries of what was found, of the first names only if their attributes are large."""
        make = attributes.entry
        prefix, public, now, inside_root = level.prefix, level.public, level.now, level.node is None
        root = level.root
        entries: list[Entry] = []
        held = 0
        with inside(level.fd) as base:
            for name, status in level.found:
                if not inside_root:
                    root = self._root_of(level, name)
                if isinstance(status, Problem):
                    entries.append(Entry(prefix + name, None, root, problem=status))
                    continue
                entry = make(prefix + name, status, base + name, root, public, now)
                if entry.xattrs:
                    held += sum(len(key) + len(value) for key, value in entry.xattrs)
                    if held > HELD_BYTES and entries:
                        break
                entries.append(entry if root else above(entry))
        return entries

    def _block(self, level: _Level, names: list[bytes]) -> Block:
        fd = level.fd
        excluded = self._tree.rules.excluded if self._tree.filtering else None
        keep_all = self._attributes is not None
        read = os.stat
        newest = level.now - YOUNG_NS
        facts: list[object] = [level.prefix]
        block: Block = []
        for name in names:
            try:
                status = read(name, dir_fd=fd, follow_symlinks=False)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    continue
                if excluded and excluded(level.relative + name, False):
                    continue
                block.append((name, problem(error)))
                facts += (name, error.errno)
                self._count += 1
                continue
            values = _ALL(status)
            directory = values[0] & _TYPE_MASK == _DIRECTORY
            if excluded and excluded(level.relative + name, directory):
                continue
            if values[5] > newest:
                self._settled = False
            facts.append(name)
            facts.append(values)
            self._count += 1
            if keep_all or directory:
                block.append((name, status))
        self._add(facts)
        return block

    def _block_above(self, level: _Level, names: list[bytes]) -> Block:
        node = level.node
        assert node is not None  # noqa: S101 - called for a level that has one
        block: Block = []
        facts: list[object] = [level.prefix]
        for name in names:
            child = node.children.get(name)
            try:
                status = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    block.append((name, problem(error)))
                    facts += (name, error.errno)
                    self._count += 1
                continue
            if child is not None and not stat.S_ISDIR(status.st_mode):
                block.append((name, REPLACED))
                facts += (name, -1)
            elif child is None and self._tree.excluded(name, stat.S_ISDIR(status.st_mode)):
                continue
            else:
                ours = child is None or child.root
                if ours and status.st_ctime_ns > level.now - YOUNG_NS:
                    self._settled = False
                facts += (name, _ALL(status) if ours else _ABOVE(status))
                block.append((name, status))
            self._count += 1
        self._add(facts)
        return block

    def _add(self, facts: list[object]) -> None:
        # marshal's version 2 writes bytes and integers in one fixed form, without references to equal objects.
        self._digest.update(marshal.dumps(facts, 2))

    def _root_of(self, level: _Level, name: bytes) -> int:
        if level.node is None:
            return level.root
        child = level.node.children.get(name)
        return child.root if child else level.node.names_root

    def _descend(self, stack: list[_Level], entry: Entry) -> tuple[Entry, _Level | None]:
        """Return the directory's own entry, and the level to go on in unless it cannot be read."""
        level = stack[-1]
        path = entry.path
        name = path[len(level.prefix) :]
        node = level.node.children.get(name) if level.node else None
        child: _Level | None = None
        trouble: Problem | None = None
        if level.node is not None and node is None:
            pass  # one of the names of a root: a directory took the place of a file
        elif len(stack) > MAX_DEPTH or len(path) + 256 > MAX_PATH:
            trouble = _TOO_DEEP
        else:
            try:
                child = self._open(level, name, path, node)
            except OSError as error:
                trouble = problem(error)
                self._add([path, error.errno])
        if trouble:
            entry = entry._replace(problem=trouble)
        if child and len(stack) >= OPEN_LEVELS:
            deep = stack[len(stack) - OPEN_LEVELS]
            if deep.fd >= 0:
                os.close(deep.fd)
                deep.fd = -1
        return entry, child

    def _open(self, level: _Level, name: bytes, path: bytes, node: Node | None) -> _Level:
        fd = os.open(name, DIRECTORY_FLAGS, dir_fd=level.fd)
        try:
            status = os.fstat(fd)
            inside = node is None
            relative = level.relative + name + b"/" if inside else b""
            root = level.root if inside else node.root if node else 0
            return _Level(
                fd, status, path + b"/", relative, root, node if node and not node.root else None, public=level.public
            )
        except BaseException:
            os.close(fd)
            raise

    def _leave(self, stack: list[_Level]) -> None:
        """Go back to the directory above; open it again from below if its descriptor was given up."""
        level = stack.pop()
        try:
            if stack and stack[-1].fd < 0:
                self._reopen(stack[-1], level.fd)
        finally:
            if level.fd >= 0:
                os.close(level.fd)

    def _reopen(self, upper: _Level, fd: int) -> None:
        try:
            upper.fd = os.open("..", DIRECTORY_FLAGS, dir_fd=fd) if fd >= 0 else -1
            status = os.fstat(upper.fd)
            if (status.st_dev, status.st_ino) == upper.identity:
                return
            os.close(upper.fd)
        except OSError:
            pass
        # The directory was moved while the walk was below it: what is left of the old one cannot be reached.
        upper.fd = -1
        names = [entry.path[len(upper.prefix) :] for entry in reversed(upper.items)]
        names += [name for name, _ in upper.found] + upper.names[upper.position :]
        self._settled = False
        upper.position = len(upper.names)
        upper.found = [(name, REPLACED) for name in names]
        upper.items = []


def _bare(level: _Level) -> list[Entry]:
    """Make entries for a walk that lists nothing, and only wants to know where to descend."""
    return [
        Entry(level.prefix + name, None if isinstance(status, Problem) else status, 0) for name, status in level.found
    ]


def above(entry: Entry) -> Entry:
    """Entry of a directory above the roots: its times say nothing about the module, so its token leaves them out."""
    inode = entry.stat.st_ino if entry.stat else 0
    return entry._replace(token=change_token(inode, 0), young=False)


def walk(
    roots: Iterable[Root],
    rules: Rules,
    attributes: Attributes | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Walk:
    """Return a walk that lists `roots`; hard links are known to `attributes` afterwards."""
    return Walk(Tree(roots, rules), attributes or Attributes(), stopped)


def fingerprint(roots: Iterable[Root], rules: Rules, stopped: Callable[[], bool] = lambda: False) -> Fingerprint | None:
    """Return the fingerprint of `roots` without listing them; None if it was stopped."""
    check = Walk(Tree(roots, rules), None, stopped)
    for _ in check:
        pass
    return check.fingerprint


def _names(fd: int, node: Node | None) -> list[bytes]:
    if node is not None:
        return sorted(set(node.children) | node.names)
    with os.scandir(fd) as found:
        return sorted([item.name.encode(_ENCODING, "surrogateescape") for item in found])
