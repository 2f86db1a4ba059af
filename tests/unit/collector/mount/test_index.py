"""An index finds what a plain list would, whatever the names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pyrsyncbackup_collector.entry import DIRECTORY, Entry, order, parent
from pyrsyncbackup_collector.mount import index
from pyrsyncbackup_collector.mount.index import Index

from tests.support import tree

# Bytes around the separator, and what sorts below and above letters.
NAMES = st.sampled_from([b"a", b"a.b", b"a-", b"a\x01", b"b", b"\x01", b"\xff", b"ab", b"z"])
PATHS = st.lists(st.lists(NAMES, min_size=1, max_size=4).map(b"/".join), max_size=40)


def entries(paths: list[bytes]) -> list[Entry]:
    """Files at those paths, and the directories that they need, in the order of a manifest."""
    kinds: dict[bytes, str] = {}
    for path in paths:
        kinds.setdefault(path, "file")
        while path := parent(path):
            kinds[path] = DIRECTORY
    return [tree.make(path, kinds[path]) for path in sorted(kinds, key=order)]


@given(PATHS, st.integers(1, 7))
def test_it_answers_as_a_list_does(paths: list[bytes], size: int) -> None:
    everything = entries(paths)
    before, index.BLOCK = index.BLOCK, size
    try:
        found = Index(everything)
        assert len(found) == len(everything)
        for position, entry in enumerate(everything):
            assert found.get(entry.path) == (entry, position)
            assert found.get(entry.path + b"0") is None
            assert found.get(entry.path + b"/a\xff") is None
        for directory in [b"", *(entry.path for entry in everything if entry.type == DIRECTORY)]:
            expected = [entry for entry in everything if parent(entry.path) == directory]
            assert [child.entry for child in found.children(directory)] == expected
    finally:
        index.BLOCK = before


def test_an_empty_snapshot_has_nothing() -> None:
    found = Index(())
    assert (len(found), found.get(b"a"), list(found.children(b""))) == (0, None, [])


def test_names_of_one_inode_are_counted() -> None:
    listed = [
        tree.make(b"a"),
        tree.make(b"b", link_to=b"a"),
        tree.make(b"c", link_to=b"a"),
        tree.make(b"d"),
    ]
    found = Index(listed)
    assert [found.names(entry) for entry in listed] == [3, 3, 3, 1]


def test_blocks_that_were_let_go_are_decoded_again() -> None:
    listed = [tree.make(b"%07d" % number) for number in range(index.BLOCK * (index.DECODED + 3))]
    found = Index(listed)
    for entry in (listed[0], listed[-1], *listed[:: index.BLOCK], listed[0]):
        known = found.get(entry.path)
        assert known is not None
        assert known.entry == entry
