"""What an agent may list, and what ends the listing."""

from __future__ import annotations

from collections import deque

import pytest
from pyrsyncbackup.v1 import agent_pb2 as pb
from pyrsyncbackup_collector.entry import order
from pyrsyncbackup_collector.errors import AgentMisbehaved
from pyrsyncbackup_collector.transport.listing import EntryReader, hashed
from pyrsyncbackup_collector.transport.offer import ErrorKind, Root

ROOTS = [Root(1, b"a"), Root(2, b"etc", frozenset({b"hosts"}))]
FILE, DIR, LINK, FIFO, CHAR = 1, 2, 3, 4, 6


def entry(path: bytes, kind: int = FILE, root: int = 1, **more) -> pb.Entry:
    return pb.Entry(path=path, type=kind, root=root, **more)


def read(*entries: pb.Entry):
    return EntryReader(ROOTS).whole(entries)


A = entry(b"a", DIR)


def test_a_tree_is_read_in_order():
    paths = [b"a", b"a/b", b"a/b/c", b"a/b/c!", b"a/b!", b"a/b.d", b"a/c", b"etc", b"etc/hosts"]
    kinds = {b"a": DIR, b"a/b": DIR, b"etc": DIR}
    roots = {b"etc": 0, b"etc/hosts": 2}
    listed = read(*(entry(path, kinds.get(path, FILE), roots.get(path, 1)) for path in paths))
    assert [item.entry.path for item in listed] == sorted(paths, key=order) == paths


def test_a_listing_goes_on_over_messages():
    reader = EntryReader(ROOTS)
    reader.whole([A, entry(b"a/b", DIR)])
    assert reader.whole([entry(b"a/b/c"), entry(b"a/d")])[1].entry.path == b"a/d"


@pytest.mark.parametrize(
    "entries",
    [
        [entry(b"a/b")],  # no parent
        [A, entry(b"a/b"), entry(b"a/b/c")],  # below a file
        [A, entry(b"a/b", LINK, target=b"/etc"), entry(b"a/b/c")],  # below a link
        [A, entry(b"a/c"), entry(b"a/b")],
        [A, entry(b"a/b"), entry(b"a/b")],
        [A, entry(b"a/b", DIR), entry(b"a/c"), entry(b"a/b/d")],  # back into a directory that was left
        [A, A],
        [entry(b"/a", DIR)],
        [entry(b"", DIR)],
        [A, entry(b"a/", DIR)],
        [A, entry(b"a//b")],
        [A, entry(b"a/.")],
        [A, entry(b"a/..", DIR)],
        [entry(b"..", DIR, 0)],
        [A, entry(b"a/b\0")],
        [A, entry(b"a/" + b"x" * 256)],
        [A, entry(b"a/b", 99)],
        [A, entry(b"a/b", 0)],  # unknown without an error
        [A, entry(b"a/b", mode=0o10000)],
        [A, entry(b"a/b", mtime_ns=10**9)],
        [A, entry(b"a/b", size=2**63)],
        [A, entry(b"a/b", LINK)],  # without target
        [A, entry(b"a/b", LINK, target=b"x\0")],
        [A, entry(b"a/b", LINK, target=b"x" * 40000)],
        [A, entry(b"a/b", link_to=b"a/c")],  # later
        [A, entry(b"a/b", link_to=b"a/b")],
        [A, entry(b"a/b", link_to=b"../x")],
        [A, entry(b"a/b", DIR, link_to=b"a")],
        [A, entry(b"a/b", xattrs=[pb.Xattr(name=b"", value=b"")])],
        [A, entry(b"a/b", xattrs=[pb.Xattr(name=b"user.x", value=b"x" * 65537)])],
        [A, entry(b"a/b", root=7)],  # a root that is not there
        [A, entry(b"a/b", root=2)],  # of another root
        [A, entry(b"a/b", DIR, root=0)],  # root 0 is above the roots only
        [entry(b"z", DIR, 0)],
        [entry(b"etc", DIR, 0), entry(b"etc/shadow", root=2)],  # not among the names
        [entry(b"etc", DIR, 0), entry(b"etc/shadow", root=1)],
    ],
)
def test_what_no_honest_agent_lists_ends_the_listing(entries):
    with pytest.raises(AgentMisbehaved):
        read(*entries)


def test_rare_entries_come_whole():
    listed = read(
        A,
        entry(b"a/b", user=b"www\x1b[1m", link_to=b"a/a", size=3),
        entry(b"a/c", CHAR, device_major=1, device_minor=3),
        entry(b"a/d", LINK, target=b"\xff"),
        entry(b"a/e", xattrs=[pb.Xattr(name=b"user.b", value=b"2"), pb.Xattr(name=b"user.a", value=b"\0")]),
        entry(b"a/f", 0, error=pb.EntryError(kind=1, message="no\x1b[2J")),
        entry(b"a/g\xff", public=True, token=5, mtime_s=-(2**40), size=2**63 - 1),
    )
    _, hard, device, link, attributes, unread, odd = (item.entry for item in listed)
    assert (hard.link_to, hard.user, hard.size) == (b"a/a", "www\\x1b[1m", 3)
    assert device.rdev == (1, 3)
    assert link.target == b"\xff"
    assert list(attributes.xattrs) == ["user.a", "user.b"]
    assert (listed[5].error, unread.type, unread.error) == (ErrorKind.DENIED, "unknown", "no\\x1b[2J")
    assert (odd.path, odd.public, odd.mtime_s, listed[6].token) == (b"a/g\xff", True, -(2**40), 5)


def test_sixty_levels_of_long_names_pass():
    paths = [b"a"]
    for _ in range(60):
        paths.append(paths[-1] + b"/" + b"x" * 255)
    assert len(read(*(entry(path, DIR) for path in paths))) == 61


def test_digests_answer_what_was_asked():
    good = pb.FileHash(path=b"a/b", sha256=bytes(32), size=1, token=2)
    gone = pb.FileHash(path=b"a/c", error=pb.EntryError(kind=2, message="gone"))
    one, two = hashed([good, gone], deque([b"a/b", b"a/c"]))
    assert (one.sha256, two.error, two.message) == ("00" * 32, ErrorKind.VANISHED, "gone")
    for answers, asked in (
        ([good], []),
        ([good], [b"a/x"]),
        ([pb.FileHash(path=b"a/b", sha256=b"short")], [b"a/b"]),
    ):
        with pytest.raises(AgentMisbehaved):
            hashed(answers, deque(asked))


def test_an_entry_that_is_too_young_for_its_token_arrives_as_such():
    reader = EntryReader(ROOTS)
    link = entry(b"a/c", LINK, target=b"b", young=True, token=9)
    listed = reader.whole([A, entry(b"a/b", young=True, token=8), link, entry(b"a/d", token=7)])
    assert [(item.token, item.young) for item in listed[1:]] == [(8, True), (9, True), (7, False)]
