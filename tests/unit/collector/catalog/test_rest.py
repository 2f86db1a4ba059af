"""Where all columns of two versions are equal, the entries are."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from pyrsyncbackup_collector.catalog.ledger import _versions
from pyrsyncbackup_collector.catalog.rest import mark, rest
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.store.snapshot import Change

ENTRY = Entry(path_text="etc/a", user="root", group="root", size=5000, allocated=8192, sha256="ab" * 32)
OTHER = {
    "type": "fifo",
    "rdev": (1, 2),
    "target_b64": b"\xff",
    "link_to_b64": b"\xff",
    "path_b64": b"\xff",
    "xattrs": {"user.a": b"1"},
    "sha256": "cd" * 32,
}


def row(entry: Entry) -> tuple[object, ...]:
    return next(_versions(1, 1, [Change(entry.path, entry)], b"key"))


def other(name: str) -> Any:
    value = getattr(ENTRY, name)
    if name in OTHER:
        return OTHER[name]
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else "other"


@pytest.mark.parametrize("name", Entry.__struct_fields__)
def test_every_field_is_in_some_column(name: str) -> None:
    assert row(msgspec.structs.replace(ENTRY, **{name: other(name)})) != row(ENTRY)


def test_what_no_comparison_shows_is_not_in_rest() -> None:
    for name in ("allocated", "chunks", "error"):
        changed = msgspec.structs.replace(ENTRY, **{name: other(name)})
        assert rest(changed, b"key") == rest(ENTRY, b"key")
        assert mark(changed, b"key") not in (0, mark(changed, b"another"))


@pytest.mark.parametrize(
    ("entry", "usual"),
    [
        (Entry(size=0, allocated=0), True),
        (Entry(size=1, allocated=4096), True),
        (Entry(size=4096, allocated=4096), True),
        (Entry(size=4097, allocated=8192), True),
        (Entry(size=4097, allocated=4096), False),
        (Entry(size=4097, allocated=0), False),
        (Entry(type="link", size=9), True),
        (Entry(type="link", size=9, allocated=4096), False),
        (Entry(type="dir", size=4096, allocated=4096), True),
    ],
)
def test_whole_blocks_have_no_mark(entry: Entry, usual: bool) -> None:
    assert (mark(entry, b"key") == 0) is usual
