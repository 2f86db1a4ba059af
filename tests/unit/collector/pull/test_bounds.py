"""What a listing can make a pull remember has limits."""

from __future__ import annotations

from array import array

import pytest
from pyrsyncbackup_collector.entry import DIRECTORY, Entry
from pyrsyncbackup_collector.errors import AgentMisbehaved
from pyrsyncbackup_collector.pull import links
from pyrsyncbackup_collector.pull.compare import Comparison, Finding
from pyrsyncbackup_collector.pull.links import Links
from pyrsyncbackup_collector.pull.report import MAX_PROBLEM_BYTES, MAX_PROBLEMS, Problems
from pyrsyncbackup_collector.transport.offer import ErrorKind, Listed


def test_directories_that_cannot_be_read_are_forgotten_when_the_listing_has_passed_them():
    comparison = Comparison(array("Q"))
    listing = [
        Listed(Entry(path_text=f"{n:06d}", type=DIRECTORY, error="no"), 1, 1, ErrorKind.DENIED) for n in range(999)
    ]
    assert len(list(comparison.findings(listing, []))) == 999
    assert len(comparison._blocked) == 1


def test_what_is_below_two_levels_of_unreadable_directories_is_kept():
    comparison = Comparison(array("Q"))
    before = [Entry(path_text=path, type=DIRECTORY) for path in ("a", "a/b", "a/b/c", "a/d", "e")]
    denied = ErrorKind.DENIED
    listing = [Listed(Entry(path_text=path, type=DIRECTORY, error="no"), 1, 1, denied) for path in ("a", "a/b")]
    found = {finding.path: finding.entry for finding in comparison.findings(listing, before)}
    assert {path for path, entry in found.items() if entry is not None and entry.stale} == {
        b"a",
        b"a/b",
        b"a/b/c",
        b"a/d",
    }
    assert found[b"e"] is None


def test_hard_links_to_more_files_than_an_agent_remembers_end_the_pull(monkeypatch):
    monkeypatch.setattr(links, "MAX_FIRST_NAMES", 10)
    noted = Links(lambda: iter(()))
    for number in range(10):
        noted.note(Finding(b"z", Entry(path_text="z", link_to_text=f"{number}")))
    with pytest.raises(AgentMisbehaved, match="hard links"):
        noted.note(Finding(b"z", Entry(path_text="z", link_to_text="one more")))


def test_problems_are_listed_up_to_a_number_and_a_size_and_counted_beyond():
    for size, most in ((10, MAX_PROBLEMS), (10_000, MAX_PROBLEM_BYTES // 10_000)):
        problems = Problems()
        for _ in range(2000):
            problems.add(b"p" * size, None, "why")
        assert problems.total == 2000
        assert 0 < len(problems.listed) <= most
