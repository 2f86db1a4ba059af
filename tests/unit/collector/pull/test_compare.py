"""What a merge of a listing with a snapshot finds."""

from array import array

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrsyncbackup_collector.entry import DIRECTORY, FILE, SYMLINK, UNKNOWN, Entry, order, text_or_bytes
from pyrsyncbackup_collector.pull.compare import Comparison, Finding, Need
from pyrsyncbackup_collector.transport.offer import ErrorKind, Listed

A, B = "a" * 64, "b" * 64


def entry(path: bytes, type: str = FILE, **fields) -> Entry:
    text, raw = text_or_bytes(path)
    return Entry(path_text=text, path_b64=raw, type=type, **fields)


def directory(path: bytes, **fields) -> Entry:
    return entry(path, DIRECTORY, mode=0o755, **fields)


def stored(path: bytes, sha256: str = A, **fields) -> Entry:
    return entry(path, sha256=sha256, size=fields.pop("size", 3), **fields)


def listed(entry: Entry, token: int = 7, **fields) -> Listed:
    return Listed(msgspec.structs.replace(entry, sha256=""), token, 1, **fields)


def findings(listing: list[Listed], snapshot: list[Entry], tokens: list[int]) -> tuple[list[Finding], Comparison]:
    comparison = Comparison(array("Q", tokens))
    return list(comparison.findings(listing, snapshot)), comparison


def test_what_is_equal_in_everything_is_only_counted():
    snapshot = [directory(b"etc"), stored(b"etc/a")]
    found, comparison = findings([listed(e) for e in snapshot], snapshot, [7, 7])
    assert found == []
    assert comparison.same == 2
    assert comparison.tokens == array("Q", [7, 7])


def test_a_new_file_needs_its_content():
    found, _ = findings([listed(directory(b"etc")), listed(entry(b"etc/a", size=3))], [directory(b"etc")], [7])
    assert [(f.path, f.need, f.before) for f in found] == [(b"etc/a", Need.CONTENT, None)]


@pytest.mark.parametrize(
    ("now", "token", "young", "need"),
    [
        pytest.param(stored(b"a"), 8, False, Need.HASH, id="token differs"),
        pytest.param(stored(b"a", mode=0o600), 7, False, Need.HASH, id="metadata differs"),
        pytest.param(stored(b"a", size=4), 7, False, Need.CONTENT, id="size differs"),
    ],
)
def test_a_file_that_may_differ_is_looked_at(now, token, young, need):
    found, comparison = findings([listed(now, token, young=young)], [stored(b"a")], [7])
    assert [f.need for f in found] == [need]
    assert comparison.tokens == array("Q", [token])


def test_a_token_of_an_older_snapshot_proves_nothing():
    found, _ = findings([listed(stored(b"a"))], [stored(b"a")], [])
    assert [f.need for f in found] == [Need.HASH]


def test_a_young_token_is_not_kept():
    _, comparison = findings([listed(stored(b"a"), young=True)], [stored(b"a")], [7])
    assert comparison.tokens == array("Q", [0])


def test_blocks_in_use_alone_are_no_difference():
    found, _ = findings([listed(stored(b"a", allocated=8192))], [stored(b"a", allocated=4096)], [7])
    assert found == []


def test_another_name_of_a_file_never_needs_content_of_its_own():
    follower = entry(b"b", size=3, link_to_text="a")
    found, _ = findings([listed(stored(b"a")), listed(follower, 9)], [stored(b"a")], [7])
    assert [(f.path, f.need) for f in found] == [(b"b", Need.NOTHING)]


def test_what_is_not_listed_any_more_is_removed():
    found, _ = findings([listed(directory(b"etc"))], [directory(b"etc"), stored(b"etc/a"), stored(b"etc/b")], [7, 7, 7])
    assert [(f.path, f.entry) for f in found] == [(b"etc/a", None), (b"etc/b", None)]


def test_nothing_below_a_directory_that_cannot_be_read_is_taken_for_removed():
    snapshot = [directory(b"etc"), directory(b"etc/d"), stored(b"etc/d/x"), stored(b"etc/d!"), stored(b"etc/e")]
    unreadable = directory(b"etc/d", error="permission denied")
    now = [listed(directory(b"etc")), listed(unreadable, error=ErrorKind.DENIED), listed(stored(b"etc/e"))]
    found, _ = findings(now, sorted(snapshot, key=lambda e: order(e.path)), [7] * 5)
    assert [(f.path, f.entry and f.entry.stale) for f in found] == [
        (b"etc/d", True),
        (b"etc/d/x", True),
        (b"etc/d!", None),
    ]
    assert found[1].entry.sha256 == A


def test_a_link_that_is_carried_forward_is_another_name_of_nothing():
    snapshot = [entry(b"a", SYMLINK), directory(b"d"), entry(b"d/b", SYMLINK, link_to_text="a")]
    now = [listed(entry(b"a", SYMLINK, target_text="new")), listed(directory(b"d", error="no"), error=ErrorKind.DENIED)]
    found, _ = findings(now, snapshot, [7, 7, 7])
    kept = {f.path: f.entry for f in found}[b"d/b"]
    assert (kept.stale, kept.link_to) == (True, b"")


def test_an_unreadable_directory_within_an_unreadable_directory_ends_before_the_outer_one():
    snapshot = [directory(b"d"), directory(b"d/i"), stored(b"d/i/x"), stored(b"d/z")]
    now = [
        listed(directory(b"d", error="io error"), error=ErrorKind.IO),
        listed(directory(b"d/i", error="denied"), error=ErrorKind.DENIED),
    ]
    found, _ = findings(now, snapshot, [7] * 4)
    assert [(f.path, f.entry.stale) for f in found] == [(b"d", True), (b"d/i", True), (b"d/i/x", True), (b"d/z", True)]


def test_a_file_that_was_never_readable_is_listed_with_its_reason():
    never = entry(b"a", UNKNOWN, error="permission denied")
    found, _ = findings([listed(never, 0, error=ErrorKind.DENIED)], [], [])
    assert [(f.entry, f.problem) for f in found] == [(never, "permission denied")]


def test_what_vanished_while_it_was_listed_is_removed():
    gone = entry(b"a", UNKNOWN, error="vanished")
    found, _ = findings([listed(gone, 0, error=ErrorKind.VANISHED)], [stored(b"a")], [7])
    assert [(f.path, f.entry) for f in found] == [(b"a", None)]


def test_a_stale_entry_is_looked_at_again():
    found, _ = findings([listed(stored(b"a"))], [stored(b"a", stale=True)], [7])
    assert [f.need for f in found] == [Need.HASH]


def test_a_type_that_changed_replaces_the_entry():
    link = entry(b"a", SYMLINK, target_text="b")
    found, _ = findings([listed(link)], [stored(b"a")], [7])
    assert [(f.entry, f.need) for f in found] == [(link, Need.NOTHING)]


paths = st.lists(st.binary(min_size=1, max_size=3).filter(lambda b: b"\0" not in b and b"/" not in b), unique=True)


@given(paths, paths)
def test_findings_and_the_same_are_exactly_the_union_of_both_sides_in_order(old, new):
    snapshot = [stored(path) for path in sorted(old, key=order)]
    now = [listed(stored(path)) for path in sorted(new, key=order)]
    found, comparison = findings(now, snapshot, [7] * len(snapshot))
    assert [f.path for f in found] == sorted(set(old) ^ set(new), key=order)
    assert comparison.same == len(set(old) & set(new))
    assert len(comparison.tokens) == len(new)
