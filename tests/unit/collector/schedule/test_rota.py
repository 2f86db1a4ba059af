"""When chores of the upkeep are due."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from pyrsyncbackup_collector.config.calendar import Calendar, pull_time
from pyrsyncbackup_collector.config.spans import Hours, spans
from pyrsyncbackup_collector.schedule.rota import is_due

BERLIN = "Europe/Berlin"


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(BERLIN)).timestamp()


@pytest.mark.parametrize(
    ("every", "windows", "last", "now", "due"),
    [
        ("1d", [], "2026-11-24 12:00", "2026-11-25 11:59", False),
        ("1d", [], "2026-11-24 12:00", "2026-11-25 12:00", True),
        ("daily at 03:00", [], "2026-11-24 12:00", "2026-11-25 02:59", False),
        ("daily at 03:00", [], "2026-11-24 12:00", "2026-11-25 03:00", True),
        ("daily at 03:00", [], "2026-11-01 03:00", "2026-11-25 12:00", True),
        ("daily at 03:00", [], "2026-11-25 12:00", "2026-11-25 12:01", False),
        ("1d", ["22:00-06:00"], "2026-11-01 03:00", "2026-11-25 12:00", False),
        ("1d", ["22:00-06:00"], "2026-11-01 03:00", "2026-11-25 22:00", True),
        # From before the clock was set back by ten years: not now, and not in ten years.
        ("1d", [], "2036-11-25 12:00", "2026-11-25 12:00", False),
    ],
)
def test_a_chore_is_due_once_when_its_time_has_come(
    every: str, windows: list[str], last: str, now: str, due: bool
) -> None:
    often: float | Calendar = pull_time(every)
    assert is_due(often, Hours(BERLIN, spans(windows)), at(last), at(now)) is due
