"""The plain tree beside the store: what it shows, what it never holds, and that it comes back after a kill."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector import entry
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.store import mirror
from pyrsyncbackup_collector.store.restore_report import Reason
from pyrsyncbackup_collector.store.snapshot import Change, Snapshot

from tests.support.estate import Content, Estate
from tests.support.tree import make


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    estate = Estate(tmp_path)
    yield estate
    estate.close()


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def update(estate: Estate, snapshot: Snapshot, where: Path):
    return mirror.update(estate.store, snapshot, where)


def test_a_mirror_follows_its_module(estate: Estate, tmp_path: Path) -> None:
    where, tree = tmp_path / "mirror", tmp_path / "mirror" / "web1" / "etc"
    first = estate.pull(
        "web1", "etc", {b"etc/a": Content(b"1"), b"etc/b/c": Content(b"2"), b"etc/gone/x": Content(b"")}
    )
    assert update(estate, first, where).complete
    assert files(tree) == {"etc/a": b"1", "etc/b/c": b"2", "etc/gone/x": b""}
    assert update(estate, first, where) is None
    kept = (tree / "etc" / "a").stat()

    second = estate.pull("web1", "etc", {b"etc/gone/x": None, b"etc/b/c": Content(b"22"), b"etc/new": Content(b"3")})
    report = update(estate, second, where)
    assert files(tree) == {"etc/a": b"1", "etc/b/c": b"22", "etc/new": b"3"}
    assert (report.removed, report.counts["file"]) == (1, 2), "only what changed is written"
    assert (tree / "etc" / "a").stat().st_ino == kept.st_ino
    assert mirror.shown(where, "web1", "etc") == mirror.Stamp(second.name, second.digest)


def test_what_somebody_did_to_the_tree_is_undone_at_the_next_update(estate: Estate, tmp_path: Path) -> None:
    where, tree = tmp_path / "mirror", tmp_path / "mirror" / "web1" / "etc"
    contents = {b"etc/a": Content(b"1"), b"etc/b": Content(b"2"), b"etc/d/x": Content(b"4")}
    update(estate, estate.pull("web1", "etc", contents), where)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("victim")
    (tree / "etc" / "a").unlink()
    (tree / "etc" / "a").mkdir()
    (tree / "etc" / "a" / "deep").mkdir()
    (tree / "etc" / "a" / "deep" / "file").touch()
    (tree / "etc" / "b").unlink()
    (tree / "etc" / "b").symlink_to(outside / "victim")
    (tree / "etc" / "d" / "x").unlink()
    (tree / "etc" / "d").rmdir()
    (tree / "etc" / "d").symlink_to(outside)
    (tree / "stranger").symlink_to(outside)

    update(estate, estate.pull("web1", "etc", {b"etc/c": Content(b"3")}), where)

    assert files(tree) == {"etc/a": b"1", "etc/b": b"2", "etc/c": b"3", "etc/d/x": b"4"}
    assert not (tree / "stranger").exists()
    assert files(outside) == {"victim": b"victim"}


def test_a_mirror_holds_neither_devices_nor_rights(estate: Estate, tmp_path: Path) -> None:
    snapshot = estate.pull("web1", "etc", {b"etc/program": Content(b"x")})
    program = next(each for each in estate.store.entries(snapshot) if each.path == b"etc/program")
    odd: list[Entry] = [
        make(b"etc/device", entry.CHARACTER_DEVICE, rdev=(1, 3), mode=0o666),
        make(b"etc/fifo", entry.FIFO, mode=0o666),
        make(b"etc/link", entry.SYMLINK, target=b"/etc/shadow"),
        make(b"etc/program", mode=0o4001, uid=12345, size=1, sha256=program.sha256, xattrs={"user.x": b"1"}),
        make(b"etc/secret", entry.DIRECTORY, mode=0o000),
        make(b"etc/secret/x", mode=0o000, size=1, sha256=program.sha256),
        make(b"etc/tmp", entry.DIRECTORY, mode=0o1777),
    ]
    changes = [Change(each.path, each) for each in odd]
    second = estate.store.commit("web1", "etc", time=1.79e9, state="complete", changes=changes, previous=snapshot)

    update(estate, second, tmp_path / "mirror")

    tree = tmp_path / "mirror" / "web1" / "etc" / "etc"
    assert sorted(os.listdir(tree)) == ["link", "program", "secret", "tmp"]
    assert os.readlink(tree / "link") == "/etc/shadow"
    modes = {name: stat.S_IMODE((tree / name).stat().st_mode) for name in ("program", "secret", "secret/x", "tmp")}
    assert modes == {"program": 0o601, "secret": 0o700, "secret/x": 0o600, "tmp": 0o755}
    assert (tree / "program").stat().st_uid == os.geteuid()
    assert os.listxattr(tree / "program") == []


_CHILD = """
import os, signal, sys
from pathlib import Path
from pyrsyncbackup_collector.store import mirror
from pyrsyncbackup_collector.store.store import Store

