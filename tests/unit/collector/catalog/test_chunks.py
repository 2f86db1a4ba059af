"""Contents in chunks as the catalog knows them: who may claim, what a pull relies on, what a rebuild finds."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyrsyncbackup_collector.catalog.rebuild import rebuild
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.store import cutting

from tests.support.estate import Content, Estate
from tests.support.still_clock import StillClock

CHANCE = random.Random(4)
LARGE = CHANCE.randbytes(6 << 20)
OTHER = LARGE[: 5 << 20] + b"another end"
DIGEST = hashlib.sha256(LARGE).hexdigest()


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    made = Estate(tmp_path, large=2 << 20)
    yield made
    made.close()


def entry(estate: Estate, path: bytes = b"a") -> Entry:
    newest = estate.store.newest("web1", "data")
    assert newest is not None
    return next(entry for entry in estate.store.entries(newest) if entry.path == path)


def rows(estate: Estate, sql: str) -> list[tuple[Any, ...]]:
    with estate.catalog._database.reading() as raw:
        return raw.execute(sql).fetchall()


def forget(estate: Estate, digest: str) -> None:
    with estate.catalog._database.writing() as raw:
        assert raw.execute("DELETE FROM objects WHERE sha256 = ?", (bytes.fromhex(digest),)).rowcount == 1


def renew(estate: Estate, clock: StillClock | None = None) -> None:
    estate.catalog.close()
    estate.catalog = rebuild(estate.catalog_path, estate.store, clock=clock).catalog


def test_the_rows_lead_from_the_content_to_its_list_and_chunks(estate: Estate) -> None:
    estate.pull("web1", "data", {b"a": Content(LARGE)})
    found = entry(estate)
    chunks = estate.store.objects.chunks_of(found)
    (content,) = rows(estate, "SELECT hex(sha256), size, stored_size, public, hex(chunks) FROM objects WHERE part = 0")
    assert content == (DIGEST.upper(), len(LARGE), 0, 1, found.chunks.upper())
    parts = rows(estate, "SELECT lower(hex(sha256)), size, stored_size, public, chunks FROM objects WHERE part = 1")
    places = {part[0]: estate.store.objects.place(part[0]) for part in parts}
    assert set(places) == {found.chunks, *(chunk.sha256 for chunk in chunks)}
    assert all(part[2:] == (places[part[0]].stat().st_size, 0, None) for part in parts)
    named = {(found.chunks.upper(), chunk.sha256.upper()) for chunk in chunks}
    assert set(rows(estate, "SELECT hex(content), hex(chunk) FROM chunks")) == named


def test_the_sum_of_contents_counts_no_part_and_what_is_stored_every_one(estate: Estate) -> None:
    estate.pull("web1", "data", {b"a": Content(LARGE), b"b": Content(OTHER), b"c": Content(b"small")})
    space = estate.catalog.space()
    assert (space.objects, space.size) == (3, len(LARGE) + len(OTHER) + 5)
    files = [path for path in estate.store.objects.path.rglob("*") if path.is_file() and path.name != "writing"]
    assert space.stored_size == sum(path.stat().st_size for path in files)
    assert space.stored_size < len(LARGE) + (3 << 20)


def test_no_host_may_claim_a_part_even_of_a_public_content(estate: Estate) -> None:
    estate.pull("web1", "data", {b"a": Content(LARGE)})
    found = entry(estate)
    chunks = list(estate.store.objects.chunks_of(found))
    claims = [(digest, True) for digest in (DIGEST, found.chunks, *(chunk.sha256 for chunk in chunks))]
    for host in ("web1", "web2"):
        assert estate.catalog.pin_claimable("p", host, claims, share=True) == {DIGEST}
        sizes = {len(LARGE), *(chunk.size for chunk in chunks)}
        assert estate.catalog.claimable_sizes(host, sizes, share=True) == {len(LARGE)}


def test_a_part_that_is_sent_as_a_content_is_one(estate: Estate) -> None:
    estate.pull("web1", "data", {b"a": Content(LARGE, public=False)})
    chunk = estate.store.objects.chunks_of(entry(estate))[0]
    data = estate.store.objects.read(*chunk)
    estate.store.objects._large = len(data)  # so that it is no content in chunks itself
    estate.pull("web2", "data", {b"b": Content(data)})
    assert estate.catalog.pin_claimable("p", "web3", [(chunk.sha256, True)], share=True) == {chunk.sha256}
    assert estate.catalog.space().objects == 2
    before = rows(estate, "SELECT * FROM objects ORDER BY 1")
    renew(estate)
    assert [row[:4] for row in rows(estate, "SELECT * FROM objects ORDER BY 1")] == [row[:4] for row in before]
    assert estate.catalog.space().objects == 2


@pytest.mark.parametrize("which", ["list", "chunk"])
def test_a_content_is_known_while_its_list_and_all_chunks_are(estate: Estate, which: str) -> None:
    estate.pull("web1", "data", {b"a": Content(LARGE)})
    found = entry(estate)
    assert estate.catalog.known({DIGEST}) == {DIGEST: len(LARGE)}
    assert estate.catalog.lists({DIGEST, "ab" * 32}) == {DIGEST: found.chunks}
    forget(estate, found.chunks if which == "list" else estate.store.objects.chunks_of(found)[1].sha256)
    assert estate.catalog.known({DIGEST}) == {}
    estate.pull("web1", "other", {b"a": Content(LARGE)})  # sent again
    assert estate.catalog.known({DIGEST}) == {DIGEST: len(LARGE)}


def test_a_content_that_is_cut_differently_keeps_its_list_while_that_is_whole(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    estate.pull("web1", "data", {b"a": Content(LARGE)})
    first = entry(estate)
    monkeypatch.setattr(cutting, "SMALLEST", 512 << 10)  # as a later version may
    monkeypatch.setattr(cutting, "AVERAGE", 2 << 20)
    estate.pull("web1", "data", {b"b": Content(LARGE)})
    assert entry(estate, b"b").chunks == first.chunks
    assert rows(estate, "SELECT DISTINCT lower(hex(content)) FROM chunks") == [(first.chunks,)]
    forget(estate, estate.store.objects.chunks_of(first)[1].sha256)
    estate.pull("web1", "data", {b"c": Content(LARGE)})
    assert entry(estate, b"c").chunks != first.chunks
    assert estate.catalog.known({DIGEST}) == {DIGEST: len(LARGE)}
    for name in (b"a", b"c"):
        assert estate.store.objects.read_entry(entry(estate, name)) == LARGE


@pytest.mark.parametrize("rebuilt", [False, True])
def test_snapshots_that_name_different_lists_of_one_content_all_stay_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rebuilt: bool
) -> None:
    clock = StillClock()
    clock.time = time.time()
    estate = Estate(tmp_path, clock, large=2 << 20)
    estate.pull("web1", "data", {b"a": Content(LARGE)})
    first = entry(estate)
    forget(estate, estate.store.objects.chunks_of(first)[1].sha256)  # damaged for a while
    monkeypatch.setattr(cutting, "SMALLEST", 512 << 10)
    monkeypatch.setattr(cutting, "AVERAGE", 2 << 20)
    estate.pull("web1", "data", {b"b": Content(LARGE)})
    assert entry(estate, b"b").chunks != first.chunks
    if rebuilt:
        renew(estate, clock)
    for _ in range(3):
        estate.collect()
        clock.time += 2 * 86400
    for name in (b"a", b"b"):
        assert estate.store.objects.read_entry(entry(estate, name)) == LARGE
    estate.pull("web1", "data", {b"a": None, b"b": None, b"c": Content(b"small")})
    estate.prune("web1", "data", 1, 2)
    for _ in range(3):
        estate.collect()
        clock.time += 2 * 86400
    assert rows(estate, "SELECT * FROM lists UNION ALL SELECT * FROM chunks") == []
    assert len(list(estate.store.objects.path.glob("??/*"))) == 1
    estate.close()


@pytest.mark.parametrize("first", ["whole", "chunks"])
def test_a_rebuild_knows_a_content_as_one_object_and_in_chunks(tmp_path: Path, first: str) -> None:
    clock = StillClock()
    clock.time = time.time()
    estate = Estate(tmp_path, clock, large=2 << 20 if first == "chunks" else 1 << 30)
    estate.pull("web1", "data", {b"a": Content(LARGE)})
    forget(estate, DIGEST)  # damaged for a while
    estate.store.objects._large = 1 << 30 if first == "chunks" else 2 << 20
    estate.pull("web2", "data", {b"b": Content(LARGE)})
    renew(estate, clock)
    for _ in range(3):
        estate.collect()
        clock.time += 2 * 86400
    for host in ("web1", "web2"):
        newest = estate.store.newest(host, "data")
        assert newest is not None
        contents = [estate.store.objects.read_entry(each) for each in estate.store.entries(newest) if each.sha256]
        assert contents == [LARGE]
    estate.close()


def test_no_host_may_claim_a_content_that_is_not_whole(estate: Estate) -> None:
    estate.pull("web1", "data", {b"a": Content(LARGE)})
    forget(estate, estate.store.objects.chunks_of(entry(estate))[1].sha256)
    for host in ("web1", "web2"):
        assert estate.catalog.pin_claimable("p", host, [(DIGEST, True)], share=True) == set()


def test_what_a_pull_relies_on_is_pinned_as_it_is_looked_up(estate: Estate) -> None:
    estate.pull("web1", "data", {b"a": Content(LARGE)})
    chunk = estate.store.objects.chunks_of(entry(estate))[1].sha256
    assert set(estate.catalog.pin_known("p", {chunk, "ab" * 32})) == {chunk}
    assert set(rows(estate, "SELECT pull, lower(hex(sha256)) FROM pins")) == {("p", chunk), ("p", "ab" * 32)}
    assert estate.catalog.pin_known("p", {DIGEST}) == {DIGEST: len(LARGE)}
    forget(estate, chunk)
    assert estate.catalog.pin_known("p", {DIGEST}) == {}


def test_a_rebuilt_catalog_has_the_same_contents_lists_and_chunks(estate: Estate) -> None:
    estate.pull("web1", "data", {b"a": Content(LARGE), b"c": Content(b"small")})
    estate.pull("web1", "data", {b"a": Content(OTHER, public=False)})
    estate.pull("web2", "data", {b"a": Content(LARGE, claimed=True)})

    def known() -> tuple[Any, ...]:
        objects = rows(estate, "SELECT sha256, size, stored_size, public, chunks, part FROM objects ORDER BY 1")
        return (
            objects,
            rows(estate, "SELECT * FROM chunks ORDER BY 1, 2"),
            rows(estate, "SELECT * FROM sent ORDER BY 1, 3"),
        )

    before = known()
    renew(estate)
    assert known() == before


@pytest.mark.parametrize("which", ["list", "chunk", "list damaged"])
def test_a_rebuild_does_not_know_a_content_that_is_not_whole(estate: Estate, which: str) -> None:
    estate.pull("web1", "data", {b"a": Content(LARGE), b"c": Content(b"small")})
    found = entry(estate)
    chunk = estate.store.objects.chunks_of(found)[1].sha256
    place = estate.store.objects.place(chunk if which == "chunk" else found.chunks)
    if which == "list damaged":
        place.chmod(0o600)
        place.write_bytes(b"rubbish")
    else:
        place.unlink()
    renew(estate)
    assert estate.catalog.known({DIGEST, chunk if which == "chunk" else found.chunks}) == {}
    assert estate.catalog.known({hashlib.sha256(b"small").hexdigest()})
    estate.pull("web1", "other", {b"a": Content(LARGE)})
    assert estate.catalog.known({DIGEST}) == {DIGEST: len(LARGE)}
    assert estate.store.objects.read_entry(found) == LARGE
