"""What counts as a sudden change of a module."""

from __future__ import annotations

import pytest
from pyrsyncbackup_collector.store.freeze import sudden
from pyrsyncbackup_collector.store.snapshot import Snapshot, Totals

from tests.support.snapshots import snapshot

DAY = 86400.0


def taken(sequence: int, entries: int = 100, size: int = 10_000, time: float | None = None) -> Snapshot:
    totals = Totals(entries=entries, files=entries * 9 // 10, size=size)
    return snapshot(sequence, totals=totals, time=1.79e9 + (sequence * DAY if time is None else time))


def none(_: Snapshot, __: Snapshot) -> int:
    return 0


BEFORE = [taken(number) for number in range(1, 6)]


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (taken(6), ""),
        (taken(6, entries=51, size=5001), ""),
        (taken(6, entries=49), "000006-2026-11-22T214903Z has 49 entries, the median of the 5 before it has 100"),
        (taken(6, size=4999), "000006-2026-11-22T214903Z has 4,999 bytes, the median of the 5 before it has 10,000"),
        (taken(6, entries=100_000, size=1 << 40), ""),
    ],
)
def test_a_module_that_shrinks_by_more_than_its_share_is_sudden(one: Snapshot, words: str) -> None:
    assert sudden(one, BEFORE, 0.5, none) == words


def test_contents_that_change_are_sudden_although_the_size_stays() -> None:
    words = (
        "of the 90 files in 000005-2026-11-22T214903Z, 46 are gone or have another content in 000006-2026-11-22T214903Z"
    )
    assert sudden(taken(6), BEFORE, 0.5, lambda _, __: 46) == words
    assert sudden(taken(6), BEFORE, 0.5, lambda _, __: 45) == ""
    assert sudden(taken(6), BEFORE, 0.9, lambda _, __: 46) == ""


def test_small_steps_of_one_day_count_together() -> None:
    compared: list[int] = []

    def lost(older: Snapshot, _: Snapshot) -> int:
        compared.append(older.sequence)
        return 0

    hourly = [taken(number, time=number * 3600.0) for number in range(1, 6)]
    sudden(taken(6, time=6 * 3600.0), hourly, 0.5, lost)
    sudden(taken(6, time=DAY + 3 * 3600), hourly, 0.5, lost)
    assert compared == [1, 3]


def test_many_snapshots_of_one_day_do_not_hide_what_they_changed_together() -> None:
    compared: list[int] = []

    def lost(older: Snapshot, _: Snapshot) -> int:
        compared.append(older.sequence)
        return 0

    often = [taken(1, time=-DAY), *(taken(number, time=number * 300.0) for number in range(2, 60))]
    sudden(taken(60, time=60 * 300.0), often, 0.5, lost)
    sudden(taken(60, time=60 * 300.0), often[1:], 0.5, lost)
    assert compared == [1, 2]


def test_files_that_were_added_just_before_do_not_make_a_loss_look_small() -> None:
    padded = [*BEFORE, taken(6, entries=10_000, size=1_000_000)]
    assert "90 are gone" in sudden(taken(7, entries=10_000, size=1_000_000), padded, 0.5, lambda _, __: 90)
    assert sudden(taken(7, entries=10_000, size=1_000_000), padded, 0.5, lambda _, __: 45) == ""


def test_the_first_one_and_small_modules_are_never_sudden() -> None:
    assert sudden(taken(1), [], 0.5, none) == ""
    assert sudden(taken(6, entries=0), [taken(number, entries=21) for number in range(1, 6)], 0.5, none) == ""


def test_a_dump_that_failed_is_sudden_although_it_is_one_file() -> None:
    def dump(sequence: int, size: int) -> Snapshot:
        return snapshot(sequence, totals=Totals(entries=2, files=1, size=size), time=1.79e9 + sequence * DAY)

    before = [dump(number, 5 << 20) for number in range(1, 6)]
    assert "has 0 bytes, the median of the 5 before it has 5,242,880" in sudden(
        dump(6, 0), before, 0.5, lambda _, __: 1
    )
    # Each is another one.
    assert sudden(dump(6, 4 << 20), before, 0.5, lambda _, __: 1) == ""
    small = [dump(number, 500_000) for number in range(1, 6)]
    assert sudden(dump(6, 0), small, 0.5, lambda _, __: 1) == ""


def test_one_exception_among_those_before_changes_no_median() -> None:
    before = [*BEFORE[:4], taken(5, entries=1000, size=100_000)]
    assert sudden(taken(6), before, 0.5, none) == ""


def test_only_the_last_ten_count() -> None:
    long_ago = [taken(number, entries=10_000) for number in range(1, 20)]
    assert sudden(taken(30), [*long_ago, *(taken(number) for number in range(20, 30))], 0.5, none) == ""
