"""Windows and blackouts, also where a zone's clock jumps."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyrsyncbackup_collector.config.spans import Hours, spans
from pyrsyncbackup_collector.schedule.windows import NEVER, closed_by, next_open, state_at

BERLIN = "Europe/Berlin"
ZONES = (BERLIN, "America/New_York", "Australia/Lord_Howe", "America/Havana", "Pacific/Apia", "Asia/Kathmandu", "UTC")
SPANS = (
    "22:00-06:00",
    "02:00-03:00",
    "02:30-02:45",
    "00:00-24:00",
    "sat,sun",
    "mon-fri 08:00-18:00",
    "fri 22:00-04:00",
    "2026-10-24..2026-10-26",
    "2026-03-29 01:00-05:00",
    "2011-12-29..2011-12-31",
)
some = st.lists(st.sampled_from(SPANS), max_size=3)
# Around the changes of 2026, the day that Apia skipped, and anywhere.
times = st.one_of(
    st.floats(min_value=1_774_500_000, max_value=1_775_100_000),
    st.floats(min_value=1_792_700_000, max_value=1_793_300_000),
    st.floats(min_value=1_325_000_000, max_value=1_325_600_000),
    st.floats(min_value=946_684_800, max_value=2_200_000_000),
)


def hours(windows: list[str], blackouts: list[str], zone: str = BERLIN) -> Hours:
    return Hours(zone, spans(windows), spans(blackouts))


def at(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(BERLIN), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("windows", "blackouts", "begin", "expected"),
    [
        (["22:00-06:00"], [], "2026-11-25 12:00", "2026-11-25 22:00"),
        (["22:00-06:00"], [], "2026-11-25 05:59", "2026-11-25 05:59"),
        (["22:00-06:00"], [], "2026-11-25 06:00", "2026-11-25 22:00"),
        (["sat,sun"], [], "2026-11-25 12:00", "2026-11-28 00:00"),
        (["fri 22:00-04:00"], [], "2026-11-28 03:00", "2026-11-28 03:00"),
        (["fri 22:00-04:00"], [], "2026-11-27 03:00", "2026-11-27 22:00"),
        ([], ["mon-fri 08:00-18:00"], "2026-11-25 12:00", "2026-11-25 18:00"),
        ([], ["2026-12-24..2026-12-26"], "2026-12-24 00:00", "2026-12-27 00:00"),
        (["22:00-06:00"], ["2026-12-24..2026-12-26"], "2026-12-24 12:00", "2026-12-27 00:00"),
        (["2031-02-03..2031-02-04 10:00-11:00"], [], "2026-11-25 12:00", "2031-02-03 10:00"),
        # The hour from 2 to 3 is missing on that day.
        (["02:00-03:00"], [], "2026-03-28 12:00", "2026-03-30 02:00"),
        (["02:30-04:00"], [], "2026-03-28 12:00", "2026-03-29 03:00"),
        ([], ["02:00-03:00"], "2026-03-29 01:59", "2026-03-29 01:59"),
    ],
)
def test_it_opens_at(windows: list[str], blackouts: list[str], begin: str, expected: str) -> None:
    assert next_open(hours(windows, blackouts), at(begin)) == at(expected)


def test_an_hour_that_comes_twice_is_open_twice_and_shut_twice() -> None:
    night = hours(["02:00-03:00"], [])
    assert state_at(night, at("2026-10-25 02:10")).until == at("2026-10-25 03:00")
    assert at("2026-10-25 03:00") - at("2026-10-25 02:00") == 7200
    shut = hours([], ["02:00-03:00"])
    assert next_open(shut, at("2026-10-25 02:10")) == at("2026-10-25 03:00")


def test_a_window_that_a_doubled_hour_ends_and_begins_is_left_and_entered_again() -> None:
    early = hours(["02:00-02:30"], [])
    assert state_at(early, at("2026-10-25 02:10")).until == at("2026-10-25 02:30")
    assert next_open(early, at("2026-10-25 02:40")) == at("2026-10-25 02:00", fold=1)


def test_what_closes_it_is_named() -> None:
    both = hours(["22:00-06:00"], ["2026-12-24..2026-12-26"])
    assert closed_by(both, at("2026-12-24 23:00")) == "2026-12-24..2026-12-26"
    assert closed_by(both, at("2026-12-01 12:00")) == ""


def test_windows_that_are_over_never_open_again() -> None:
    assert next_open(hours(["2020-01-01..2020-12-31"], []), at("2026-11-25 12:00")) == NEVER


@settings(max_examples=80, deadline=None)
@given(some, some, st.sampled_from(ZONES), times)
def test_it_opens_inside_a_window_outside_all_blackouts_and_not_later_than_need_be(
    windows: list[str], blackouts: list[str], zone: str, begin: float
) -> None:
    bound = hours(windows, blackouts, zone)
    opens = next_open(bound, begin)
    assert opens >= begin
    if opens < NEVER:
        moment = datetime.fromtimestamp(opens, ZoneInfo(zone))
        assert not windows or any(span.holds(moment) for span in bound.windows)
        assert not any(span.holds(moment) for span in bound.blackouts)
    # Nothing in between is open: every minute of the next three days, which have all the jumps.
    for step in range(0, int(min(opens - begin, 3 * 86400)), 60):
        assert not bound.open_at(datetime.fromtimestamp(begin + step, ZoneInfo(zone)))


@settings(max_examples=60, deadline=None)
@given(some, some, st.sampled_from(ZONES), times)
def test_a_state_holds_until_it_ends(windows: list[str], blackouts: list[str], zone: str, begin: float) -> None:
    bound = hours(windows, blackouts, zone)
    state = state_at(bound, begin)
    assert state.until > begin
    for step in range(0, int(min(state.until - begin, 3 * 86400)), 60):
        assert bound.open_at(datetime.fromtimestamp(begin + step, ZoneInfo(zone))) is state.open
    if state.until < NEVER:
        assert state_at(bound, state.until).open is not state.open
