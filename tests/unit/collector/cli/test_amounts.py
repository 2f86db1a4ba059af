import pytest
from pyrsyncbackup_collector.cli import amounts


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (102348, "99.9 KiB"),
        (102400, "100 KiB"),
        (1048000, "1023 KiB"),
        (1048500, "1.0 MiB"),
        (5 << 30, "5.0 GiB"),
        (3 << 60, "3.0 EiB"),
    ],
)
def test_sizes_have_binary_units_and_never_four_digits_of_a_unit_that_has_a_next(value, shown):
    assert amounts.size(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (7199, "1h"), (86400 * 13, "13d"), (86400 * 15, "2w"), (86400 * 800, "2y")],
)
def test_a_span_is_told_in_its_largest_unit(seconds, shown):
    assert amounts.span(seconds) == shown


def test_ages_tell_past_future_and_never():
    assert amounts.ago(None, 100) == "never"
    assert amounts.ago(100, 100.5) == "just now"
    assert amounts.ago(0, 7200) == "2h ago"
    assert amounts.ago(400, 100) == "in 5m"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0084, "8 ms"), (1.44, "1.4 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_work_is_told_with_the_precision_that_matters(seconds, shown):
    assert amounts.took(seconds) == shown


def test_counts_agree_with_their_noun():
    assert amounts.counted(1, "file") == "1 file"
    assert amounts.counted(2000, "file") == "2,000 files"
    assert amounts.counted(2, "directory") == "2 directories"


def test_json_times_are_utc_with_milliseconds():
    assert amounts.iso(0.25) == "1970-01-01T00:00:00.250Z"
    assert amounts.iso(None) is None


@pytest.mark.parametrize("moment", [1 << 61, -(1 << 61), 1e300])
def test_a_moment_beyond_the_calendar_is_told_as_its_number(moment):
    assert amounts.local(moment) == f"@{moment:.0f}"
