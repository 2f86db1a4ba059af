"""POSIX ACLs in the kernel's form: as text, as `setfacl`, GNU tar and bsdtar read them, and without names. Pure."""

from __future__ import annotations

import struct
from typing import Final

_VERSION: Final = 2
_ENTRY: Final = struct.Struct("<HHI")
_TAGS: Final = {0x01: "user", 0x02: "user", 0x04: "group", 0x08: "group", 0x10: "mask", 0x20: "other"}
_WITH_ID: Final = frozenset({0x02, 0x08})


def as_text(value: bytes) -> str:
    """`user::rw-,user:12345:r--,group::r--,mask::r--,other::---`; ValueError for what is no ACL."""
    if len(value) < 4 or (len(value) - 4) % _ENTRY.size or struct.unpack_from("<I", value)[0] != _VERSION:
        raise ValueError("not an ACL in the form of version 2")
    lines = []
    for tag, rights, number in _ENTRY.iter_unpack(value[4:]):
        if tag not in _TAGS or rights > 7:
            raise ValueError("an ACL with an unknown entry")
        whom = str(number) if tag in _WITH_ID else ""
        letters = "".join(letter if rights & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))
        lines.append(f"{_TAGS[tag]}:{whom}:{letters}")
    return ",".join(lines)


def unnamed(value: bytes) -> bytes:
    """`value` without what it says of single users and groups; the mask stays, so the owning group gets no more.

    Whom it denied something gets what the group or all others have: where that counts is the target's mode, 0700.
    """
    if not is_one(value):
        return value  # whoever sets it refuses it
    return value[:4] + b"".join(
        _ENTRY.pack(*entry) for entry in _ENTRY.iter_unpack(value[4:]) if entry[0] not in _WITH_ID
    )


def is_one(value: bytes) -> bool:
    """Whether it has a text."""
    try:
        as_text(value)
    except ValueError:
        return False
    return True
