"""Unified differences: as difflib makes them, and in bounded time where it does not."""

from __future__ import annotations

import difflib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyrsyncbackup_collector.store import unified as module
from pyrsyncbackup_collector.store.unified import STEPS, unified

LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n", "last"]), max_size=30)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(LINES, LINES, st.integers(0, 4))
def test_it_is_what_difflib_makes(before: list[str], after: list[str], context: int) -> None:
    expected = list(difflib.unified_diff(before, after, "old", "new", n=context))
    assert list(unified(before, after, "old", "new", context)) == expected


def chosen(lines: int) -> tuple[list[str], list[str]]:
    """What takes difflib longest: one line after the other is equal, each of them as often as still counts."""
    kinds = lines // 2 // (lines // 100)
    same = [f"line {number % kinds}\n" for number in range(lines // 2)]
    return [
        [line for number, one in enumerate(same) for line in (one, f"{side} {number}\n")] for side in ("old", "new")
    ]  # type: ignore[return-value]


def test_lines_that_were_chosen_to_take_long_are_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEPS", STEPS // 100)
    before, after = chosen(1_000)
    told = list(unified(before, after, "old", "new", context=1_000))
    assert len(told) > len(list(difflib.unified_diff(before, after, n=1_000)))
    assert [line[1:] for line in told[3:] if line[0] in " -"] == before
    assert [line[1:] for line in told[3:] if line[0] in " +"] == after


def test_no_more_is_looked_at_than_allowed() -> None:
    matcher = module._Matcher(*chosen(10_000))
    list(matcher.get_grouped_opcodes(3))
    # Each call that finds nothing ends its part; so none comes after the one that was too many.
    assert -STEPS < matcher._left < 0
