"""Where the roots of a module lie: the directories above them, and which path belongs to which root.

It decides by names alone and reads nothing from the disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pyrsyncbackup_agent.modules import Root
    from pyrsyncbackup_agent.patterns import Rules


class Node:
    """A directory above the roots, or a root (`root` > 0). `names` are those of a root that is only some names."""

    __slots__ = ("children", "names", "names_root", "root")

    def __init__(self) -> None:
        self.children: dict[bytes, Node] = {}
        self.names: frozenset[bytes] = frozenset()
        self.names_root = 0
        self.root = 0


class Place(NamedTuple):
    """Where a path lies: its root (0: above the roots) and its path relative to that root."""

    root: int
    relative: bytes


class Tree:
    """The roots of a module as one tree from "/" down."""

    def __init__(self, roots: Iterable[Root], rules: Rules) -> None:
        self.rules = rules
        self.filtering = not rules.trivial
        self.top = Node()
        for root in roots:
            self._add(root)

    def _add(self, root: Root) -> None:
        node = self.top
        for name in root.path.split(b"/") if root.path else ():
            if node.root:
                return  # inside a root that was there before
            node = node.children.setdefault(name, Node())
        if root.names:
            node.names = frozenset(root.names)
            node.names_root = root.id
        else:
            node.root = root.id
            node.children.clear()

    def locate(self, path: bytes) -> Place | None:
        """Return the place of `path`, or None if it is no part of the module (rules for parents are not asked)."""
        parts = path.split(b"/")
        if not path or any(part in (b"", b".", b"..") or b"\0" in part for part in parts):
            return None
        node = self.top
        for index, name in enumerate(parts):
            if node.root:
                return Place(node.root, b"/".join(parts[index:]))
            child = node.children.get(name)
            if child is None:
                if index == len(parts) - 1 and name in node.names:
                    return Place(node.names_root, name)
                return None
            node = child
        return Place(node.root, b"")

    def excluded(self, relative: bytes, is_dir: bool) -> bool:
        """Say whether the rules exclude a path of a root, itself or by one of its parents."""
        if not self.filtering or not relative:
            return False
        parts = relative.split(b"/")
        return any(
            self.rules.excluded(b"/".join(parts[:end]), is_dir or end < len(parts)) for end in range(1, len(parts) + 1)
        )
