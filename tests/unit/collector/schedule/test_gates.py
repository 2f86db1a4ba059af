"""What is open at present is looked up once for all that share the same hours, and again when it changes."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from pyrsyncbackup_collector.config.spans import Hours, spans
from pyrsyncbackup_collector.schedule.gates import Gates

NIGHT = Hours("Europe/Berlin", spans(["22:00-06:00"]))


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp()


def test_hours_without_limits_have_no_gate() -> None:
    gates = Gates()
    assert gates.of(Hours()) is None
    assert gates.passes(None, 5.0) == 5.0


def test_the_same_hours_share_a_gate() -> None:
    gates = Gates()
    assert gates.of(NIGHT) is gates.of(Hours("Europe/Berlin", spans(["22:00-06:00"])))


def test_what_is_due_waits_until_the_gate_opens_and_later_dues_are_looked_at_then() -> None:
    gates = Gates()
    gate = gates.of(NIGHT)
    assert not gates.turned(at("2026-11-25 12:00"))
    assert gates.passes(gate, 0.0) == at("2026-11-25 22:00")
    assert gates.passes(gate, at("2026-11-26 12:00")) == at("2026-11-26 12:00")
    assert not gates.turned(at("2026-11-25 21:59"))
    assert gates.turned(at("2026-11-25 22:00"))
    assert gates.passes(gate, 0.0) == 0.0


def test_a_clock_that_was_set_back_turns_the_gates() -> None:
    gates = Gates()
    gate = gates.of(NIGHT)
    gates.turned(at("2026-11-25 23:00"))
    assert gates.passes(gate, 0.0) == 0.0
    assert gates.turned(at("2026-11-25 12:00"))
    assert gates.passes(gate, 0.0) == at("2026-11-25 22:00")
