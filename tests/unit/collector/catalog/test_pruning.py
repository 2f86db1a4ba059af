"""After any prune the catalog answers like one that is made anew from what is left."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.pruning import settled
from pyrsyncbackup_collector.catalog.rebuild import rebuild

from tests.support.estate import Content, Estate
from tests.support.memory import MEMORY
from tests.support.versions import versions

PATHS = [b"etc/a", b"etc/b", b"etc/sub/c", b"etc/\xff"]
STATES = {
    "one": Content(b"one"),
    "two": Content(b"two"),
    # The same bytes and the same columns but for flags, or not even those.
    "stale": Content(b"one", stale=True, error="denied"),
    "denied otherwise": Content(b"one", stale=True, error="other words"),
    "gone": None,
}
# What changes in each snapshot, and after which of them some are pruned.
ROUNDS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(PATHS), st.sampled_from(list(STATES)), max_size=3),
        st.booleans(),
        st.sets(st.integers(1, 12), max_size=6),
    ),
    min_size=1,
    max_size=12,
)


def answers(catalog: Catalog) -> dict[str, Any]:
    found: dict[str, Any] = {"snapshots": catalog.snapshots(), "newest": [one.newest for one in catalog.modules()]}
    return found | {f"history {path!r}": catalog.path_history("web1", "etc", path) for path in PATHS}


def pull(estate: Estate, changed: dict[bytes, str], present: dict[bytes, str], state: str) -> None:
    """A pull names what differs alone."""
    real = {path: STATES[now] for path, now in changed.items() if present.get(path, "gone") != now}
    present.update(changed)
    estate.pull("web1", "etc", real, state=state)


def prune(estate: Estate, sequences: Sequence[int]) -> None:
    done = estate.store.prune("web1", "etc", dict.fromkeys(sequences, "test"))
    estate.catalog.drop_snapshots("web1", "etc", [one.sequence for one in done.removed])


@settings(max_examples=60, deadline=None)
@given(ROUNDS)
def test_a_pruned_catalog_answers_like_one_made_anew(rounds: list[tuple[dict[bytes, str], bool, set[int]]]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        estate = Estate(Path(directory))
        present: dict[bytes, str] = {}
        for number, (changed, partial, going) in enumerate(rounds, 1):
            pull(estate, changed, present, "partial" if partial else "complete")
            prune(estate, [sequence for sequence in going if sequence < number])
            assert estate.catalog.check_against(estate.store) == []
        before = versions(estate.catalog), answers(estate.catalog)
        estate.catalog.close()
        estate.catalog = rebuild(estate.catalog_path, estate.store).catalog
        assert (versions(estate.catalog), answers(estate.catalog)) == before
        estate.close()


@pytest.mark.parametrize(
    ("versions", "kept", "left"),
    [
        ([(1, None, 7)], [1, 2], [(1, (1, None, 7))]),
        ([(1, None, 7)], [3, 5], [(1, (3, None, 7))]),
        ([(1, 3, 7), (3, None, 8)], [1, 2], [(1, (1, None, 7))]),
        ([(1, 2, 7), (2, 3, 8), (3, None, 7)], [1, 3], [(1, (1, None, 7))]),
        ([(1, 2, 7), (2, 3, 8), (3, None, 9)], [1, 3], [(1, (1, 3, 7)), (3, (3, None, 9))]),
        ([(1, 2, 7), (3, None, 7)], [1, 3], [(1, (1, None, 7))]),
        ([(1, 2, 7), (3, None, 7)], [1, 2, 3], [(1, (1, 2, 7)), (3, (3, None, 7))]),
        ([(1, 2, 7), (3, None, 7)], [], []),
        ([(1, 9, 7)], [4, 8, 9], [(1, (4, 9, 7))]),
        ([(1, 6, 7)], [4, 8, 9], [(1, (4, 8, 7))]),
        ([(5, 8, 7)], [4, 8, 9], []),
    ],
)
def test_versions_are_put_right(versions: Any, kept: list[int], left: Any) -> None:
    assert settled(versions, kept) == left


def filled(estate: Estate, count: int) -> None:
    present: dict[bytes, str] = {}
    for number in range(count):
        pull(estate, {b"etc/a": "one" if number % 2 else "two", b"etc/b": "one"}, present, "complete")


def test_what_was_pruned_in_the_store_alone_goes_at_the_next_start(estate: Estate) -> None:
    """A crash, or a full disk, between the store and the catalog."""
    filled(estate, 4)
    estate.store.prune("web1", "etc", {2: "test", 3: "test"})
    assert estate.catalog.lacking(estate.store) == []
    assert [one.sequence for one in estate.catalog.snapshots()] == [1, 2, 3, 4]
    assert estate.catalog.difference(estate.store).pruned == {("web1", "etc"): [2, 3]}
    assert estate.catalog.check_against(estate.store) == []
    assert [one.sequence for one in estate.catalog.snapshots()] == [1, 4]
    assert [(one.begin, one.end) for one in versions(estate.catalog, path=b"etc/a")] == [(1, 4), (4, None)]


def test_a_manifest_that_somebody_removed_is_no_prune(estate: Estate) -> None:
    filled(estate, 4)
    next((estate.store.path / "manifests" / "web1" / "etc").glob("000002-*")).unlink()
    found = estate.catalog.difference(estate.store)
    assert (found.pruned, [(one.sequence, one.why) for one in found.lost]) == ({}, [(2, "its file is not there")])
    assert [one.sequence for one in estate.catalog.snapshots()] == [1, 2, 3, 4]


def test_of_a_module_without_snapshots_nothing_is_left(estate: Estate) -> None:
    filled(estate, 3)
    prune(estate, [1, 2, 3])
    assert versions(estate.catalog) == []
    assert estate.catalog.memory("web1", "etc") is None
    estate.catalog.forget_module("web1", "etc")
    assert estate.catalog.modules() == []
    estate.catalog.close()
    estate.catalog = rebuild(estate.catalog_path, estate.store).catalog
    assert estate.catalog.modules() == []
    filled(estate, 1)
    assert [one.sequence for one in estate.catalog.snapshots()] == [4]


def test_a_module_with_snapshots_is_not_taken_out(estate: Estate) -> None:
    filled(estate, 1)
    estate.catalog.forget_module("web1", "etc")
    assert len(estate.catalog.snapshots()) == 1


def test_what_retention_remembers_outlives_a_rebuild(estate: Estate) -> None:
    filled(estate, 2)
    estate.catalog.freeze("web1", "etc", 5.0, "half of it is gone")
    estate.catalog.remember_clock("{}")
    before = estate.catalog.retained()
    estate.catalog.close()
    estate.catalog = rebuild(estate.catalog_path, estate.store).catalog
    assert estate.catalog.retained() == before
    assert (before[0].frozen, before[0].why) == (5.0, "half of it is gone")
    assert estate.catalog.clock_seen() == "{}"


def test_a_module_goes_on_from_the_snapshot_that_was_accepted(estate: Estate) -> None:
    filled(estate, 3)
    assert not estate.catalog.resume("web1", "etc", 3)
    estate.catalog.freeze("web1", "etc", 5.0, "why")
    estate.catalog.freeze("web1", "etc", 6.0, "later")
    assert estate.catalog.retained()[0].frozen == 5.0
    assert estate.catalog.resume("web1", "etc", 3)
    [known] = estate.catalog.retained()
    assert (known.frozen, known.why, known.judged, known.accepted) == (None, "", 3, 3)


def test_files_with_another_content_or_none_are_lost(estate: Estate) -> None:
    many = {b"etc/%d" % number: Content(b"%d" % number) for number in range(5)}
    estate.pull("web1", "etc", dict(many))
    estate.pull("web1", "etc", {b"etc/0": Content(b"new"), b"etc/1": None, b"etc/new": Content(b"x")})
    # Back again, and one whose metadata alone changed.
    estate.pull("web1", "etc", {b"etc/1": many[b"etc/1"], b"etc/2": Content(b"2", public=False)})
    assert estate.catalog.lost_files("web1", "etc", 1, 2) == 2
    assert estate.catalog.lost_files("web1", "etc", 1, 3) == 1
    assert estate.catalog.lost_files("web1", "other", 1, 3) == 0
