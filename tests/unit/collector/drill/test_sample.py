"""A sample is sound as a snapshot is, stays within its bounds, and is the same each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pyrsyncbackup_collector.drill.sample import Bounds, Sample
from pyrsyncbackup_collector.entry import DIRECTORY, Entry, order, parent
from pyrsyncbackup_collector.store.manifest import Count, checked

from tests.support import tree

NAMES = st.sampled_from([b"a", b"b", b"c.d", b"\xff"])
PATHS = st.lists(st.lists(NAMES, min_size=1, max_size=4).map(b"/".join), min_size=1, max_size=60)


def snapshot(paths: list[bytes]) -> list[Entry]:
    kinds: dict[bytes, str] = {}
    for path in paths:
        kinds.setdefault(path, "file")
        while path := parent(path):
            kinds[path] = DIRECTORY
    return [tree.make(path, kinds[path], size=10 * (kinds[path] == "file")) for path in sorted(kinds, key=order)]


def totals(entries: list[Entry]):
    count = Count()
    assert len(list(count.through(entries))) == len(entries)
    return count.totals()


@given(PATHS, st.integers(1, 30), st.integers(0, 300), st.integers(0, 2**64 - 1))
def test_a_sample_is_sound_within_its_bounds_and_the_same_again(
    paths: list[bytes], entries: int, size: int, seed: int
) -> None:
    everything = snapshot(paths)
    sample = Sample(totals(everything), Bounds(entries, size), seed)
    chosen = list(sample.of(everything))
    assert list(sample.of(everything)) == chosen
    assert list(checked(iter(chosen), "the sample")) == chosen
    if sample.whole:
        assert chosen == everything
    else:
        assert sum(entry.size for entry in chosen if entry.type != DIRECTORY) <= size


def test_over_many_samples_every_file_has_its_turn() -> None:
    everything = snapshot([b"d/%d" % number for number in range(20)])
    seen = set()
    for seed in range(200):
        seen.update(entry.path for entry in Sample(totals(everything), Bounds(5, 1000), seed).of(everything))
    assert seen == {entry.path for entry in everything}
