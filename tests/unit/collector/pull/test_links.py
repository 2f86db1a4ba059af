"""Which content further names of a file record when something goes wrong with the first."""

from __future__ import annotations

import msgspec
import pytest
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.pull.compare import Finding
from pyrsyncbackup_collector.pull.links import Links

A, B = "a" * 64, "b" * 64
FOLLOWER = Entry(path_text="b", size=3, link_to_text="a")


def links(*findings: Finding) -> Links:
    made = Links(lambda: iter(()))
    for finding in findings:
        made.note(finding)
    return made


@pytest.mark.parametrize("known", [True, False])
def test_a_first_name_that_vanished_takes_no_known_content_with_it(known: bool) -> None:
    before = Entry(path_text="b", size=3, link_to_text="a", sha256=A) if known else None
    finding = Finding(b"b", FOLLOWER, before, token=7)
    made = links(finding)
    made.gone(b"a")
    entry, problem = made.resolve(FOLLOWER, finding, "")
    assert (entry.sha256, entry.stale, entry.changing, entry.link_to) == (A if known else "", known, True, b"")
    assert problem == "its first name vanished while it was pulled"


def test_a_first_name_that_cannot_be_read_makes_the_further_one_unreadable() -> None:
    finding = Finding(b"b", FOLLOWER, token=7)
    made = links(finding)
    made.settled(Entry(path_text="a", size=3, error="permission denied"), 0)
    entry, _ = made.resolve(FOLLOWER, finding, "")
    assert (entry.sha256, entry.error) == ("", "permission denied")


@pytest.mark.parametrize(
    ("first", "link"),
    [
        pytest.param(Entry(path_text="a", size=3, sha256=A), b"a", id="the same"),
        pytest.param(Entry(path_text="a", size=3, sha256=B), b"", id="another content"),
        pytest.param(Entry(path_text="a", size=3, sha256=A, link_to_text="0"), b"", id="another name itself"),
        pytest.param(Entry(path_text="a", type="link", target_text="x"), b"", id="no file"),
        pytest.param(None, b"", id="gone"),
    ],
)
def test_what_could_not_be_read_keeps_its_content_and_is_a_link_only_to_the_same(
    first: Entry | None, link: bytes
) -> None:
    stale = msgspec.structs.replace(FOLLOWER, sha256=A, stale=True)
    finding = Finding(b"b", stale, stale, problem="its directory could not be read")
    made = links(finding)
    if first is None:
        made.gone(b"a")
    else:
        made.settled(first, 7)
    entry, problem = made.resolve(stale, finding, finding.problem)
    assert (entry.sha256, entry.stale, entry.changing, entry.link_to) == (A, True, False, link)
    assert problem == "its directory could not be read"
