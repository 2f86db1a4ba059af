"""A clock that jumps lets nothing expire, until it is back or somebody says that it is right."""

from __future__ import annotations

import pytest
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.daemon.clock_guard import Look, Seen, doubt, dump, load, look, remembered, trusted

HOUR, DAY, YEAR = 3600.0, 86400.0, 365.25 * 86400
NOW = 1_790_000_000.0
NEWEST = {"web1/etc": (7, NOW - HOUR)}


def at(wall: float, passed: float = 0.0, boot: str = "one") -> Look:
    return Look(NOW + wall, boot, 1000.0 + passed)


def seen(*looks: Look) -> Seen:
    known: Seen | None = None
    for one in looks:
        known = remembered(one, known)
    assert known is not None
    return known


@pytest.mark.parametrize("jump", [-10 * YEAR, -25 * HOUR, 25 * HOUR, 10 * YEAR])
def test_a_jump_by_more_than_a_day_is_doubted_until_it_is_undone(jump: float) -> None:
    known = seen(at(0))
    assert doubt(at(jump + 10, 10), known, {}).startswith("the clock was moved ")
    assert doubt(at(jump + DAY, DAY), known, {})
    assert doubt(at(DAY, DAY), known, {}) == ""


@pytest.mark.parametrize("jump", [-HOUR, HOUR, 23 * HOUR])
def test_a_jump_by_less_than_a_day_is_none(jump: float) -> None:
    assert doubt(at(jump + 10, 10), seen(at(0)), {}) == ""


def test_many_small_jumps_count_like_a_large_one() -> None:
    known = seen(at(0), at(20 * HOUR, 10))
    assert doubt(at(30 * HOUR, 20), known, {}) == "the clock was moved forward by 1.2 days since 2026-09-21 14:13 UTC"


def test_time_that_passes_is_no_jump() -> None:
    assert doubt(at(YEAR, YEAR), seen(at(0)), NEWEST) == ""


def test_a_clock_behind_the_newest_snapshot_is_doubted() -> None:
    words = "the clock says 2026-09-21 12:13 UTC, and the newest snapshot of web1/etc is of 2026-09-21 13:13 UTC"
    assert doubt(at(-2 * HOUR), None, NEWEST) == words
    assert doubt(at(0), None, NEWEST) == ""


def test_over_a_restart_the_clock_goes_on_by_a_month_at_most_and_not_back() -> None:
    known = seen(at(0))
    assert doubt(at(29 * DAY, boot="two"), known, {}) == ""
    assert "before the restart" not in doubt(at(31 * DAY, boot="two"), known, {})
    assert "31.0 days after it was last seen" in doubt(at(31 * DAY, boot="two"), known, {})
    assert "before the restart" in doubt(at(-2 * DAY, boot="two"), known, {})
    assert doubt(at(-HOUR, boot="two"), known, {}) == ""


def test_a_jump_over_a_restart_waits_for_the_clock_to_be_set() -> None:
    known = seen(at(0))
    just_started = Look(NOW + 20 * DAY, "two", 60.0)
    assert "20.0 days after it was last seen, and this machine just started: 15 minutes" in doubt(
        just_started, known, {}
    )
    assert doubt(Look(NOW + 20 * DAY + 900, "two", 960.0), known, {}) == ""
    assert doubt(Look(NOW + HOUR, "two", 60.0), known, {}) == ""


def test_after_a_restart_monotonic_time_begins_anew() -> None:
    known = seen(at(0), at(HOUR, 5, "two"))
    assert doubt(at(HOUR + DAY, DAY, "two"), known, {}) == ""
    assert doubt(at(3 * DAY, 10, "two"), known, {}).startswith("the clock was moved forward by 3.0 days")


def test_a_clock_that_somebody_called_right_is_trusted_with_the_snapshots_of_then() -> None:
    ahead = {"web1/etc": (7, NOW + 10 * YEAR)}
    known = trusted(at(25 * HOUR, 10), ahead)
    assert doubt(at(26 * HOUR, 10 + HOUR), known, ahead) == ""
    assert doubt(at(26 * HOUR, 10 + HOUR), load(dump(known)), ahead) == ""
    later = {"web1/etc": (8, NOW + YEAR)}
    assert "web1/etc" in doubt(at(26 * HOUR, 10 + HOUR), known, later)
    assert remembered(at(26 * HOUR, 10 + HOUR), known).excused == {"web1/etc": 7}


@pytest.mark.parametrize("text", ["", "{}", "[", '{"first": 1}'])
def test_what_cannot_be_read_was_never_seen(text: str) -> None:
    assert load(text) is None


def test_the_clocks_of_this_machine_raise_no_doubt() -> None:
    first = look(SystemClock())
    second = look(SystemClock())
    assert second.seconds >= first.seconds
    assert second.boot == first.boot != ""
    assert doubt(second, remembered(first, None), {}) == ""


def test_times_that_no_calendar_has_are_said_all_the_same() -> None:
    assert "1000000000000000000 s after 1970" in doubt(at(0), None, {"web1/etc": (1, 1e18)})
