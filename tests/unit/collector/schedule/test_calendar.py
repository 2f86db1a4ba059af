"""Moments of the calendar, also where a zone's clock jumps."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyrsyncbackup_collector.config.calendar import Calendar, pull_time
from pyrsyncbackup_collector.schedule.due import due_at

BERLIN = "Europe/Berlin"
# Half-hour jumps, jumps at midnight, a zone that skipped a day, negative and odd offsets, none.
ZONES = (BERLIN, "America/New_York", "Australia/Lord_Howe", "America/Havana", "Pacific/Apia", "Asia/Kathmandu", "UTC")
times = st.floats(min_value=946_684_800, max_value=2_200_000_000)
zones = st.sampled_from(ZONES)
texts = st.sampled_from(
    (
        "daily at 02:30",
        "daily at 00:00, 02:15, 23:59",
        "hourly at :15, :45",
        "weekly on sun at 02:30",
        "weekly on mon-fri at 01:30",
        "monthly on 1,15 at 03:00",
        "cron */20 * * * *",
        "cron 0,30 0-3 * * *",
        "cron 15 */2 * * 1-5",
    )
)


def at(text: str, zone: str = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def calendar(text: str) -> Calendar:
    found = pull_time(text)
    assert isinstance(found, Calendar)
    return found


def moments(text: str, begin: float, number: int, zone: str = BERLIN) -> list[str]:
    found, moment = [], begin
    for _ in range(number):
        moment = due_at(moment, calendar(text), "web1", "etc", zone=zone)
        found.append(f"{datetime.fromtimestamp(moment, ZoneInfo(zone)):%a %d %H:%M %Z}")
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hourly at :15", ["Wed 25 12:15 CET", "Wed 25 13:15 CET"]),
        ("hourly at :15, :45", ["Wed 25 12:15 CET", "Wed 25 12:45 CET"]),
        ("daily at 02:30", ["Thu 26 02:30 CET", "Fri 27 02:30 CET"]),
        ("daily at 2:30, 14:05", ["Wed 25 14:05 CET", "Thu 26 02:30 CET"]),
        ("Weekly on Sunday at 03:00", ["Sun 29 03:00 CET", "Sun 06 03:00 CET"]),
        ("weekly on fri-sun at 03:00", ["Fri 27 03:00 CET", "Sat 28 03:00 CET"]),
        ("monthly on 1 at 04:00", ["Tue 01 04:00 CET", "Fri 01 04:00 CET"]),
        ("cron 30 2 * * 1-5", ["Thu 26 02:30 CET", "Fri 27 02:30 CET"]),
    ],
)
def test_what_is_written_comes_at_these_moments(text: str, expected: list[str]) -> None:
    assert moments(text, at("2026-11-25 12:00"), 2) == expected


def test_a_time_that_the_clock_leaves_out_comes_once_right_after_the_gap() -> None:
    found = moments("daily at 02:30", at("2026-03-28 12:00"), 3)
    assert found == ["Sun 29 03:00 CEST", "Mon 30 02:30 CEST", "Tue 31 02:30 CEST"]


def test_a_time_that_the_clock_shows_twice_comes_once() -> None:
    found = moments("daily at 02:30", at("2026-10-24 12:00"), 2)
    assert found == ["Sun 25 02:30 CEST", "Mon 26 02:30 CET"]
    # Also for what begins between the two.
    assert moments("daily at 02:30", at("2026-10-25 02:15", fold=1), 1) == ["Mon 26 02:30 CET"]


def test_what_comes_every_hour_comes_in_both_of_a_doubled_hour() -> None:
    found = moments("hourly at :15", at("2026-10-25 01:30"), 3)
    assert found == ["Sun 25 02:15 CEST", "Sun 25 02:15 CET", "Sun 25 03:15 CET"]


def test_the_same_words_mean_another_moment_in_another_zone() -> None:
    begin = at("2026-11-25 12:00", "UTC")
    tokyo = due_at(begin, calendar("daily at 02:30"), zone="Asia/Tokyo")
    assert tokyo == at("2026-11-25 17:30", "UTC")


@settings(max_examples=150, deadline=None)
@given(texts, times, zones)
def test_moments_come_in_strict_order_and_none_is_left_out(text: str, begin: float, zone: str) -> None:
    first = due_at(begin, calendar(text), zone=zone)
    second = due_at(first, calendar(text), zone=zone)
    assert begin < first < second
    # From anywhere before it, the first moment is the next one.
    assert due_at((begin + first) / 2, calendar(text), zone=zone) == first


@settings(max_examples=150, deadline=None)
@given(times, zones, st.integers(0, 23), st.integers(0, 59))
def test_a_daily_job_runs_once_on_each_day_that_a_zone_has(begin: float, zone: str, hour: int, minute: int) -> None:
    every = calendar(f"daily at {hour:02d}:{minute:02d}")
    moment, days = begin, []
    for _ in range(4):
        moment = due_at(moment, every, zone=zone)
        days.append(datetime.fromtimestamp(moment, ZoneInfo(zone)).date())
    # Apia had no 30 December 2011: what was due then comes right after, on the day that came instead.
    assert days == sorted(days)
    if zone != "Pacific/Apia":
        assert len(set(days)) == 4


def test_what_was_missed_for_weeks_is_due_once() -> None:
    every, last, now = calendar("daily at 02:30"), at("2026-11-01 02:30"), at("2026-11-25 12:00")
    assert due_at(last, every, zone=BERLIN) < now
    assert due_at(now, every, zone=BERLIN) == at("2026-11-26 02:30")


def test_a_clock_beyond_all_calendars_ends_in_no_moment_and_no_fault() -> None:
    assert due_at(1e15, calendar("daily at 02:30"), zone=BERLIN) == float("inf")
