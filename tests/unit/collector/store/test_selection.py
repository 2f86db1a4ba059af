from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pyrsyncbackup_collector import entry
from pyrsyncbackup_collector.entry import order, parent
from pyrsyncbackup_collector.store.selection import normal, select

from tests.support.tree import make

_names = st.sampled_from([b"a", b"b", b"a-", b"ab", b"\xff"])
_paths = st.lists(_names, min_size=1, max_size=4).map(b"/".join)


@given(st.sets(_paths, min_size=1, max_size=15), st.data())
def test_a_selection_is_closed_upwards_and_whole_downwards(leaves: set[bytes], data: st.DataObject) -> None:
    paths = set(leaves)
    for path in leaves:
        while path := parent(path):
            paths.add(path)
    entries = [make(path, entry.DIRECTORY) for path in sorted(paths, key=order)]
    wanted = data.draw(st.lists(st.sampled_from(sorted(paths)), min_size=1, max_size=3))

    chosen = [each.path for each in select(entries, wanted)]

    assert chosen == [
        path
        for path in sorted(paths, key=order)
        if any(path == each or _above(path, each) or _above(each, path) for each in wanted)
    ]


def _above(upper: bytes, lower: bytes) -> bool:
    names, more = upper.split(b"/"), lower.split(b"/")
    return len(names) < len(more) and more[: len(names)] == names


def test_the_top_is_everything() -> None:
    entries = [make(b"etc", entry.DIRECTORY), make(b"etc/hosts")]
    for top in (b"/", b"", b".", b"./"):
        assert normal(top) == b""
        assert select(entries, [top]) == entries
