from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrsyncbackup_collector import entry
from pyrsyncbackup_collector.entry import order, parent
from pyrsyncbackup_collector.errors import NotFound
from pyrsyncbackup_collector.store.selection import Amount, Selection, normal, select

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


def _snapshot() -> list[entry.Entry]:
    return [
        make(b"etc", entry.DIRECTORY),
        make(b"etc/hosts", size=1),
        make(b"etc/nginx", entry.DIRECTORY),
        make(b"etc/nginx/conf.d", entry.DIRECTORY),
        make(b"etc/nginx/conf.d/a.conf", size=10),
        make(b"etc/nginx/nginx.conf", size=100),
        make(b"etc/nginx/odd[1].conf", size=1000),
        make(b"srv", entry.DIRECTORY),
        make(b"srv/cache", entry.DIRECTORY),
        make(b"srv/cache/x", size=10_000),
    ]


@pytest.mark.parametrize(
    ("paths", "excludes", "leaves", "size"),
    [
        ([], [b"*.conf"], [b"etc/hosts", b"etc/nginx/conf.d", b"srv/cache/x"], 10_001),
        ([b"*.conf"], [], [b"etc/nginx/conf.d/a.conf", b"etc/nginx/nginx.conf", b"etc/nginx/odd[1].conf"], 1110),
        ([b"etc/nginx/*.conf"], [], [b"etc/nginx/nginx.conf", b"etc/nginx/odd[1].conf"], 1100),
        ([b"etc/nginx/odd[1].conf"], [], [b"etc/nginx/odd[1].conf"], 1000),
        ([b"conf.*"], [], [b"etc/nginx/conf.d/a.conf"], 10),
        ([b"srv"], [b"cache/"], [b"srv"], 0),
        ([b"etc", b"srv"], [b"/etc/nginx/conf.d", b"/srv/**"], [b"etc/hosts", b"etc/nginx/nginx.conf"], 1101),
    ],
)
def test_patterns_choose_and_excludes_leave_out(
    paths: list[bytes], excludes: list[bytes], leaves: list[bytes], size: int
) -> None:
    selection = Selection(paths, excludes)
    chosen = list(selection.chosen(_snapshot()))
    found = [each.path for each in chosen]
    assert [path for path in leaves if path not in found] == []
    assert all(parent(path) in ("", b"", *found) for path in found), "each with the directories above it"
    assert selection.prove(_snapshot()) == Amount(len(found), size)


@pytest.mark.parametrize(
    ("path", "cause", "hint"),
    [
        (b"*.cnf", r"nothing in the snapshot matches \*.cnf", "`pyrsyncbackup ls HOST/MODULE` shows what is"),
        (b"etc/host[xyz]", "nothing in the snapshot matches", "did you mean /etc/hosts"),
        (b"etc/nginx/nginx.con", "/etc/nginx/nginx.con is not in the snapshot", "did you mean /etc/nginx/nginx.conf"),
    ],
)
def test_what_matches_nothing_is_told_with_near_names(path: bytes, cause: str, hint: str) -> None:
    with pytest.raises(NotFound, match=cause) as missing:
        Selection([b"etc/hosts", path]).prove(_snapshot())
    assert hint in missing.value.hint
