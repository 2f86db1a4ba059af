"""When something is due."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from pyrsyncbackup_collector.schedule import due

times = st.floats(min_value=0, max_value=4e9, allow_nan=False)
intervals = st.floats(min_value=1, max_value=100 * 365 * 86400)
names = st.text(min_size=1, max_size=20)


@given(times, intervals, names)
def test_the_next_slot_is_later_and_at_most_one_interval_away(after: float, interval: float, name: str) -> None:
    slot = due.next_slot(after, interval, name)
    assert after < slot <= after + interval * (1 + 1e-6) + 1e-3


@given(times, intervals, names, st.integers(min_value=1, max_value=50))
def test_slots_are_one_interval_apart(after: float, interval: float, name: str, slots: int) -> None:
    first = due.next_slot(after, interval, name)
    later = due.next_slot(first + (slots - 0.5) * interval, interval, name)
    assert math.isclose(later - first, slots * interval, rel_tol=1e-6, abs_tol=1e-2)


@given(times, intervals, names, st.lists(st.floats(min_value=0, max_value=1), max_size=10))
def test_a_restart_does_not_shift_what_is_due(last: float, interval: float, name: str, restarts: list[float]) -> None:
    expected = due.due_at(last, interval, name)
    for _ in restarts:
        assert due.due_at(last, interval, name) == expected


@given(times, intervals, names, st.integers(min_value=1, max_value=1000))
def test_what_was_missed_runs_once(last: float, interval: float, name: str, missed: int) -> None:
    late = last + missed * interval
    assert due.due_at(last, interval, name) <= late + interval * 1e-6 + 1e-3
    assert due.due_at(late, interval, name) > late


def test_hosts_spread_evenly_over_the_interval() -> None:
    quarters = [0, 0, 0, 0]
    for number in range(1000):
        slot = due.next_slot(1_790_000_000, 900, f"host{number}")
        quarters[min(3, int((slot - 1_790_000_000) // 225))] += 1
    assert all(200 < count < 300 for count in quarters), quarters


def test_the_place_in_the_interval_is_part_of_the_format() -> None:
    """Another hash would move every host once at the upgrade."""
    assert round(due.fraction("web1"), 6) == 0.824651
    assert round(due.fraction("web1", "etc"), 6) == 0.74394


def test_what_never_ran_is_due_at_once() -> None:
    assert due.due_at(None, 3600, "web1") == 0


@given(st.integers(min_value=1, max_value=10_000), names, st.booleans())
def test_waits_grow_up_to_an_hour(failures: int, name: str, retryable: bool) -> None:
    wait = due.retry_at(1000.0, failures, name, retryable=retryable) - 1000.0
    first = due.RETRY_FIRST if retryable else due.REPAIR_FIRST
    whole = min(due.RETRY_CAP, first * 2 ** min(failures - 1, 20))
    assert 0.8 * whole <= wait <= whole
