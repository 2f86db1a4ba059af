"""Silence and slowness of an agent, and the pacing of transfers, by a clock that the test moves."""

from __future__ import annotations

import pytest
from pyrsyncbackup_collector.transport.pump import Pace
from pyrsyncbackup_collector.transport.watchdog import Guard


class Hand:
    value = 0.0

    def now(self) -> float:
        return self.value

    def monotonic(self) -> float:
        return self.value


@pytest.fixture
def clock():
    return Hand()


def guard(clock, idle=10, total=100):
    cancelled = []
    return Guard(clock, idle, total, lambda: cancelled.append(True)), cancelled


def test_only_waiting_for_the_agent_counts(clock):
    watched, cancelled = guard(clock)
    clock.value = 50
    watched.check()
    watched.waiting()
    clock.value = 59
    assert watched.check() == pytest.approx(1)
    watched.heard()
    clock.value = 500
    watched.check()
    assert not cancelled


def test_silence_cancels_once_and_says_so(clock):
    watched, cancelled = guard(clock)
    watched.waiting()
    clock.value = 10
    watched.check()
    watched.check()
    assert cancelled == [True]
    assert "silent" in watched.why


def test_many_short_waits_add_up(clock):
    watched, cancelled = guard(clock)
    for _ in range(12):
        watched.waiting()
        clock.value += 9
        watched.check()
        watched.heard()
    assert cancelled
    assert "longer than allowed" in watched.why


def test_hurry_shortens_what_is_left(clock):
    watched, cancelled = guard(clock)
    watched.waiting()
    watched.hurry(3)
    clock.value = 3
    watched.check()
    assert cancelled


def test_a_bucket_lets_a_second_pass_at_once_and_then_the_rate(clock, monkeypatch):
    pace = Pace(clock, 1000)
    waited = []
    monkeypatch.setattr(pace._stopped, "wait", waited.append)
    pace.take(1000)
    assert waited == []
    pace.take(500)
    assert waited == [pytest.approx(0.5)]
    clock.value = 10
    pace.take(1000)
    assert len(waited) == 1
    Pace(clock, 0).take(10**12)
