from __future__ import annotations

import zoneinfo
from datetime import datetime, timezone

import pytest
from pyrsyncbackup_collector.errors import NotFound, UsageError
from pyrsyncbackup_collector.store.reference import Ago, At, Latest, Named, Numbered, caution, parse, resolve
from pyrsyncbackup_collector.store.snapshot import Snapshot, Totals

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def _utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


def _snapshot(sequence: int, time: str, state: str = "complete", stale: int = 0) -> Snapshot:
    stamp = time.replace(":", "").replace(" ", "T") + "Z"
    return Snapshot("web1", "etc", sequence, f"{sequence:06}-{stamp}", _utc(time), state, None, "", Totals(stale=stale))


SNAPSHOTS = [
    _snapshot(1, "2026-11-20 10:00:00"),
    _snapshot(2, "2026-11-21 10:00:00"),
    _snapshot(3, "2026-11-22 10:00:00"),
    _snapshot(12, "2026-11-22 21:49:03", "partial", stale=2),
]
NOW = _utc("2026-11-23 00:00:00")


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("web1/etc", Latest()),
        ("web1/etc@latest", Latest()),
        ("web1/etc@12", Numbered(12)),
        ("web1/etc@000012", Numbered(12)),
        ("web1/etc@000012-2026", Named("000012-2026")),
        ("web1/etc@3d", Ago(3 * 86_400)),
        ("web1/etc@1d12h", Ago(36 * 3600)),
        ("web1/etc@2w", Ago(14 * 86_400)),
        ("web1/etc@2026-11-22", At(_utc("2026-11-22 23:00"))),
        ("web1/etc@2026-11-22 21:49", At(_utc("2026-11-22 20:50"))),
        ("web1/etc@2026-11-22T21:49:03", At(_utc("2026-11-22 20:49:04"))),
        ("web1/etc@2026-11-22T21:49:03Z", At(_utc("2026-11-22 21:49:04"))),
        ("web1/etc@2026-11-22T21:49:03.5 +02:00", At(_utc("2026-11-22 19:49:03.500001"))),
        ("web1/etc@2026-11-22 21:49 -0500", At(_utc("2026-11-23 02:50"))),
        # The day on which the clocks go back has 25 hours.
        ("web1/etc@2026-10-25", At(_utc("2026-10-25 23:00"))),
    ],
)
def test_a_reference_is_read(text: str, when: object) -> None:
    reference = parse(text, BERLIN)
    assert (reference.host, reference.module) == ("web1", "etc")
    assert reference.when == when


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("web1", "'web1' does not name a module of a host"),
        ("", "'' does not name a module of a host"),
        ("../etc/passwd", "'../etc/passwd' does not name a module of a host"),
        ("web1/etc/nginx", "'web1/etc/nginx' does not name a module of a host"),
        ("web1/etc@", "'' is no moment and no snapshot's name"),
        ("web1/etc@yesterday", "'yesterday' is no moment and no snapshot's name"),
        ("web1/etc@\x1b[31m", "'\\\\x1b[31m' is no moment and no snapshot's name"),
        ("web1/etc@2026-13-01", "'2026-13-01' is not a time: month must be in 1..12"),
        ("web1/etc@9999-12-31", "'9999-12-31' is not a time: date value out of range"),
    ],
)
def test_what_cannot_be_understood_is_refused(text: str, cause: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text, BERLIN)
    assert refused.value.cause == cause


@pytest.mark.parametrize(
    ("when", "sequence"),
    [
        ("latest", 12),
        ("2", 2),
        ("000003-2026-11-22T100000Z", 3),
        ("000001-", 1),
        ("0s", 12),
        ("3h", 3),
        ("2d", 1),
        ("2026-11-21", 2),
        ("2026-11-22", 12),
        ("2026-11-22 21:49", 12),
        ("2026-11-22 21:48", 3),
        ("2026-11-22 21:49:03", 12),
        ("2030-01-01", 12),
    ],
)
def test_the_newest_snapshot_that_is_not_later_is_meant(when: str, sequence: int) -> None:
    assert resolve(parse(f"web1/etc@{when}", timezone.utc), SNAPSHOTS, NOW).sequence == sequence


@pytest.mark.parametrize(
    ("when", "cause", "hint"),
    [
        ("7", "web1/etc has no snapshot 7", "there is 000012-"),
        ("000099-", "web1/etc has no snapshot 000099-", "and 1 more"),
        ("1y", "web1/etc has no snapshot as old as 1y", "the oldest is 000001-2026-11-20T100000Z"),
        ("2026-11-19", "web1/etc has no snapshot as old as 2026-11-19", "the oldest is 000001-2026-11-20T100000Z"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(when: str, cause: str, hint: str) -> None:
    with pytest.raises(NotFound) as missing:
        resolve(parse(f"web1/etc@{when}", timezone.utc), SNAPSHOTS, NOW)
    assert missing.value.cause == cause
    assert hint in missing.value.hint


def test_without_any_snapshot_the_next_step_is_told() -> None:
    with pytest.raises(NotFound, match="there is no snapshot of web1/etc"):
        resolve(parse("web1/etc"), [], NOW)


def test_the_sequence_says_what_is_newer_when_the_clock_went_back() -> None:
    back = [
        _snapshot(1, "2026-11-22 10:00:00"),
        _snapshot(2, "2026-11-22 12:00:00"),
        _snapshot(3, "2026-11-22 11:00:00"),
    ]
    assert resolve(parse("web1/etc"), back, NOW).sequence == 3
    assert resolve(parse("web1/etc@2026-11-22 11:30Z"), back, NOW).sequence == 3
    assert resolve(parse("web1/etc@2026-11-22 10:30Z"), back, NOW).sequence == 1


def test_a_partial_snapshot_comes_with_a_caution() -> None:
    assert caution(SNAPSHOTS[0]) == ""
    assert caution(SNAPSHOTS[-1]) == (
        "snapshot 000012-2026-11-22T214903Z is partial: 2 entries are of an earlier backup"
    )
