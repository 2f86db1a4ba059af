"""Large contents lie in chunks: a change costs a few of them, each is an object like any other, damage is named."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import StoreDamaged, StoreError, StoreFull
from pyrsyncbackup_collector.store.objects import Ingested, ObjectStore

CHANCE = random.Random(3)
MIB = 1 << 20
CONTENT = CHANCE.randbytes(14 * MIB) + b"text " * 300_000 + bytes(9 * MIB) + b"end"


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[ObjectStore]:
    (tmp_path / "objects").mkdir()
    store = ObjectStore(tmp_path / "objects", large=2 * MIB)
    yield store
    store.close()


class Rows:
    """A catalog reduced to what an ingest asks; from several threads."""

    def __init__(self, *digests: str) -> None:
        self.digests = set(digests)
        self.asked: list[str] = []

    def __call__(self, sha256: str) -> bool:
        self.asked.append(sha256)
        return sha256 in self.digests

    def add(self, found: Ingested) -> None:
        assert found.chunked
        self.digests |= {chunk.sha256 for chunk in found.chunked.chunks} | {found.chunked.list.sha256.hex()}


def ingest(objects: ObjectStore, content: bytes, relied: Callable[[str], bool] | None = None) -> Ingested:
    with tempfile.TemporaryFile(dir=objects.path.parent) as file:
        file.write(content)
        file.seek(0)
        return objects.ingest(file.fileno(), 1 << 30, relied=relied or Rows())


def entry(content: bytes, found: Ingested) -> Entry:
    assert found.chunked
    sha256 = hashlib.sha256(content).hexdigest()
    return Entry(path_text="f", size=len(content), sha256=sha256, chunks=found.chunked.list.sha256.hex())


def files(objects: ObjectStore) -> dict[str, int]:
    """Every object that lies there, with the inode of its file."""
    found = (path for path in objects.path.rglob("*") if path.is_file() and path.name != "writing")
    return {path.parent.name + path.name: path.stat().st_ino for path in found}


def test_a_large_content_comes_back_from_its_chunks(objects: ObjectStore) -> None:
    found = ingest(objects, CONTENT)
    assert (found.sha256, found.size, found.stored_size) == (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), 0)
    assert not objects.place(found.sha256).exists()
    listed = entry(CONTENT, found)
    with objects.open_entry(listed) as stream:
        assert stream.read() == CONTENT
    assert objects.read_entry(listed) == CONTENT
    assert list(objects.path.rglob(".tmp-*")) == []


def test_each_chunk_is_an_object_like_any_other(objects: ObjectStore) -> None:
    found = ingest(objects, CONTENT)
    assert found.chunked
    for piece in (*found.chunked.pieces(), found.chunked.list):
        place = objects.place(piece.sha256.hex())
        shown = subprocess.run(["zstd", "-dc", place], capture_output=True, check=True).stdout
        assert hashlib.sha256(shown).digest() == piece.sha256
        assert (len(shown), place.stat().st_size) == (piece.size, piece.stored_size)
        assert place.stat().st_mode & 0o777 == 0o400
    assert len(files(objects)) == len({chunk.sha256 for chunk in found.chunked.chunks}) + 1


def test_chunks_have_bounded_sizes_and_make_up_the_content(objects: ObjectStore) -> None:
    found = ingest(objects, CONTENT)
    assert found.chunked
    chunks = objects.chunks_of(entry(CONTENT, found))
    assert list(chunks) == list(found.chunked.chunks)
    sizes = [chunk.size for chunk in chunks]
    assert sum(sizes) == len(CONTENT)
    assert max(sizes) == 4 * MIB
    assert min(sizes[:-1]) >= 256 << 10
    joined = b"".join(objects.read(*chunk) for chunk in chunks)
    assert joined == CONTENT


@pytest.mark.parametrize(
    ("what", "changed"),
    [
        ("a byte", CONTENT[: 7 * MIB] + b"!" + CONTENT[7 * MIB + 1 :]),
        ("inserted at the front", b"in front of it" + CONTENT),
        ("cut out", CONTENT[: 5 * MIB] + CONTENT[5 * MIB + 99 :]),
        ("appended", CONTENT + b"more"),
    ],
)
def test_a_small_change_costs_few_chunks(objects: ObjectStore, what: str, changed: bytes) -> None:
    rows = Rows()
    first = ingest(objects, CONTENT)
    rows.add(first)
    before = files(objects)
    second = ingest(objects, changed, rows)
    after = files(objects)
    assert {digest: after[digest] for digest in before} == before, what  # not one of them was written again
    assert second.chunked
    new = [chunk.size for chunk in second.chunked.chunks if chunk.sha256 not in before]
    assert 0 < len(new) <= 3
    assert objects.read_entry(entry(changed, second)) == changed
    assert objects.read_entry(entry(CONTENT, first)) == CONTENT


def test_a_chunk_without_a_row_is_overwritten_and_one_without_a_file_written(objects: ObjectStore) -> None:
    first = ingest(objects, CONTENT)
    assert first.chunked
    digests = list(dict.fromkeys(chunk.sha256 for chunk in first.chunked.chunks))
    place = objects.place(digests[0])
    place.chmod(0o600)
    place.write_bytes(b"half, after a power loss")
    objects.place(digests[1]).unlink()
    before = files(objects)
    ingest(objects, CONTENT, Rows(*digests[1:]))
    after = files(objects)
    assert after[digests[0]] != before[digests[0]]
    assert objects.read_entry(entry(CONTENT, first)) == CONTENT
    assert [digest for digest in digests[2:] if after[digest] != before[digest]] == []


def test_a_content_that_is_not_the_expected_one_is_named_by_nothing(objects: ObjectStore) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(CONTENT)
        file.seek(0)
        found = objects.ingest(file.fileno(), 1 << 30, expected=lambda: "ab" * 32)
    assert (found.stored_size, found.chunked) == (0, None)
    for digest in files(objects):
        data = zstandard.decompress(objects.place(digest).read_bytes())
        assert b'"sha256"' not in data  # no list


def test_a_large_content_that_lies_there_as_one_object_stays_one(objects: ObjectStore) -> None:
    before = ObjectStore(objects.path)
    old = ingest(before, CONTENT)
    before.close()
    assert old.chunked is None
    listed = Entry(path_text="f", size=len(CONTENT), sha256=old.sha256)
    with tempfile.TemporaryFile() as file:
        file.write(CONTENT)
        file.seek(0)
        again = objects.ingest(file.fileno(), 1 << 30, known=lambda digest: digest == old.sha256)
    assert again == old
    assert objects.read_entry(listed) == CONTENT
    with objects.open_entry(listed) as stream:
        assert stream.read() == CONTENT


def test_any_part_can_be_read_in_any_order(objects: ObjectStore) -> None:
    with objects.open_entry(entry(CONTENT, ingest(objects, CONTENT))) as reader:
        assert reader.seekable()
        for _ in range(60):
            begin = CHANCE.randrange(len(CONTENT) + 1000)
            size = CHANCE.choice([1, 4096, 70_000, 3 * MIB])
            reader.seek(begin)
            assert reader.read(size) == CONTENT[begin : begin + size]
        assert reader.seek(-10, os.SEEK_END) == len(CONTENT) - 10
        assert reader.read() == CONTENT[-10:]
        reader.seek(0)
        assert reader.read() == CONTENT


def test_a_part_is_read_from_its_chunks_alone(objects: ObjectStore) -> None:
    found = ingest(objects, CONTENT)
    assert found.chunked
    chunks = list(found.chunked.chunks)
    for chunk in chunks[3:]:
        objects.place(chunk.sha256).unlink(missing_ok=True)
    listed = entry(CONTENT, found)
    with objects.open_entry(listed) as reader:
        reader.seek(chunks[0].size + 5)
        assert reader.read(100) == CONTENT[chunks[0].size + 5 :][:100]


DAMAGES: list[tuple[str, Callable[[Path, Path], object], str]] = [
    ("removed", lambda place, _: place.unlink(), "is missing"),
    ("truncated", lambda place, _: os.truncate(place, place.stat().st_size - 9), "is damaged"),
    ("empty", lambda place, _: os.truncate(place, 0), "is damaged"),
    ("swapped", lambda place, other: place.write_bytes(other.read_bytes()), "is damaged"),
    ("a bomb", lambda place, _: place.write_bytes(zstandard.compress(bytes(100 * MIB))), "is damaged"),
]


@pytest.mark.parametrize(("how", "words"), [case[1:] for case in DAMAGES], ids=[case[0] for case in DAMAGES])
@pytest.mark.parametrize("which", ["a chunk", "the list"])
def test_what_is_damaged_is_named(
    objects: ObjectStore, how: Callable[[Path, Path], object], words: str, which: str
) -> None:
    found = ingest(objects, CONTENT)
    assert found.chunked
    chunks = list(found.chunked.chunks)
    listed = entry(CONTENT, found)
    digest = chunks[2].sha256 if which == "a chunk" else listed.chunks
    place = objects.place(digest)
    place.chmod(0o600)
    how(place, objects.place(chunks[0].sha256))
    got = 0
    with pytest.raises(StoreDamaged, match=digest) as raised, objects.open_entry(listed) as stream:  # noqa: PT012
        while block := stream.read(100_000):
            assert block == CONTENT[got : got + len(block)]
            got += len(block)
    assert got <= sum(chunk.size for chunk in chunks[:2])
    if which == "a chunk":
        assert words in raised.value.cause


def test_sound_chunks_that_make_up_another_content_are_not_taken_for_it(objects: ObjectStore) -> None:
    first, other = ingest(objects, CONTENT), ingest(objects, CONTENT[:-1] + b"!")
    assert other.chunked
    forged = Entry(size=len(CONTENT), sha256=first.sha256, chunks=other.chunked.list.sha256.hex())
    with pytest.raises(StoreDamaged, match=f"{first.sha256} are sound, but make up another content"):
        objects.read_entry(forged)


def test_read_as_a_whole_it_is_right_or_its_end_names_what_is_damaged(objects: ObjectStore, tmp_path: Path) -> None:
    found = ingest(objects, CONTENT)
    assert found.chunked
    chunks = list(found.chunked.chunks)
    with objects.open_entry(entry(CONTENT, found), whole=True) as stream:
        assert not stream.seekable()
        assert stream.read() == CONTENT
        assert stream.read(10) == b""
    # Another frame of the same size, sound in itself: its digest alone tells.
    place = objects.place(chunks[2].sha256)
    place.rename(tmp_path / "away")
    wrong = bytes(chunks[2].size)
    place.write_bytes(zstandard.ZstdCompressor(write_checksum=True, write_content_size=True).compress(wrong))
    with (
        objects.open_entry(entry(CONTENT, found), whole=True) as stream,
        pytest.raises(StoreDamaged, match=f"{chunks[2].sha256} is damaged: its content has another digest"),
    ):
        stream.read()
    place.write_bytes(b"rotten")
    with (
        objects.open_entry(entry(CONTENT, found), whole=True) as stream,
        pytest.raises(StoreDamaged, match=f"{chunks[2].sha256} is damaged"),
    ):
        stream.read()
    (tmp_path / "away").rename(place)
    other = ingest(objects, CONTENT[:-1] + b"!")
    assert other.chunked
    forged = Entry(size=len(CONTENT), sha256=found.sha256, chunks=other.chunked.list.sha256.hex())
    with (
        objects.open_entry(forged, whole=True) as stream,
        pytest.raises(StoreDamaged, match=f"{found.sha256} are sound, but make up another content"),
    ):
        stream.read()


def test_a_file_that_changes_while_it_is_cut_is_refused(objects: ObjectStore) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(CONTENT)
        file.seek(50)
        with pytest.raises(StoreError, match="changed while"):
            objects.ingest(file.fileno(), 1 << 30)
        file.seek(0)

        def grow(_: str) -> bool:
            os.pwrite(file.fileno(), b"more", os.fstat(file.fileno()).st_size)
            return False

        with pytest.raises(StoreError, match="changed while"):
            objects.ingest(file.fileno(), 1 << 30, relied=grow)


def test_a_store_that_is_full_in_the_middle_ends_it_in_both_threads(
    objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = threading.Semaphore(6)
    real = os.write

    def write(file: int, data: bytes) -> int:
        if not writes.acquire(blocking=False):
            raise OSError(errno.ENOSPC, "full")
        return real(file, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(StoreFull):
            ingest(objects, CONTENT)
    assert list(objects.path.rglob(".tmp-*")) == []
    assert len(files(objects)) == 6
    assert objects.read_entry(entry(CONTENT, ingest(objects, CONTENT))) == CONTENT


def test_many_threads_may_cut_at_a_time(objects: ObjectStore) -> None:
    contents = [CONTENT[n * 1000 :] for n in range(4)]
    done: dict[int, Ingested] = {}
    threads = [
        threading.Thread(target=lambda n=n, c=c: done.update({n: ingest(objects, c)})) for n, c in enumerate(contents)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, content in enumerate(contents):
        assert objects.read_entry(entry(content, done[number])) == content
