"""Headers of a tar archive by value."""

from __future__ import annotations

import io
import struct
import tarfile

import pytest
from pyrsyncbackup_collector import entry
from pyrsyncbackup_collector.store import acl, pax

from tests.support.tree import make


def read(member: pax.Member) -> tarfile.TarInfo:
    """As Python's own tarfile reads it."""
    with tarfile.open(fileobj=io.BytesIO(pax.header(member) + bytes(10_240)), mode="r:") as archive:
        found = archive.next()
    assert found is not None
    return found


def test_a_plain_entry_needs_no_extended_header() -> None:
    header = pax.header(pax.Member(make(b"etc/hosts", mtime_s=5, uid=1, gid=2, user="root", group="wheel"), 0o644))
    assert len(header) == pax.BLOCK
    found = read(pax.Member(make(b"etc/hosts", mtime_s=5, uid=1, gid=2, user="root", group="wheel"), 0o640, size=0))
    assert (found.name, found.mode, found.mtime, found.uid, found.gid) == ("etc/hosts", 0o640, 5, 1, 2)
    assert (found.uname, found.gname) == ("root", "wheel")


@pytest.mark.parametrize(
    ("seconds", "nanoseconds", "text"),
    [
        (5, 1, "5.000000001"),
        (-1, 999_999_999, "-0.000000001"),
        (-2, 500_000_000, "-1.500000000"),
        (-7, 0, "-7"),
        (2**40, 0, str(2**40)),
    ],
)
def test_times_are_decimal_fractions(seconds: int, nanoseconds: int, text: str) -> None:
    found = read(pax.Member(make(b"x", mtime_s=seconds, mtime_ns=nanoseconds), 0))
    assert found.pax_headers["mtime"] == text


@pytest.mark.parametrize("length", [1, 99, 100, 101, 255, 256, 980, 990, 1000, 9_980, 9_990, 30_000])
def test_names_of_any_length_come_back(length: int) -> None:
    path = b"/".join([b"d" * 200] * (length // 201) + [b"n" * (length % 201 or 1)])
    assert read(pax.Member(make(path), 0)).name == path.decode()
    assert read(pax.Member(make(b"l", entry.SYMLINK, target=path), 0)).linkname == path.decode()


def test_what_the_old_header_cannot_hold_is_in_the_extended_one() -> None:
    large = make(b"x", uid=2**31, gid=2**32 - 2, user="ü" * 20, group="g" * 40)
    found = read(pax.Member(large, 0, size=2**40, xattrs={"user.a=b%": b"1\n=\0"}))
    assert (found.uid, found.gid, found.size, found.uname, found.gname) == (
        2**31,
        2**32 - 2,
        2**40,
        "ü" * 20,
        "g" * 40,
    )
    assert found.pax_headers["SCHILY.xattr.user.a%3Db%25"] == "1\n=\0"


def test_an_acl_becomes_text() -> None:
    value = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *each)
        for each in ((1, 6, 2**32 - 1), (2, 4, 12345), (4, 5, 2**32 - 1), (16, 7, 2**32 - 1), (32, 0, 2**32 - 1))
    )
    assert acl.as_text(value) == "user::rw-,user:12345:r--,group::r-x,mask::rwx,other::---"
    for wrong in (b"", b"\1\0\0\0", value[:-1], value[:4] + struct.pack("<HHI", 3, 0, 0)):
        with pytest.raises(ValueError, match="ACL"):
            acl.as_text(wrong)
