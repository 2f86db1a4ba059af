"""Words for moments and spans of time: whatever is written is read, or refused with a sentence."""

from __future__ import annotations

import contextlib
import re
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyrsyncbackup_collector.config import calendar, spans, zones

WORDS = ("daily", "hourly", "weekly", "monthly", "cron", "at", "on", "sun", "mon-fri", "02:30", ":15", ",", "-", "..")
SIGNS = ("*", "*/5", "1L", "L", "LW", "MON#2", "1-5", "٣", "²", "2026-12-24", "24:00", "", "0", "-1", "99999999999999")
texts = st.one_of(
    st.text(max_size=30),
    st.lists(st.sampled_from(WORDS + SIGNS), max_size=8).map(" ".join),
    st.lists(st.sampled_from(SIGNS), min_size=5, max_size=5).map(lambda fields: "cron " + " ".join(fields)),
)
values = st.one_of(texts, st.none(), st.integers(), st.floats(), st.booleans(), st.lists(texts, max_size=2))


@given(values)
@example("cron * * L/0 * *")
@example("daily at")
@example("weekly on  at 02:30")
def test_a_time_to_pull_is_read_or_refused(value: object) -> None:
    with contextlib.suppress(ValueError):
        found = calendar.pull_time(value)
        if isinstance(found, calendar.Calendar):
            assert found.after(1_790_000_000.0, ZoneInfo("Europe/Berlin")) > 1_790_000_000.0
        else:
            assert found > 0


@given(values)
@example("mon-")
@example("-")
@example("..")
@example(", 02:00-03:00")
def test_a_span_is_read_or_refused(value: object) -> None:
    with contextlib.suppress(ValueError):
        for span in spans.spans(value):
            span.holds(datetime(2026, 11, 25, 12, tzinfo=ZoneInfo("Europe/Berlin")))


@given(values)
@example("Europe")
@example("../../etc/passwd")
@example("\0")
def test_a_zone_is_known_or_refused(value: object) -> None:
    with contextlib.suppress(ValueError):
        assert zones.zone_of(zones.zone_name(value))


@pytest.mark.parametrize(
    ("text", "days"),
    [("sat,sun", {5, 6}), ("mon-fri", {0, 1, 2, 3, 4}), ("fri-mon", {4, 5, 6, 0}), ("Wednesday".lower(), {2})],
)
def test_days_of_the_week_are_read(text: str, days: set[int]) -> None:
    assert spans.weekdays(text) == days


@pytest.mark.parametrize(
    ("text", "moment", "inside"),
    [
        ("22:00-06:00", "2026-11-25 23:59", True),
        ("22:00-06:00", "2026-11-25 06:00", False),
        ("fri 22:00-06:00", "2026-11-28 05:59", True),
        ("fri 22:00-06:00", "2026-11-27 05:59", False),
        ("sat, sun", "2026-11-28 00:00", True),
        ("Mon-Fri  08:00-18:00", "2026-11-25 08:00", True),
        ("2026-12-24..2026-12-26", "2026-12-26 23:59", True),
        ("2026-12-24..2026-12-26", "2026-12-27 00:00", False),
        ("2026-12-24 22:00-02:00", "2026-12-25 01:59", True),
        ("00:00-24:00", "2026-12-25 12:00", True),
        ("mon - fri 22:00 - 06:00", "2026-11-25 23:00", True),
        ("2026-12-24 .. 2026-12-26", "2026-12-26 23:59", True),
    ],
)
def test_a_moment_is_in_a_span_or_not(text: str, moment: str, inside: bool) -> None:
    assert spans.span(text).holds(datetime.fromisoformat(moment)) is inside


def test_the_zone_of_the_machine_is_that_of_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    zones.zone_of.cache_clear()
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    try:
        assert str(zones.zone_of(None)) == "Asia/Tokyo"
    finally:
        zones.zone_of.cache_clear()
    monkeypatch.setenv("TZ", "no/such")
    try:
        assert zones.zone_of(None).utcoffset(datetime(2026, 11, 25)) is not None
    finally:
        zones.zone_of.cache_clear()


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("0 2 * * *", 'did you mean "cron 0 2 * * *"?'),
        ("*/15 * * * mon-fri", 'did you mean "cron */15 * * * mon-fri"?'),
        ("@daily", 'did you mean "daily"?'),
        ("dayly at 02:30", 'did you mean "daily"?'),
    ],
)
def test_a_time_in_other_words_is_refused_with_ours(text: str, instead: str) -> None:
    with pytest.raises(ValueError, match=re.escape(instead)):
        calendar.pull_time(text)


def test_the_weekend_is_two_days() -> None:
    with pytest.raises(ValueError, match=r'did you mean "sat,sun"'):
        spans.span("weekend 08:00-18:00")
