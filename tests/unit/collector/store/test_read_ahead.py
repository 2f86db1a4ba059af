"""Contents read by another thread: the same ones, faults where they belong, and nothing left running."""

from __future__ import annotations

import threading

import pytest
from pyrsyncbackup_collector.errors import StoreDamaged
from pyrsyncbackup_collector.store.read_ahead import ReadAhead

from tests.support.tree import Contents, make


def test_each_entry_finds_its_own_content() -> None:
    contents = Contents()
    entries = [make(b"%04d" % n, sha256=contents.add(b"%d" % (n % 90)), size=len(b"%d" % (n % 90))) for n in range(300)]
    entries[77] = make(b"0077", sha256="00" * 32, size=3)
    # A size that is not that of its content, beside one of the same digest that is right.
    entries[80] = make(b"0080", sha256=entries[170].sha256, size=1000)
    ahead = ReadAhead(contents)
    try:
        for number, entry in enumerate(ahead.over(entries)):
            assert entry is entries[number]
            if number in (77, 80):
                with pytest.raises(StoreDamaged):
                    ahead.read_entry(entry)
            else:
                assert ahead.read_entry(entry) == contents.by_digest[entry.sha256]
    finally:
        ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read ahead")]


def test_a_large_content_comes_whole_and_its_fault_too() -> None:
    contents = Contents()
    data = bytes(range(256)) * 20_000
    whole = make(b"a", sha256=contents.add(data), size=len(data))
    missing = make(b"b", sha256="00" * 32, size=len(data))
    ahead = ReadAhead(contents)
    try:
        assert b"".join(ahead.pieces(whole)) == data
        with pytest.raises(StoreDamaged):
            list(ahead.pieces(missing))
        begun = ahead.pieces(whole)
        next(begun)
        begun.close()  # type: ignore[attr-defined]
        assert b"".join(ahead.pieces(whole)) == data, "the thread that nobody listened to is free again"
    finally:
        ahead.close()


def test_one_that_is_closed_in_the_middle_of_a_content_ends() -> None:
    contents = Contents()
    data = bytes(range(256)) * 40_000
    ahead = ReadAhead(contents)
    begun = ahead.pieces(make(b"a", sha256=contents.add(data), size=len(data)))
    # Held by whoever keeps the error that ended all, as a traceback does.
    next(begun)
    ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read ahead")]
    begun.close()  # type: ignore[attr-defined]
