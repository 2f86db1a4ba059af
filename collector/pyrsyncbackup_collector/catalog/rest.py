"""Two numbers for what an entry has and the catalog has no column for: `rest` for what people see, `mark` for more.

The catalog tells by them that owner, attributes, link or target changed, not to what: that is in the manifests. Where
all columns are equal the entries are. The numbers are keyed with the store's id, which no host knows, so that none can
look for two states with one number.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

import msgspec

from pyrsyncbackup_collector.entry import SYMLINK, Entry

# Of a symbolic link or device: what stands for its content lies above the metadata.
CONTENT_SHIFT: Final = 32
METADATA: Final = (1 << CONTENT_SHIFT) - 1
# What most files take on disk, of blocks of this size.
_BLOCK: Final = 4096
# SQLite keeps up to 31 bits in four bytes, and 0 in none.
_MASK: Final = (1 << 31) - 1


def rest(entry: Entry, key: bytes) -> int:
    """31 bits for target and device numbers, above 31 bits for owner, group, attributes and hard link."""
    owner = (entry.uid, entry.user, entry.gid, entry.group)
    if entry.xattrs or entry.link_to_text or entry.link_to_b64:
        number = _digest((*owner, sorted(entry.xattrs.items()), entry.link_to), key)
    else:
        number = _of_owner(owner, key)
    if entry.target_text or entry.target_b64 or entry.rdev != (0, 0):
        number |= _digest((entry.target, entry.rdev), key) << CONTENT_SHIFT
    return number


def mark(entry: Entry, key: bytes) -> int:
    """31 bits for what no comparison shows: space on disk, chunks, the words of an error; 0 for whole blocks alone."""
    usual = 0 if entry.type == SYMLINK else -(-entry.size // _BLOCK) * _BLOCK
    if entry.allocated == usual and not entry.chunks and not entry.error:
        return 0
    return _of_hidden((entry.allocated, entry.chunks, entry.error), key)


@lru_cache(maxsize=4096)
def _of_owner(owner: tuple[int, str, int, str], key: bytes) -> int:
    return 0 if owner == (0, "root", 0, "root") else _digest(owner, key)


@lru_cache(maxsize=4096)
def _of_hidden(hidden: tuple[int, str, str], key: bytes) -> int:
    return _digest(hidden, key) or 1


def _digest(value: object, key: bytes) -> int:
    data = hashlib.blake2b(msgspec.msgpack.encode(value), digest_size=4, key=key).digest()
    return int.from_bytes(data) & _MASK
