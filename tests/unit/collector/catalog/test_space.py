"""What snapshots, modules and hosts take, and what they alone take."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.catalog.views import Taken

from tests.support.estate import Content, Estate
from tests.support.still_clock import StillClock


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    made = Estate(tmp_path, StillClock())
    yield made
    made.close()


def stored(estate: Estate, *contents: bytes) -> int:
    """How many bytes lie in the store for these."""
    return sum(estate.store.objects.stored_size(estate._object(Content(each), True).sha256) for each in contents)


def noise(number: int, size: int = 300) -> bytes:
    return random.Random(number).randbytes(size)


def test_an_empty_store_takes_nothing(estate: Estate) -> None:
    space = estate.catalog.store_space()
    assert (space.modules, dict(space.hosts), space.stored, space.unnamed) == ((), {}, 0, 0)
    assert estate.catalog.snapshot_space("web1", "etc") == []


def test_what_two_modules_share_is_unique_to_their_host_and_what_two_hosts_share_to_none(estate: Estate) -> None:
    own, both, everywhere, other = (noise(n, 100 * n) for n in (1, 2, 3, 4))
    estate.pull("web1", "etc", {b"etc/a": Content(own), b"etc/b": Content(both), b"etc/c": Content(everywhere)})
    estate.pull("web1", "nginx", {b"nginx/b": Content(both)})
    estate.pull("web2", "etc", {b"etc/c": Content(everywhere), b"etc/d": Content(other)})
    space = estate.catalog.store_space()
    size = {
        name: stored(estate, data)
        for name, data in (("own", own), ("both", both), ("every", everywhere), ("other", other))
    }
    assert [(each.host, each.module) for each in space.modules] == [("web1", "etc"), ("web1", "nginx"), ("web2", "etc")]
    assert [each.taken for each in space.modules] == [
        Taken(size["own"] + size["both"] + size["every"], size["own"]),
        Taken(size["both"], 0),
        Taken(size["every"] + size["other"], size["other"]),
    ]
    assert space.hosts == {
        "web1": Taken(size["own"] + size["both"] + size["every"], size["own"] + size["both"]),
        "web2": Taken(size["every"] + size["other"], size["other"]),
    }
    assert space.stored == sum(size.values())
    assert space.modules[0].size == len(own) + len(both) + len(everywhere)


def test_a_content_with_two_names_counts_once(estate: Estate) -> None:
    estate.pull("web1", "etc", {b"etc/a": Content(noise(1)), b"etc/b": Content(noise(1))})
    (module,) = estate.catalog.store_space().modules
    assert module.taken == Taken(stored(estate, noise(1)), stored(estate, noise(1)))
    assert module.size == 2 * 300


def test_what_only_one_snapshot_names_is_unique_to_it(estate: Estate) -> None:
    """a: only in 1; b: in 1 and 2; c: in 2, gone in 3, back in 4; d: only in 4, and there under two names."""
    a, b, c, d, shared = (noise(n, 100 * n) for n in (1, 2, 3, 4, 5))
    estate.pull("web1", "etc", {b"etc/x": Content(a), b"etc/y": Content(b)})
    estate.pull("web1", "etc", {b"etc/x": Content(c)})
    estate.pull("web1", "etc", {b"etc/x": None, b"etc/y": None, b"etc/z": Content(shared)})
    estate.pull("web1", "etc", {b"etc/x": Content(c), b"etc/v": Content(d), b"etc/w": Content(d)})
    estate.pull("web2", "etc", {b"etc/z": Content(shared)})
    found = [each.taken for each in estate.catalog.snapshot_space("web1", "etc")]
    assert found == [
        Taken(stored(estate, a, b), stored(estate, a)),
        Taken(stored(estate, b, c), 0),
        Taken(stored(estate, shared), 0),
        Taken(stored(estate, c, d, shared), stored(estate, d)),
    ]


def test_pruning_gives_back_what_was_said_to_be_unique(estate: Estate) -> None:
    rng = random.Random(7)
    names = [b"etc/%d" % n for n in range(12)]
    for _ in range(8):
        files = {name: Content(noise(rng.randrange(40))) for name in rng.sample(names, 5)}
        estate.pull("web1", "etc", dict(files))
        estate.pull("web2", "etc", {b"etc/q": Content(noise(rng.randrange(40)))})
    clock = estate.clock
    assert isinstance(clock, StillClock)
    estate.collect()
    for sequence in (3, 5, 1, 6):
        spaces = {each.sequence: each for each in estate.catalog.snapshot_space("web1", "etc")}
        before = estate.catalog.store_space()
        estate.prune("web1", "etc", sequence)
        after = estate.catalog.store_space()
        assert after.unnamed - before.unnamed == spaces[sequence].taken.unique
        estate.collect()
        clock.time += 86400.0
        assert estate.collect().bytes == spaces[sequence].taken.unique
        assert estate.catalog.store_space().stored == before.stored - spaces[sequence].taken.unique


def in_chunks(estate: Estate, whole: bytes, list_: bytes, *chunks: bytes) -> None:
    """Say of a content that it lies in chunks."""
    digests = [estate._object(Content(each), True) for each in (list_, *chunks)]
    estate.catalog.record_objects("p", "web1", digests)
    first, *rest = (bytes.fromhex(each.sha256) for each in digests)
    with estate.catalog._database.writing() as raw:
        one = bytes.fromhex(estate._object(Content(whole), True).sha256)
        raw.execute("UPDATE objects SET chunks = ?, stored_size = 0 WHERE sha256 = ?", (first, one))
        raw.execute("INSERT INTO lists VALUES (?, ?)", (one, first))
        raw.executemany("INSERT INTO chunks VALUES (?, ?)", [(first, each) for each in rest])


def test_a_content_in_chunks_is_counted_by_its_chunks(estate: Estate) -> None:
    one, two = noise(1), noise(2)
    chunks = {name: noise(number, 50 * number) for number, name in enumerate(("a", "b", "c", "list1", "list2"), 10)}
    estate.pull("web1", "db", {b"db/x": Content(one)})
    estate.pull("web1", "db", {b"db/x": Content(two)})
    estate.pull("web2", "etc", {b"etc/c": Content(chunks["c"])})
    in_chunks(estate, one, chunks["list1"], chunks["a"], chunks["b"])
    in_chunks(estate, two, chunks["list2"], chunks["b"], chunks["c"])

    def size(*names: str) -> int:
        return stored(estate, *(chunks[name] for name in names))

    found = [each.taken for each in estate.catalog.snapshot_space("web1", "db")]
    assert found == [Taken(size("list1", "a", "b"), size("list1", "a")), Taken(size("list2", "b", "c"), size("list2"))]
    space = estate.catalog.store_space()
    assert space.hosts["web1"] == Taken(size("list1", "list2", "a", "b", "c"), size("list1", "list2", "a", "b"))
    assert space.hosts["web2"] == Taken(size("c"), 0)
    assert space.unnamed == 0
