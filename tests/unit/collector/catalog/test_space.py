"""What snapshots, modules and hosts take, and what they alone take."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.catalog.views import Taken
from pyrsyncbackup_collector.store.snapshot import Snapshot

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


def pieces(estate: Estate, snapshot: Snapshot) -> set[str]:
    """The files in the store that a snapshot needs, as its manifest names them."""
    found = set()
    for entry in estate.store.entries(snapshot):
        if entry.chunks:
            found |= {entry.chunks, *(chunk.sha256 for chunk in estate.store.objects.chunks_of(entry))}
        elif entry.sha256:
            found.add(entry.sha256)
    return found


def test_the_figures_are_those_that_manifests_and_files_give(tmp_path: Path) -> None:
    """Shared, unique and chunked contents of three hosts, with pruned snapshots: added up without the catalog."""
    estate = Estate(tmp_path, StillClock(), large=1 << 20)
    rng = random.Random(11)
    large = [noise(number, 3 << 20) for number in range(3)]
    # Grown, cut, and changed in the middle: most of their chunks are those of the first.
    large += [large[0] + noise(9, 1 << 20), large[0][: 2 << 20], large[0][: 1 << 20] + b"x" + large[0][1 << 20 :]]
    for _ in range(5):
        for host, module in (("web1", "etc"), ("web1", "db"), ("web2", "etc"), ("web3", "db")):
            names = [f"{module}/{number}".encode() for number in range(8)]
            files: dict[bytes, Content | None] = {n: Content(noise(rng.randrange(30))) for n in rng.sample(names, 3)}
            files[f"{module}/large{rng.randrange(2)}".encode()] = Content(rng.choice(large))
            estate.pull(host, module, files)
    for host, module, sequence in (("web1", "db", 2), ("web2", "etc", 1), ("web3", "db", 4)):
        estate.prune(host, module, sequence)
    needed = {
        (host, module, each.sequence): pieces(estate, each)
        for host, module in estate.store.modules()
        for each in estate.store.snapshots(host, module)
    }
    assert len(needed) == 17
    assert any(entry.chunks for entry in estate.store.entries(estate.store.snapshots("web1", "db")[-1]))

    def taken(prefix: tuple[object, ...]) -> Taken:
        own = {piece for key, those in needed.items() if key[: len(prefix)] == prefix for piece in those}
        others = {piece for key, those in needed.items() if key[: len(prefix)] != prefix for piece in those}
        size = {piece: estate.store.objects.place(piece).stat().st_size for piece in own}
        return Taken(sum(size.values()), sum(size[piece] for piece in own - others))

    space = estate.catalog.store_space()
    assert dict(space.hosts) == {host: taken((host,)) for host in space.hosts}
    for module in space.modules:
        whole = list(estate.store.snapshots(module.host, module.module))
        sizes = [entry.size for each in whole for entry in estate.store.entries(each)]
        assert (module.snapshots, module.size) == (len(whole), sum(sizes))
    assert {(m.host, m.module): m.taken for m in space.modules} == {
        (m.host, m.module): taken((m.host, m.module)) for m in space.modules
    }
    for host, module in estate.store.modules():
        for each in estate.catalog.snapshot_space(host, module):
            assert each.taken == taken((host, module, each.sequence)), (host, module, each.sequence)
    on_disk = {file: file.stat().st_size for file in (estate.store.path / "objects").rglob("*") if file.is_file()}
    assert space.stored == sum(on_disk.values())
    named = {estate.store.objects.place(piece) for those in needed.values() for piece in those}
    assert space.unnamed == sum(size for file, size in on_disk.items() if file not in named)
    estate.close()
