"""The list of the chunks that make up a large content: its form as an object, and which lists are sound.

Decides nothing about where contents are cut (`cutting`), nor how they are read (`assembly`).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, NamedTuple

import msgspec

from pyrsyncbackup_collector.errors import StoreDamaged

# What a reader accepts, whoever cut: every chunk but the last has so many bytes at least, and every one at most. So a
# list has a bounded length for its content, and a chunk a bounded place in memory.
LEAST: Final = 64 << 10
MOST: Final = 16 << 20
# Longer than any line of ours, with room for fields of later versions.
_MAX_LINE: Final = 4096
_DIGEST: Final = 32


class Chunk(NamedTuple):
    """One chunk: the SHA-256 of what it holds (hexadecimal), and its size in bytes."""

    sha256: str
    size: int


class _Line(msgspec.Struct, frozen=True):
    sha256: str
    size: int


_line = msgspec.json.Decoder(_Line)
_encoder = msgspec.json.Encoder()


class ChunkList:
    """Chunks in the order of the content: 40 bytes of memory each, a TiB has a million."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._ends = array("Q")

    @property
    def size(self) -> int:
        """Bytes of the whole content."""
        return self._ends[-1] if self._ends else 0

    def append(self, digest: bytes, size: int) -> None:
        """Add a chunk by its digest (32 bytes)."""
        self._ends.append(self.size + size)
        self._digests += digest

    def __len__(self) -> int:
        """How many chunks."""
        return len(self._ends)

    def __getitem__(self, number: int) -> Chunk:
        """Chunk `number`, from 0."""
        digest = self._digests[number * _DIGEST : (number + 1) * _DIGEST]
        return Chunk(digest.hex(), self._ends[number] - self.start(number))

    def __iter__(self) -> Iterator[Chunk]:
        """All chunks; one that is there twice comes twice."""
        return map(self.__getitem__, range(len(self)))

    def start(self, number: int) -> int:
        """Where in the content chunk `number` begins."""
        return self._ends[number - 1] if number else 0

    def find(self, position: int) -> int:
        """The number of the chunk that holds the byte at `position`; the number of chunks past the end."""
        return bisect_right(self._ends, position)

    def encode(self) -> bytes:
        """The list as the content of an object: one JSON object a line, `sha256` and `size`."""
        return _encoder.encode_lines([_Line(*chunk) for chunk in self])


@dataclass(frozen=True, slots=True)
class Piece:
    """An object that a content in chunks needs: digest, size of what it holds, size of its file, in bytes."""

    sha256: bytes
    size: int
    stored_size: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """A content that lies in the store as chunks: the object that lists them, and their files' sizes (bytes)."""

    list: Piece
    chunks: ChunkList
    stored_sizes: array[int]

    def pieces(self) -> Iterator[Piece]:
        """The chunks, in order."""
        for chunk, stored_size in zip(self.chunks, self.stored_sizes, strict=True):
            yield Piece(bytes.fromhex(chunk.sha256), chunk.size, stored_size)


def read_chunks(source: BinaryIO, place: str, size: int) -> ChunkList:
    """The list in `source`, read to its end; it must make up `size` bytes. `place` names it in StoreDamaged."""
    chunks = ChunkList()
    last = MOST
    while line := source.readline(_MAX_LINE):
        try:
            found = _line.decode(line)
            digest = bytes.fromhex(found.sha256)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as fault:
            raise StoreDamaged(f"{place}, line {len(chunks) + 1}: not a chunk: {fault}") from None
        if len(digest) != _DIGEST or digest.hex() != found.sha256:
            raise StoreDamaged(f"{place}, line {len(chunks) + 1}: not a digest")
        if not 0 < found.size <= MOST or last < LEAST or chunks.size + found.size > size:
            raise StoreDamaged(f"{place}, line {len(chunks) + 1}: no chunk of this content has {found.size} bytes")
        chunks.append(digest, found.size)
        last = found.size
    if chunks.size != size:
        raise StoreDamaged(f"{place} lists {chunks.size} bytes, not {size}")
    return chunks
