"""When a module is pulled next, why then, and when it is late."""

from __future__ import annotations

import itertools
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyrsyncbackup_collector.config import Policy
from pyrsyncbackup_collector.config.calendar import pull_time
from pyrsyncbackup_collector.config.spans import spans
from pyrsyncbackup_collector.schedule.forecast import Why, expected_at, following, forecast
from pyrsyncbackup_collector.schedule.windows import NEVER

BERLIN = "Europe/Berlin"


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(BERLIN)).timestamp()


def policy(pull: str, windows: tuple[str, ...] = (), blackouts: tuple[str, ...] = (), enabled: bool = True) -> Policy:
    return Policy(
        pull=pull_time(pull),
        zone=BERLIN,
        windows=spans(list(windows)),
        blackouts=spans(list(blackouts)),
        enabled=enabled,
    )


NOW = at("2026-11-25 12:00")
DAILY = "daily at 02:30"


@pytest.mark.parametrize(
    ("written", "last", "waits_until", "expected", "why", "blackout"),
    [
        (policy(DAILY), NOW - 60, 0, "2026-11-26 02:30", Why.CALENDAR, ""),
        (policy(DAILY), None, 0, "2026-11-25 12:00", Why.NEW, ""),
        (policy(DAILY), NOW - 90000, 0, "2026-11-25 12:00", Why.CALENDAR, ""),
        (policy(DAILY), NOW - 90000, NOW + 600, "2026-11-25 12:10", Why.BACKOFF, ""),
        (policy(DAILY, ("22:00-02:00",)), NOW - 60, 0, "2026-11-26 22:00", Why.WINDOW, ""),
        (policy(DAILY, (), ("11:00-13:00",)), None, 0, "2026-11-25 13:00", Why.BLACKOUT, "11:00-13:00"),
        (policy(DAILY, (), ("11:00-13:00",)), None, NOW + 600, "2026-11-25 13:00", Why.BLACKOUT, "11:00-13:00"),
    ],
)
def test_the_next_pull_is_told_with_what_decides_it(
    written: Policy, last: float | None, waits_until: float, expected: str, why: Why, blackout: str
) -> None:
    found = forecast(written, "web1", "etc", last=last, now=NOW, waits_until=waits_until)
    assert (found.at, found.why, found.blackout) == (at(expected), why, blackout)


def test_what_is_never_pulled_by_itself_is_told() -> None:
    assert forecast(policy("1d", enabled=False), "web1", "etc", last=None, now=NOW).why is Why.DISABLED
    over = forecast(policy("1d", ("2020-01-01..2020-01-02",)), "web1", "etc", last=None, now=NOW)
    assert (over.at, over.why) == (NEVER, Why.CLOSED)


def test_the_pulls_after_the_next_follow_the_same_rules() -> None:
    found = itertools.islice(following(policy("hourly at :30", ("22:00-23:45",)), "web1", "etc", NOW), 3)
    assert [one.at for one in found] == [at(f"2026-11-{day} {time}") for day, time in
                                         ((25, "22:00"), (25, "22:30"), (25, "23:30"))]  # fmt: skip


def test_a_pull_that_had_to_wait_for_its_window_is_not_late() -> None:
    weekend = policy("1d", ("sat,sun",))
    due, late = expected_at(weekend, at("2026-11-22 23:00"))
    assert due == at("2026-11-28 00:00")
    assert late == at("2026-11-28 12:00")
    assert expected_at(policy(DAILY), at("2026-11-25 02:40")) == (at("2026-11-26 02:30"), at("2026-11-26 14:30"))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["30m", "1d", DAILY, "cron */20 * * * *", "weekly on sun at 02:30"]),
    st.lists(st.sampled_from(["22:00-06:00", "02:00-03:00", "sat,sun"]), max_size=2),
    st.lists(st.sampled_from(["mon-fri 08:00-18:00", "2026-10-25", "02:15-02:20"]), max_size=2),
    st.floats(min_value=1_792_700_000, max_value=1_793_300_000),
)
def test_moments_are_strictly_increasing_inside_windows_and_outside_blackouts(
    pull: str, windows: list[str], blackouts: list[str], begin: float
) -> None:
    written = policy(pull, tuple(windows), tuple(blackouts))
    moments = [begin, *(one.at for one in itertools.islice(following(written, "web1", "etc", begin), 20))]
    assert all(before < after for before, after in itertools.pairwise(moments))
    for moment in moments[1:]:
        assert written.hours.open_at(datetime.fromtimestamp(moment, ZoneInfo(BERLIN)))
