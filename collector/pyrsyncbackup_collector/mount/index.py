"""The entries of one snapshot, held so that any of them is found at once and five million of them fit into memory.

They stay in the order of the manifest, in compressed blocks; a search goes over the blocks' first paths, then through
one block. Nothing here knows of stores or of FUSE.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

import msgspec
import zstandard

from pyrsyncbackup_collector.entry import DIRECTORY, Entry, order

# Decoded as a whole for one entry: small enough for that, large enough to compress well.
BLOCK: Final = 512
# Blocks that stay decoded: a walk through a tree asks for its neighbours again and again.
DECODED: Final = 64

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)


class Found(NamedTuple):
    """An entry and its place among all of its snapshot, from 0."""

    entry: Entry
    position: int


class _Block(NamedTuple):
    keys: list[bytes]
    entries: list[Entry]


class Index:
    """The entries of a snapshot, by path. Any number of threads may ask."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        """Take `entries` in the order of a manifest."""
        self._first: list[bytes] = []
        self._blocks: list[bytes] = []
        self._names: Counter[bytes] = Counter()
        self._count = 0
        self._decoded: OrderedDict[int, _Block] = OrderedDict()
        self._lock = threading.Lock()
        compressor = zstandard.ZstdCompressor(level=1)
        source = iter(entries)
        while block := list(islice(source, BLOCK)):
            self._first.append(order(block[0].path))
            # Copied: what the compressor returns keeps hold of the room for the largest result that there could be.
            self._blocks.append(bytes(bytearray(compressor.compress(_encoder.encode_lines(block)))))
            self._count += len(block)
            self._names.update(entry.link_to for entry in block if entry.link_to)

    def __len__(self) -> int:
        return self._count

    def get(self, path: bytes) -> Found | None:
        """The entry of that path; None if there is none."""
        key = order(path)
        position = self._position(key)
        if position < self._count and self._key(position) == key:
            return Found(self._entry(position), position)
        return None

    def children(self, path: bytes) -> Iterator[Found]:
        """What lies directly in the directory of that path, in order; b"" is the top."""
        prefix = order(path) + b"\0" if path else b""
        position = self._position(prefix)
        while position < self._count and (key := self._key(position)).startswith(prefix):
            entry = self._entry(position)
            yield Found(entry, position)
            # All that lies below it begins with its key and a zero.
            position = self._position(key + b"\1") if entry.type == DIRECTORY else position + 1

    def names(self, entry: Entry) -> int:
        """How many names of this snapshot are the same inode as an entry that is no directory."""
        return 1 + self._names[entry.link_to or entry.path]

    def _position(self, key: bytes) -> int:
        """The place of the first entry whose key is not lower."""
        number = bisect_right(self._first, key) - 1
        if number < 0:
            return 0
        return number * BLOCK + bisect_left(self._block(number).keys, key)

    def _key(self, position: int) -> bytes:
        return self._block(position // BLOCK).keys[position % BLOCK]

    def _entry(self, position: int) -> Entry:
        return self._block(position // BLOCK).entries[position % BLOCK]

    def _block(self, number: int) -> _Block:
        with self._lock:
            if found := self._decoded.get(number):
                self._decoded.move_to_end(number)
                return found
        entries = _decoder.decode_lines(zstandard.ZstdDecompressor().decompress(self._blocks[number]))
        block = _Block([order(entry.path) for entry in entries], entries)
        with self._lock:
            self._decoded[number] = block
            if len(self._decoded) > DECODED:
                self._decoded.popitem(last=False)
        return block
