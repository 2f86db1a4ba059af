"""The set of hashes answers as Python's own does."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyrsyncbackup_collector.store.hashes import Hashes

# Many fall upon one place, and upon that of "free".
VALUES = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-3, 3).map(lambda n: n * 2**20), st.just(-1))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(VALUES, max_size=60), st.lists(VALUES, max_size=20))
def test_it_knows_what_was_added_and_nothing_else(added: list[int], others: list[int]) -> None:
    made, plain = Hashes(), set[int]()
    for value in added:
        made.add(value)
        plain.add(value % 2**64 or 1)
    assert len(made) == len(plain)
    assert all(value in made for value in added)
    assert [value in made for value in others] == [(value % 2**64 or 1) in plain for value in others]


def test_it_grows() -> None:
    made = Hashes()
    values = [hash((b"path", number)) for number in range(5_000)]
    for value in values:
        made.add(value)
        made.add(value)
    assert len(made) == len(set(values))
    assert all(value in made for value in values)
    assert not any(hash((b"other", number)) in made for number in range(5_000))
