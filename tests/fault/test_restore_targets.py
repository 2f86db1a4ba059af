"""Targets that are full, read-only, or cannot hold a name: said in a line, and nothing is written anywhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.entry import DIRECTORY, FIFO, SYMLINK, Entry
from pyrsyncbackup_collector.errors import RestoreError
from pyrsyncbackup_collector.store.archive import write_archive
from pyrsyncbackup_collector.store.archive_file import archive_file
from pyrsyncbackup_collector.store.overwrite import Overwrite
from pyrsyncbackup_collector.store.restore import restore
from pyrsyncbackup_collector.store.restore_report import Reason
from pyrsyncbackup_collector.store.tar import TarWriter

from tests.support.tree import Contents, comparable, make, read

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")

ME = {"uid": os.geteuid(), "gid": os.getegid(), "mode": 0o644}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def some(contents: Contents, count: int, size: int) -> list:
    made = []
    for number in range(count):
        data = os.urandom(size)
        path = b"%04d" % number
        made.append(make(path, sha256=contents.add(data), size=size, allocated=size, mtime_s=number, **ME))
    return made


def large(contents: Contents) -> Entry:
    size = 9_000_000
    return make(b"large", sha256=contents.add(os.urandom(size)), size=size, allocated=size, mtime_s=1, **ME)


@pytest.mark.parametrize(("count", "size"), [(1500, 4000), (3, 2_000_000)])
def test_a_full_disk_ends_a_restore_which_goes_on_when_there_is_room(
    disk: Path, tmp_path: Path, count: int, size: int
) -> None:
    contents = Contents()
    entries = some(contents, count, size)
    with pytest.raises(RestoreError, match="No space left on device") as full:
        restore(entries, contents, disk / "out")
    assert "goes on" in full.value.hint
    whole = {path.name for path in (disk / "out").iterdir() if not path.name.startswith(".pyrsyncbackup")}
    assert 0 < len(whole) < count
    assert all((disk / "out" / name).stat().st_size == size for name in whole), "no half a file"

    subprocess.run(["mount", "-o", "remount,size=32m", disk], check=True)
    report = restore(entries, contents, disk / "out")
    assert report.same == len(whole)
    assert report.complete
    assert comparable(read(disk / "out", Contents())) == comparable(entries)


def test_a_full_disk_in_the_middle_of_a_large_file_ends_a_restore(disk: Path) -> None:
    contents = Contents()
    entries = [*some(contents, 2, 1000), large(contents)]
    with pytest.raises(RestoreError, match="cannot restore large: No space left on device"):
        restore(entries, contents, disk / "out")
    assert not (disk / "out" / "large").exists()
    subprocess.run(["mount", "-o", "remount,size=32m", disk], check=True)
    assert restore(entries, contents, disk / "out").same == 2
    assert comparable(read(disk / "out", Contents())) == comparable(entries)


@pytest.mark.parametrize(("count", "size"), [(3, 2_000_000), (2, 9_000_000)])
def test_a_full_disk_leaves_no_half_an_archive(disk: Path, count: int, size: int) -> None:
    contents = Contents()
    with pytest.raises(RestoreError, match="No space left on device"), archive_file(disk / "out.tar") as sink:
        write_archive(some(contents, count, size), contents, TarWriter(sink))
    assert os.listdir(disk) == []


def test_a_read_only_target_is_said(disk: Path) -> None:
    contents = Contents()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(RestoreError, match="Read-only file system"):
        restore(some(contents, 1, 1), contents, disk)
    with pytest.raises(RestoreError, match="Read-only file system"):
        restore(some(contents, 1, 1), contents, disk / "new")
    with pytest.raises(RestoreError, match="Read-only file system"), archive_file(disk / "out.tar"):
        pytest.fail("it was opened")


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Path]:
    """A file system for Windows: no colons, no names that are not text, no owners and no modes."""
    image, place = tmp_path / "image", tmp_path / "narrow"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ntfs", "-F", "-Q", image], check=True, capture_output=True)
    mount = ["mount", "-t", "ntfs-3g", "-o", "loop,windows_names,umask=077", image, place]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.skipif(not shutil.which("ntfs-3g"), reason="needs ntfs-3g")
def test_names_that_the_target_cannot_hold_are_told_and_the_rest_is_there(narrow: Path) -> None:
    target = narrow / "out"
    contents = Contents()
    names = [b"a:colon", b"bytes \xff", b"end.", b"plain", "zürich".encode()]
    entries = [make(name, sha256=contents.add(name), size=len(name), allocated=4096, **ME) for name in names]

    report = restore(entries, contents, target)

    assert {path.name: path.read_text() for path in target.iterdir()} == {"plain": "plain", "zürich": "zürich"}
    told = {path: each.reason for each in report.shortfalls for path, _ in each.examples if each.reason.missing}
    assert told == dict.fromkeys((b"a:colon", b"bytes \xff", b"end."), Reason.FAILED)
    assert not report.complete


@pytest.fixture
def stick(tmp_path: Path) -> Iterator[Path]:
    """What comes from a shop: exFAT, where README and readme are one name, without links, owners and special files."""
    image, place = tmp_path / "image", tmp_path / "stick"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.exfat", image], check=True, capture_output=True)
    made = subprocess.run(["losetup", "-f", "--show", image], check=True, capture_output=True, text=True)
    device = made.stdout.strip()
    try:
        mount = ["mount.exfat-fuse", "-o", "umask=077", device, place]
        subprocess.run(mount, check=True, capture_output=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


exfat = pytest.mark.skipif(
    not shutil.which("mount.exfat-fuse") or not shutil.which("mkfs.exfat"), reason="needs exfat-fuse and exfatprogs"
)


@exfat
def test_a_target_without_links_and_special_files_takes_all_others(stick: Path) -> None:
    contents = Contents()
    names = (b"README", b"first", b"readme", b"second")
    entries = [make(name, sha256=contents.add(name), size=len(name), allocated=4096, **ME) for name in names]
    entries[3] = make(b"second", sha256=contents.add(b"first"), size=5, allocated=4096, link_to=b"first", **ME)
    entries += [make(b"fifo", FIFO, **ME), make(b"link", SYMLINK, target=b"README", **ME)]
    entries.sort(key=lambda entry: entry.path)

    report = restore(entries, contents, stick / "out", check=lambda: entries)

    assert {path.name: path.read_bytes() for path in (stick / "out").iterdir()} == {
        "README": b"README",
        "first": b"first",
        "second": b"first",
    }
    told = {path: each.reason for each in report.shortfalls for path, _ in each.examples if each.reason.missing}
    assert told == {b"fifo": Reason.FAILED, b"link": Reason.FAILED, b"readme": Reason.EXISTS}
    again = restore(entries, contents, stick / "out")
    assert not again.counts, "nothing was replaced"


@exfat
def test_two_names_that_the_target_takes_for_one_never_replace_each_other(stick: Path) -> None:
    contents = Contents()
    entries = [make(name, sha256=contents.add(name), size=6, allocated=4096, **ME) for name in (b"README", b"readme")]
    (stick / "out").mkdir()
    (stick / "out" / "ReadMe").write_text("there before\n")
    for _ in range(2):
        report = restore(entries, contents, stick / "out", overwrite=Overwrite.ALWAYS)
        assert [path.read_text() for path in (stick / "out").iterdir()] == ["README"]
        (lost,) = [each for each in report.shortfalls if each.reason.missing]
        assert lost.line() == (
            "1 entry: already there, kept as before (the file system takes its name for that of another entry): readme"
        )


@exfat
@pytest.mark.parametrize("there", [False, True])
def test_two_directories_that_the_target_takes_for_one_are_not_made_one(stick: Path, there: bool) -> None:
    contents = Contents()
    entries = []
    for name in (b"Dir", b"dir"):
        entries += [make(name, DIRECTORY, **(ME | {"mode": 0o700}))]
        entries += [make(name + b"/one", sha256=contents.add(name), size=3, allocated=4096, **ME)]
    if there:
        (stick / "out").mkdir()
        (stick / "out" / "DIR").mkdir()
    for _ in range(2):
        report = restore(entries, contents, stick / "out", overwrite=Overwrite.ALWAYS)
        assert (stick / "out" / "Dir" / "one").read_text() == "Dir"
        lost = {path: each.reason for each in report.shortfalls for path, _ in each.examples if each.reason.missing}
        assert lost == {b"dir": Reason.EXISTS, b"dir/one": Reason.BELOW}


def test_names_that_differ_in_case_alone_are_two_where_they_may(tmp_path: Path) -> None:
    contents = Contents()
    entries = [make(name, sha256=contents.add(name), size=6, allocated=4096, **ME) for name in (b"README", b"readme")]
    for _ in range(2):
        report = restore(entries, contents, tmp_path / "out", overwrite=Overwrite.ALWAYS)
        assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
            "README": "README",
            "readme": "readme",
        }
        assert report.complete


@exfat
def test_an_archive_goes_onto_a_target_without_links(stick: Path) -> None:
    contents = Contents()
    with archive_file(stick / "out.tar") as sink:
        write_archive(some(contents, 2, 5000), contents, TarWriter(sink))
    assert os.listdir(stick) == ["out.tar"]
    with pytest.raises(RestoreError, match="is there already"), archive_file(stick / "out.tar"):
        pytest.fail("it was opened")
