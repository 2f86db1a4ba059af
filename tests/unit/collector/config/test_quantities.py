"""Durations and sizes."""

from __future__ import annotations

import pytest
from pyrsyncbackup_collector.config import quantities


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("1h30m", 5400), ("1d", 86400), ("2w", 1209600), ("1y", 31536000), ("1w1d1s", 691201)],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert quantities.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "15", "m", "1.5h", "-1h", "1h 30m", "1m1h", "1h1h", "101y", "0s", "１h", None, 3])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not a duration|is out of range"):
        quantities.duration(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(4096, 4096), ("4096", 4096), ("64K", 65536), ("1.5GiB", 3 << 29), ("2 MB", 2 << 20), ("1T", 1 << 40)],
)
def test_a_size_is_read(value: object, expected: int) -> None:
    assert quantities.size(value) == expected


@pytest.mark.parametrize("value", [0, -1, True, "", "K", "-1K", "1X", "0.1", 1.5])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"is not a size|is out of range"):
        quantities.size(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("5%", quantities.Share(5)), ("0.5%", quantities.Share(0.5)), ("20GiB", 20 << 30), (4096, 4096), ("off", None)],
)
def test_room_is_a_size_or_a_part(value: object, expected: object) -> None:
    assert quantities.share_or_size(value) == expected


@pytest.mark.parametrize("value", ["0%", "51%", "-1%", "%", "x%", "5 percent", 0, True])
def test_what_is_no_room_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"is not a size|is out of range"):
        quantities.share_or_size(value)


@pytest.mark.parametrize(("value", "expected"), [("5%", quantities.Share(5)), (100000, 100000), ("off", None)])
def test_inodes_are_a_number_or_a_part(value: object, expected: object) -> None:
    assert quantities.share_or_count(value) == expected


@pytest.mark.parametrize("value", ["100000", "0%", 0, True, 1.5])
def test_what_is_no_number_of_inodes_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"is neither a number|is out of range"):
        quantities.share_or_count(value)


def test_a_part_is_taken_of_the_whole() -> None:
    assert quantities.Share(0.5).of(1000) == 5
