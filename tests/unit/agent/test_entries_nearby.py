"""A working directory of the thread's own: what it reads, who sees it, and what happens where there is none."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest
from pyrsyncbackup_agent import entries
from pyrsyncbackup_agent.entries import nearby
from pyrsyncbackup_agent.entries.attributes import change_token
from pyrsyncbackup_agent.modules import Root
from pyrsyncbackup_agent.patterns import Rules


def test_other_threads_and_the_time_after_see_the_working_directory_of_before(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    before = Path.cwd()
    seen: list[Path] = []

    def work() -> None:
        fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
        with nearby.inside(fd) as base:
            seen.append(Path(f"/proc/{os.getpid()}/cwd").readlink())
            assert os.lstat(base + b"f").st_ino == (tmp_path / "f").stat().st_ino
        os.close(fd)
        seen.append(Path.cwd())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before, before]
    assert Path.cwd() == before


def test_the_listing_is_the_same_where_the_system_refuses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.symlink("nowhere", tmp_path / "link")
    for name in ("-", "a b", "f"):
        (tmp_path / name).write_text("x")
    os.setxattr(tmp_path / "f", "user.note", b"text")
    (tmp_path / "g").hardlink_to(tmp_path / "f")

    def found() -> dict[bytes, entries.Entry]:
        return {entry.path: entry._replace(stat=None) for entry in entries.walk([Root(1, prefix[:-1])], Rules())}

    prefix = os.fsencode(tmp_path)[1:] + b"/"
    usual = found()
    assert usual[prefix + b"link"].target == b"nowhere"
    assert (b"user.note", b"text") in usual[prefix + b"f"].xattrs
    assert usual[prefix + b"g"].link_to == prefix + b"f"
    assert not any(entry.problem for entry in usual.values())
    monkeypatch.setattr(nearby, "_is_private", lambda: False)
    assert found() == usual


def test_large_attributes_are_held_a_few_at_a_time_and_the_fingerprint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        (tmp_path / f"{number}").touch()
        os.setxattr(tmp_path / f"{number}", "user.note", b"x" * 100)
    (tmp_path / "3-directory").mkdir()
    roots = [Root(1, os.fsencode(tmp_path)[1:])]
    usual = [entry.path for entry in entries.walk(roots, Rules())]
    monkeypatch.setattr(sys.modules[entries.Walk.__module__], "HELD_BYTES", 150)
    walk = entries.walk(roots, Rules())
    assert [entry.path for entry in walk] == usual
    assert walk.fingerprint == entries.fingerprint(roots, Rules())


def test_tokens_differ_for_neighbours_in_inode_and_time_and_are_never_zero() -> None:
    times = [1_790_000_000_000_000_000 + step * tick for step in range(50) for tick in (1, 4_000_000, 10**9)]
    inodes = [*range(2, 60), 1 << 32, (1 << 64) - 1]
    pairs = {(inode, time) for inode in inodes for time in times}
    tokens = {change_token(inode, time) for inode, time in pairs}
    assert len(tokens) == len(pairs)
    assert all(0 < token < 1 << 64 for token in tokens)
    assert change_token(0, 0) == 1
    assert 0 < change_token(5, -1) < 1 << 64
