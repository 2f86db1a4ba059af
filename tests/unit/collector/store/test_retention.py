"""Which snapshots are kept and why: by golden files, by properties, and case by case.

The golden files are made anew with `UPDATE_GOLDEN=1 pytest` on this file; what changed is then read in the difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyrsyncbackup_collector.config.model import Keep
from pyrsyncbackup_collector.store.retention import Candidate, Decision, decide

GOLDEN = Path(__file__).parent / "golden"
BERLIN = ZoneInfo("Europe/Berlin")
DAY = 86400.0


def at(text: str, zone: ZoneInfo = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def taken(*times: str, state: str = "complete") -> list[Candidate]:
    return [Candidate(number, at(time), state) for number, time in enumerate(times, 1)]


def rules(**keep: Any) -> Keep:
    return Keep.model_validate(keep)


def a_long_time() -> list[Candidate]:
    """Three years: rarely at first, then daily, at the end every two hours; a quiet fortnight, partials, a pin."""
    times: list[float] = []
    moment = datetime(2023, 11, 5, 3, 30, tzinfo=BERLIN)
    while moment < datetime(2026, 11, 25, 15, 0, tzinfo=BERLIN):
        if not datetime(2026, 10, 1, tzinfo=BERLIN) < moment < datetime(2026, 10, 15, tzinfo=BERLIN):
            times.append(moment.timestamp())
        step = (
            40
            if moment < datetime(2026, 9, 20, tzinfo=BERLIN)
            else 1
            if moment < datetime(2026, 11, 24, tzinfo=BERLIN)
            else 0
        )
        moment += timedelta(days=step) if step else timedelta(hours=2)
    partial = {len(times), len(times) - 9}
    return [
        Candidate(
            number, time, "partial" if number in partial else "complete", "before the upgrade" if number == 20 else None
        )
        for number, time in enumerate(times, 1)
    ]


def a_clock_that_ran_wild() -> list[Candidate]:
    """Ten years ahead for two snapshots, ten years behind for two, an hour back once."""
    return taken(
        *("2026-11-18 02:00", "2026-11-19 02:00", "2036-11-20 02:00", "2036-11-20 03:00", "2026-11-20 02:00"),
        *("2016-11-21 02:00", "2016-11-21 03:00", "2026-11-21 02:00", "2026-11-22 12:30", "2026-11-22 11:40"),
        *("2026-11-23 02:00", "2026-11-24 02:00", "2026-11-25 02:00"),
    )


CASES: dict[str, tuple[list[Candidate], Keep]] = {
    "nothing": (a_long_time(), Keep()),
    "last": (a_long_time(), rules(last=5)),
    "hourly": (a_long_time(), rules(hourly=24)),
    "daily": (a_long_time(), rules(daily=14)),
    "daily-over-the-quiet-fortnight": (a_long_time(), rules(daily=60)),
    "weekly": (a_long_time(), rules(weekly=12)),
    "monthly": (a_long_time(), rules(monthly=24)),
    "yearly": (a_long_time(), rules(yearly=10)),
    "within": (a_long_time(), rules(within="2d12h")),
    "all-together": (
        a_long_time(),
        rules(last=3, hourly=12, daily=7, weekly=4, monthly=12, yearly=3, within="1d"),
    ),
    "wild-clock-daily": (a_clock_that_ran_wild(), rules(daily=7)),
    "wild-clock-yearly-and-last": (a_clock_that_ran_wild(), rules(yearly=20, last=2)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_decisions_are_those_of_the_golden_file(name: str) -> None:
    snapshots, keep = CASES[name]
    shown = "".join(f"{line}\n" for line in written(decide(snapshots, keep, at("2026-11-25 16:00"), BERLIN)))
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(shown)
    assert shown == golden.read_text()


def written(decisions: Iterable[Decision]) -> Iterable[str]:
    for one in decisions:
        moment = datetime.fromtimestamp(one.snapshot.time, BERLIN)
        word = "keep  " if one.keep else "remove"
        yield f"{word} {one.snapshot.sequence:06d} {moment:%Y-%m-%d %a %H:%M} {one.snapshot.state}: " + "; ".join(
            one.reasons
        )


# Properties

COUNTS = st.none() | st.integers(0, 12)
KEEPS = st.builds(
    lambda within, **counts: Keep.model_construct(
        **{name: value for name, value in counts.items() if value is not None},
        within=within,
    ),
    within=st.none() | st.sampled_from([3600.0, DAY, 10 * DAY]),
    last=COUNTS,
    hourly=COUNTS,
    daily=COUNTS,
    weekly=COUNTS,
    monthly=COUNTS,
    yearly=COUNTS,
)
NOW = at("2026-11-25 16:00")
# Close together, so that periods have several, and some that lie, years ahead or back.
TIMES = st.integers(0, 90 * 24).map(lambda hours: NOW - hours * 3600.0) | st.integers(-12, 12).map(
    lambda years: NOW + years * 365.25 * DAY
)
SNAPSHOTS = st.lists(
    st.tuples(
        TIMES,
        st.sampled_from(["complete", "complete", "complete", "partial", "damaged"]),
        st.sampled_from([None] * 9 + ["why"]),
    ),
    max_size=40,
).map(lambda found: [Candidate(number, *one) for number, one in enumerate(found, 1)])


def sequences(decisions: Iterable[Decision], *, keep: bool) -> list[int]:
    return [one.snapshot.sequence for one in decisions if one.keep is keep]


@settings(max_examples=400, deadline=None)
@given(SNAPSHOTS, KEEPS)
def test_the_newest_complete_one_and_pinned_ones_are_kept(snapshots: list[Candidate], keep: Keep) -> None:
    kept = sequences(decide(snapshots, keep, NOW, BERLIN), keep=True)
    complete = [one.sequence for one in snapshots if one.state == "complete"]
    assert set(complete[-1:]) <= set(kept)
    assert {one.sequence for one in snapshots if one.pinned is not None} <= set(kept)
    assert {one.sequence for one in snapshots[-1:]} <= set(kept)


@settings(max_examples=400, deadline=None)
@given(SNAPSHOTS, KEEPS)
def test_kept_and_removed_are_a_partition_each_with_a_reason(snapshots: list[Candidate], keep: Keep) -> None:
    decisions = decide(snapshots[::-1], keep, NOW, BERLIN)
    assert [one.snapshot for one in decisions] == snapshots
    assert all(one.reasons and all(one.reasons) for one in decisions)
    assert all(len(set(one.reasons)) == len(one.reasons) for one in decisions)


@settings(max_examples=600, deadline=None)
@given(SNAPSHOTS, KEEPS)
def test_a_second_time_removes_nothing_more(snapshots: list[Candidate], keep: Keep) -> None:
    first = decide(snapshots, keep, NOW, BERLIN)
    left = [one.snapshot for one in first if one.keep]
    assert sequences(decide(left, keep, NOW, BERLIN), keep=False) == []


@settings(max_examples=600, deadline=None)
@given(SNAPSHOTS, KEEPS, KEEPS)
def test_more_rules_and_larger_numbers_never_keep_less(snapshots: list[Candidate], one: Keep, other: Keep) -> None:
    both = Keep.model_construct(
        **{name: max(getattr(one, name) or 0, getattr(other, name) or 0) or None for name in Keep.model_fields}
    )
    if not any(getattr(one, name) for name in Keep.model_fields):
        return  # no rule at all keeps everything
    few = set(sequences(decide(snapshots, one, NOW, BERLIN), keep=True))
    assert few <= set(sequences(decide(snapshots, both, NOW, BERLIN), keep=True))


@settings(max_examples=300, deadline=None)
@given(SNAPSHOTS, st.integers(1, 60))
def test_every_kept_day_has_the_snapshot_that_was_current_at_its_end(snapshots: list[Candidate], days: int) -> None:
    """Told anew, for times that only go forward."""
    ordered = sorted((one for one in snapshots if one.state == "complete"), key=lambda one: one.time)
    forward = [Candidate(number, one.time) for number, one in enumerate(ordered, 1)]
    kept = set(sequences(decide(forward, rules(daily=days), NOW, UTC), keep=True))
    today = datetime.fromtimestamp(NOW, UTC).replace(hour=0, minute=0, second=0)
    for back in range(days):
        end = (today - timedelta(days=back - 1)).timestamp()
        current = [one.sequence for one in forward if one.time < end]
        assert set(current[-1:]) <= kept


# Case by case


def kept(snapshots: list[Candidate], until: str, zone: ZoneInfo = BERLIN, **keep: Any) -> list[int]:
    return sequences(decide(snapshots, rules(**keep), at(until, zone), zone), keep=True)


def test_a_day_ends_at_local_midnight() -> None:
    snapshots = taken("2026-11-20 12:00", "2026-11-20 23:59", "2026-11-21 00:01", "2026-11-21 00:02")
    assert kept(snapshots, "2026-11-21 08:00", daily=2) == [2, 4]
    # The same moments, in a zone where they are all on one day.
    assert sequences(
        decide(snapshots, rules(daily=2), at("2026-11-21 08:00"), ZoneInfo("America/New_York")), keep=True
    ) == [4]


def test_the_hour_that_comes_twice_is_one_and_the_one_that_is_left_out_is_none() -> None:
    first = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=0).timestamp()
    twice = [Candidate(1, first), Candidate(2, first + 3600), Candidate(3, first + 7200)]
    assert sequences(decide(twice, rules(hourly=2), first + 7200, BERLIN), keep=True) == [2, 3]
    before, after = at("2026-03-29 01:30"), at("2026-03-29 03:30")
    assert after - before == 3600
    gap = [Candidate(1, before), Candidate(2, after)]
    assert sequences(decide(gap, rules(hourly=2), after, BERLIN), keep=True) == [1, 2]


def test_a_partial_one_goes_once_a_complete_one_is_newer() -> None:
    snapshots = [
        Candidate(1, NOW - 3 * DAY),
        Candidate(2, NOW - 2 * DAY, "partial"),
        Candidate(3, NOW - DAY),
        Candidate(4, NOW, "partial"),
    ]
    decisions = decide(snapshots, rules(daily=10), NOW, BERLIN)
    assert sequences(decisions, keep=True) == [1, 3, 4]
    assert decisions[1].reasons == ("partial, and 000003 after it is complete",)
    assert sequences(decide(snapshots, rules(within="10d"), NOW, BERLIN), keep=False) == []


def test_partial_ones_never_displace_a_complete_one() -> None:
    snapshots = [Candidate(1, NOW - DAY), *(Candidate(number, NOW, "partial") for number in range(2, 9))]
    assert sequences(decide(snapshots, rules(last=2), NOW, BERLIN), keep=True) == [1, 7, 8]


def test_without_a_rule_everything_is_kept_and_that_is_said() -> None:
    decisions = decide(taken("2020-01-01 00:00", "2026-01-01 00:00"), Keep(), NOW, BERLIN)
    assert [one.reasons for one in decisions] == [
        ("no rule: everything is kept",),
        ("newest complete", "no rule: everything is kept"),
    ]


def test_all_reasons_are_said() -> None:
    decisions = decide([Candidate(7, NOW, pinned="audit")], rules(last=5, daily=3, within="7d"), NOW, BERLIN)
    assert decisions[0].reasons == (
        *("pinned: audit", "newest complete", "last 1 of 5", "daily 2026-11-25", "within 7d"),
    )


def test_what_was_taken_while_the_clock_was_ahead_is_kept_until_it_is_there() -> None:
    snapshots = [*taken("2026-11-20 02:00", "2036-11-20 03:00"), Candidate(3, NOW - DAY), Candidate(4, NOW)]
    decisions = decide(snapshots, rules(last=1), NOW, BERLIN)
    assert sequences(decisions, keep=True) == [2, 4]
    assert decisions[1].reasons == ("its time is still to come: no rule can judge it",)


@pytest.mark.parametrize("time", [-1e18, float("nan"), float("-inf")])
def test_a_time_that_no_calendar_has_stands_for_no_day(time: float) -> None:
    snapshots = [Candidate(1, NOW - DAY), Candidate(2, time), Candidate(3, NOW)]
    assert sequences(decide(snapshots, rules(daily=9), NOW, BERLIN), keep=True) == [1, 3]