count = 0
def told(entries, size):
    global count
    count += 1
    if count == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

with Store.open(Path(sys.argv[1])) as store:
    mirror.update(store, store.newest("web1", "etc"), Path(sys.argv[2]), told=told)
"""


@pytest.mark.parametrize("after", [3, 12, 19])
def test_an_update_that_was_killed_goes_on(estate: Estate, tmp_path: Path, after: int) -> None:
    where = tmp_path / "mirror"
    old = {b"etc/d%d/f%d" % (n % 3, n): Content(b"old %d" % n) for n in range(20)}
    update(estate, estate.pull("web1", "etc", old), where)
    new = {path: Content(b"new" + content.data[3:]) for path, content in old.items() if path[-1:] in b"13579"}
    middle = estate.pull("web1", "etc", new)
    killed = subprocess.run([sys.executable, "-c", _CHILD, tmp_path / "store", where, str(after)])
    assert killed.returncode == -signal.SIGKILL
    assert mirror.shown(where, "web1", "etc").becoming == middle.digest

    # Back to what it was: same sizes and times as what the killed one may have written.
    last = estate.pull("web1", "etc", {path: old[path] for path in new})
    update(estate, last, where)

    assert files(where / "web1" / "etc") == {os.fsdecode(path): content.data for path, content in old.items()}
    assert mirror.shown(where, "web1", "etc") == mirror.Stamp(last.name, last.digest)


def test_a_damaged_content_is_missing_and_told_and_the_rest_is_there(estate: Estate, tmp_path: Path) -> None:
    snapshot = estate.pull("web1", "etc", {b"etc/a": Content(b"1"), b"etc/b": Content(b"2")})
    damaged = next(each for each in estate.store.entries(snapshot) if each.path == b"etc/a")
    estate.store.objects.place(damaged.sha256).unlink()
    report = update(estate, snapshot, tmp_path / "mirror")
    assert not report.complete
    assert mirror.shown(tmp_path / "mirror", "web1", "etc").missing == 1
    assert files(tmp_path / "mirror" / "web1" / "etc") == {"etc/b": b"2"}


def test_what_was_missing_is_there_after_the_next_update_of_the_same_snapshot(estate: Estate, tmp_path: Path) -> None:
    where = tmp_path / "mirror"
    update(estate, estate.pull("web1", "etc", {b"etc/a": Content(b"1"), b"etc/b": Content(b"2")}), where)
    second = estate.pull("web1", "etc", {b"etc/a": Content(b"3")})
    place = estate.store.objects.place(hashlib.sha256(b"3").hexdigest())
    place.rename(tmp_path / "away")
    assert [each.reason for each in mirror.lacking(update(estate, second, where))] == [Reason.DAMAGED]
    (tmp_path / "away").rename(place)
    # It has size, time and mode of what should be there, and yet is of the snapshot before.
    assert files(where / "web1" / "etc") == {"etc/a": b"1", "etc/b": b"2"}

    assert mirror.lacking(update(estate, second, where)) == []

    assert files(where / "web1" / "etc") == {"etc/a": b"3", "etc/b": b"2"}
    assert update(estate, second, where) is None


def test_what_could_not_be_read_on_the_host_is_not_missing_in_the_mirror(estate: Estate, tmp_path: Path) -> None:
    secret = Change(b"secret", make(b"secret", size=5, error="permission denied"))
    snapshot = estate.store.commit("web1", "etc", time=1.79e9, state="complete", changes=[secret], previous=None)
    assert not update(estate, snapshot, tmp_path / "mirror").complete
    assert mirror.shown(tmp_path / "mirror", "web1", "etc").is_whole(snapshot.digest)
