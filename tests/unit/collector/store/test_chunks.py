"""Lists of chunks: what is written is read back, and what is absurd is refused, in bounded memory."""

from __future__ import annotations

import hashlib
import io
from itertools import islice, repeat

import pytest
from pyrsyncbackup_collector.errors import StoreDamaged
from pyrsyncbackup_collector.store.chunks import LEAST, MOST, ChunkList, read_chunks

ONE, TWO = (hashlib.sha256(content).digest() for content in (b"one", b"two"))


def made(*sizes: int) -> ChunkList:
    chunks = ChunkList()
    for number, size in enumerate(sizes):
        chunks.append((ONE, TWO)[number % 2], size)
    return chunks


def line(sha256: object = ONE.hex(), size: object = LEAST) -> bytes:
    return f'{{"sha256":"{sha256}","size":{size}}}\n'.encode()


def test_a_list_is_one_json_object_a_line() -> None:
    assert made(LEAST, 7).encode() == line() + line(TWO.hex(), 7)


@pytest.mark.parametrize("sizes", [(1,), (LEAST, 1), (MOST, LEAST, LEAST), (LEAST,) * 1000])
def test_a_list_comes_back(sizes: tuple[int, ...]) -> None:
    chunks = made(*sizes)
    found = read_chunks(io.BytesIO(chunks.encode()), "it", sum(sizes))
    assert list(found) == list(chunks)
    assert (len(found), found.size) == (len(sizes), sum(sizes))


def test_a_position_is_found_in_its_chunk() -> None:
    chunks = made(LEAST, LEAST + 1, 5)
    positions = (0, LEAST - 1, LEAST, 2 * LEAST, 2 * LEAST + 1, 2 * LEAST + 5, 2 * LEAST + 6)
    assert [chunks.find(position) for position in positions] == [0, 0, 1, 1, 2, 2, 3]
    assert [chunks.start(number) for number in range(3)] == [0, LEAST, 2 * LEAST + 1]


def test_fields_of_later_versions_are_skipped() -> None:
    text = line().replace(b"}", b',"level":3}')
    assert len(read_chunks(io.BytesIO(text), "it", LEAST)) == 1


@pytest.mark.parametrize(
    "text",
    [
        b"\n",
        b"\0" * 5000,
        b"[]\n",
        line(size='"1"'),
        line(size=-1),
        line(size=0),
        line(size=1.5),
        line(size=MOST + 1),
        line(size=10**30),
        line(sha256="ab" * 31),
        line(sha256="AB" * 32),
        line(sha256=" " + "ab" * 32),
        line(sha256="../" * 21 + "a"),
        line(size=LEAST - 1) + line(),  # only the last may be small
        line() + line(),  # more than the content
        line(size=LEAST - 1),  # less
        b"",
    ],
)
def test_an_absurd_list_is_refused_and_named(text: bytes) -> None:
    with pytest.raises(StoreDamaged, match=r"^object x"):
        read_chunks(io.BytesIO(text), "object x", LEAST)


def test_an_endless_list_is_read_no_further_than_its_content() -> None:
    class Endless(io.RawIOBase):
        lines = 0

        def readline(self, _: int | None = -1) -> bytes:
            self.lines += 1
            return line()

    source = Endless()
    with pytest.raises(StoreDamaged, match="line 11"):
        read_chunks(source, "it", 10 * LEAST)  # type: ignore[arg-type]
    assert source.lines == 11
    with pytest.raises(StoreDamaged, match="line 1:"):
        read_chunks(io.BytesIO(b"".join(islice(repeat(b"{" * 100), 100))), "it", 10 * LEAST)
