from __future__ import annotations

import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrsyncbackup_collector import entry
from pyrsyncbackup_collector.entry import Entry, order
from pyrsyncbackup_collector.store.difference import MAX_LINES, MAX_TEXT, compare, differences, text_difference

from tests.support.tree import make

FILE = make(b"etc/hosts", sha256="aa", size=3, mode=0o644, mtime_s=1)
LINK = make(b"etc/link", entry.SYMLINK, target=b"hosts")


def _changed(before: Entry, **fields: object) -> Entry:
    return msgspec.structs.replace(before, **fields)


@pytest.mark.parametrize(
    ("after", "kind", "fields"),
    [
        (_changed(FILE, sha256="bb"), "content", ("content",)),
        (_changed(FILE, sha256="bb", size=4, mtime_s=2), "content", ("content", "size", "mtime")),
        (_changed(FILE, mode=0o600, mtime_ns=1), "metadata", ("mode", "mtime")),
        (_changed(FILE, uid=1), "metadata", ("owner",)),
        (_changed(FILE, user="alice", group="staff"), "metadata", ("owner", "group")),
        (_changed(FILE, xattrs={"user.a": b""}), "metadata", ("xattrs",)),
        (_changed(FILE, xattrs={"system.posix_acl_access": b"x"}), "metadata", ("acl",)),
        (_changed(FILE, xattrs={"system.posix_acl_access": b"x", "user.a": b""}), "metadata", ("acl", "xattrs")),
        (_changed(FILE, link_to_text="etc/first"), "metadata", ("link",)),
        (_changed(FILE, stale=True, error="permission denied"), "metadata", ("readable",)),
        (_changed(FILE, type=entry.DIRECTORY, sha256=""), "type", ("type",)),
        (_changed(FILE, type=entry.UNKNOWN, error="gone"), "type", ("type", "readable")),
        # From an agent's listing, where digests are not known yet.
        (_changed(FILE, sha256="", mtime_s=2), "content", ("content", "mtime")),
    ],
)
def test_the_changed_fields_of_a_file_are_named(after: Entry, kind: str, fields: tuple[str, ...]) -> None:
    difference = compare(FILE, after)
    assert difference is not None
    assert (difference.kind, difference.fields) == (kind, fields)


def test_a_link_with_another_target_has_other_content() -> None:
    difference = compare(LINK, _changed(LINK, target_text="elsewhere"))
    assert difference is not None
    assert (difference.kind, difference.fields) == ("content", ("target",))


@pytest.mark.parametrize("fields", [{"public": True}, {"claimed": True}, {"allocated": 4096}, {"sha256": ""}])
def test_what_a_person_cannot_see_is_no_difference(fields: dict[str, object]) -> None:
    assert list(differences([FILE], [_changed(FILE, **fields)])) == []


_paths = st.lists(st.sampled_from([b"a", b"b", b"a-", b"\xff", b"a.b"]), min_size=1, max_size=3).map(b"/".join)
_trees = st.dictionaries(_paths, st.sampled_from([0o600, 0o644]), max_size=12)


@given(_trees, _trees)
def test_the_merge_finds_exactly_what_differs_in_order(before: dict[bytes, int], after: dict[bytes, int]) -> None:
    found = list(differences(_entries(before), _entries(after)))

    expected = dict.fromkeys(after.keys() - before.keys(), "added")
    expected |= dict.fromkeys(before.keys() - after.keys(), "removed")
    expected |= {path: "metadata" for path in before.keys() & after.keys() if before[path] != after[path]}
    assert {each.path: each.kind for each in found} == expected
    assert [order(each.path) for each in found] == sorted(order(each.path) for each in found)


def _entries(tree: dict[bytes, int]) -> list[Entry]:
    return [make(path, mode=tree[path]) for path in sorted(tree, key=order)]


def test_a_difference_is_a_plain_value() -> None:
    (difference,) = differences([], [FILE])
    assert dataclasses.asdict(difference)["before"] is None
    assert difference.after == FILE


def test_texts_are_compared_as_diff_u_does() -> None:
    found = text_difference(b"one\ntwo\n", b"one\n2", "web1/etc@1", "web1/etc@2")
    assert found.lines == (
        "--- web1/etc@1",
        "+++ web1/etc@2",
        "@@ -1,2 +1,2 @@",
        " one",
        "-two",
        "+2",
        "\\ No newline at end of file",
    )


def test_a_file_that_was_not_there_is_dev_null() -> None:
    assert text_difference(None, b"\xff\r\x0c\n", "a", "b").lines == (
        "--- /dev/null",
        "+++ b",
        "@@ -0,0 +1 @@",
        "+\udcff\r\x0c",
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"a\0b", "binary"), (b"x" * (MAX_TEXT + 1), "too large"), (b"x\n" * (MAX_LINES + 1), "too large"), (b"a\n", "")],
)
def test_what_cannot_be_shown_says_why(content: bytes, reason: str) -> None:
    assert text_difference(content, b"").reason == reason
    assert text_difference(b"", content).reason == reason
