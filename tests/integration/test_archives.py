"""Archives of a tree with everything in it, taken apart by programs that know nothing of us."""

from __future__ import annotations

import gc
import io
import os
import stat
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from pyrsyncbackup_collector import entry
from pyrsyncbackup_collector.errors import RestoreError, StoreDamaged
from pyrsyncbackup_collector.store.archive import write_archive
from pyrsyncbackup_collector.store.archive_file import archive_file
from pyrsyncbackup_collector.store.restore_report import Reason
from pyrsyncbackup_collector.store.tar import TarWriter
from pyrsyncbackup_collector.store.zip import ZipWriter

from tests.support import tree, zoo
from tests.support.comparison import as_mtree, as_rsync_sees

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and capabilities need root")

EXTRACT = {
    "GNU tar": ["tar", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-xpf"],
    "bsdtar": ["bsdtar", "--acls", "--xattrs", "--numeric-owner", "-xpf"],
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source")
    zoo.build(root / "zoo")
    # No archive holds a socket; `link` is the first name of a hard link that is a link.
    os.unlink(root / "zoo" / "special" / "socket")
    return root


def archived(source: Path, archive: Path, *, special: bool = True):
    contents = tree.Contents()
    entries = list(tree.read(source, contents))
    with open(archive, "wb") as file:
        return write_archive(entries, contents, TarWriter(file), special=special).report(archive), entries


@needs_root
@pytest.mark.parametrize("program", EXTRACT)
def test_a_zoo_comes_out_of_a_tar_as_it_was(source: Path, tmp_path: Path, program: str) -> None:
    report, entries = archived(source, tmp_path / "zoo.tar")
    assert report.lines() == []
    assert report.entries == len(entries)
    assert (tmp_path / "zoo.tar").stat().st_size < 10_000_000, "holes are not written out"
    (tmp_path / "out").mkdir()
    done = subprocess.run([*EXTRACT[program], "../zoo.tar"], cwd=tmp_path / "out", capture_output=True, text=True)
    harmless = ("in the future", "implausibly old time stamp", "keyword 'hdrcharset'")
    assert [line for line in done.stderr.splitlines() if not any(words in line for words in harmless)] == []
    assert done.returncode == 0
    # libarchive 3.6 reads -86400.000000001 as the nanosecond after, not before, that second.
    odd = "before-1970" if program == "bsdtar" else "nothing"
    assert [line for line in as_rsync_sees(source / "zoo", tmp_path / "out/zoo").splitlines() if odd not in line] == []
    trees = (as_mtree(source / "zoo").splitlines(), as_mtree(tmp_path / "out/zoo").splitlines())
    assert [line for line in trees[1] if odd not in line] == [line for line in trees[0] if odd not in line]


@needs_root
def test_a_tar_without_special_gives_no_rights(source: Path, tmp_path: Path) -> None:
    report, _ = archived(source, tmp_path / "zoo.tar", special=False)
    assert {(each.reason, each.what): each.count for each in report.shortfalls} == {
        (Reason.SPECIAL, "devices"): 2,
        (Reason.SPECIAL, "set-id bits"): 5,
        (Reason.SPECIAL, "file capabilities"): 1,
    }
    with tarfile.open(tmp_path / "zoo.tar") as archive:
        members = archive.getmembers()
    assert [each.name for each in members if each.mode & 0o6000 or (each.isdev() and not each.isfifo())] == []
    assert not any("security.capability" in key for each in members for key in each.pax_headers)


@needs_root
@pytest.mark.parametrize("program", EXTRACT)
def test_paths_longer_than_a_system_call_takes_are_in_a_tar(tmp_path: Path, program: str) -> None:
    zoo.build_too_deep(tmp_path / "deep", levels=14)
    archived(tmp_path / "deep", tmp_path / "deep.tar")
    (tmp_path / "out").mkdir()
    subprocess.run([*EXTRACT[program], "../deep.tar"], cwd=tmp_path / "out", check=True)
    assert as_rsync_sees(tmp_path / "deep", tmp_path / "out") in ("", ".d..t...... ./\n")


def test_a_zip_holds_what_it_can_and_the_rest_is_told(tmp_path: Path) -> None:
    contents = tree.Contents()
    facts = {"mode": 0o640, "uid": 1000, "gid": 1000, "mtime_s": 1_700_000_001}

    def file(path: bytes, content: bytes, **more: object) -> entry.Entry:
        return tree.make(path, sha256=contents.add(content), size=len(content), **{**facts, **more})

    entries = [
        tree.make(b"d", entry.DIRECTORY, **{**facts, "mode": 0o750}),
        file(b"d/big", b"b" * 3_000_000, allocated=4_000_000),
        tree.make(b"d/fifo", entry.FIFO),
        tree.make(b"d/link", entry.SYMLINK, target="zürich".encode()),
        file(b"d/old", b"old", mtime_s=-5),
        file(b"d/same", b"old", link_to=b"d/old"),
        file(b"d/x\xff", b"no text"),
        file("d/zürich".encode(), b"text", xattrs={"user.x": b"1"}),
    ]
    sink = io.BytesIO()
    report = write_archive(entries, contents, ZipWriter(sink)).report(tmp_path)
    told = {path: each.reason for each in report.shortfalls for path, _ in each.examples}
    assert told == {
        b"d/fifo": Reason.CANNOT_HOLD,
        b"d/x\xff": Reason.CANNOT_HOLD,
        b"d/same": Reason.LINK,
        "d/zürich".encode(): Reason.ATTRIBUTE,
    }
    (tmp_path / "a.zip").write_bytes(sink.getvalue())
    subprocess.run(["unzip", "-q", "a.zip"], cwd=tmp_path, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert (tmp_path / "d" / "zürich").read_text() == "text"
    assert os.readlink(tmp_path / "d" / "link") == "zürich"
    assert (tmp_path / "d" / "big").read_bytes() == b"b" * 3_000_000
    assert stat.S_IMODE((tmp_path / "d" / "big").stat().st_mode) == 0o640
    assert (tmp_path / "d" / "big").stat().st_mtime == 1_700_000_001
    assert zipfile.ZipFile(sink).testzip() is None


def test_a_zip_of_many_members_has_a_place_for_each_and_holds_none_of_them(tmp_path: Path) -> None:
    contents, members = tree.Contents(), 2_500
    entries = [tree.make(b"d", entry.DIRECTORY, mode=0o750, mtime_s=1_700_000_000)]
    for number in range(members):
        content = b"%d" % number * (number % 7)
        facts = {"sha256": contents.add(content), "size": len(content), "mode": 0o600 + number % 8, "mtime_s": number}
        entries.append(tree.make(b"d/%05d" % number, **facts))
    with (tmp_path / "a.zip").open("wb") as file:
        writer = ZipWriter(file)
        assert write_archive(entries, contents, writer).report(tmp_path).lines() == []
        assert len(writer._zip.filelist) == members + 1
        assert len(writer._zip.filelist._last) < 1_000
        assert writer._zip.NameToInfo == {}
    subprocess.run(["unzip", "-q", "a.zip"], cwd=tmp_path, check=True)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        assert [each.filename for each in archive.infolist()] == ["d/"] + [f"d/{n:05d}" for n in range(members)]
    for number in range(0, members, 97):
        path = tmp_path / "d" / f"{number:05d}"
        assert path.read_bytes() == b"%d" % number * (number % 7)
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_mtime) == (0o600 + number % 8, number)


class _Rotten(tree.Contents):
    """Streams fail at their end: all, or all but the first for each content."""

    def __init__(self, sound: int) -> None:
        super().__init__()
        self._sound = sound
        self._opened: dict[str, int] = {}

    def open_entry(self, entry_: entry.Entry, *, whole: bool = False):
        count = self._opened[entry_.sha256] = self._opened.get(entry_.sha256, 0) + 1
        stream = super().open_entry(entry_, whole=whole)
        return stream if count <= self._sound else _Failing(stream.read())


class _Failing(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if not data:
            raise StoreDamaged("object 123 is damaged")
        return data


@pytest.mark.parametrize("writer", [TarWriter, ZipWriter])
def test_a_damaged_content_is_left_out_and_the_archive_is_well_formed(writer: type, tmp_path: Path) -> None:
    contents = _Rotten(sound=0)
    big = tree.make(b"big", sha256=contents.add(b"x" * 600_000), size=600_000, allocated=600_000, mode=0o644)
    small = tree.make(b"small", sha256=contents.add(b"s"), size=1, mode=0o644)
    lost = tree.make(b"lost", sha256="00" * 32, size=5, mode=0o644)
    (tmp_path / "a").write_bytes(b"")
    with open(tmp_path / "a", "wb") as sink:
        report = write_archive([big, lost, small], contents, writer(sink)).report(tmp_path)
    assert {path: each.reason for each in report.shortfalls for path, _ in each.examples} == {
        b"big": Reason.DAMAGED,
        b"lost": Reason.DAMAGED,
    }
    listed = subprocess.run(["bsdtar", "-tf", tmp_path / "a"], capture_output=True, text=True, check=True)
    assert (listed.stdout, listed.stderr) == ("small\n", "")


def test_a_content_that_rots_between_proof_and_writing_ends_the_archive(tmp_path: Path) -> None:
    contents = _Rotten(sound=1)
    big = tree.make(b"big", sha256=contents.add(b"x" * 600_000), size=600_000, allocated=600_000, mode=0o644)
    with (
        pytest.raises(RestoreError, match="the archive ends at big"),
        archive_file(tmp_path / "out.tar") as sink,
    ):
        write_archive([big], contents, TarWriter(sink))
    assert os.listdir(tmp_path) == []


def test_a_zip_that_was_not_ended_goes_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", said.append)
    with open("/dev/full", "wb", buffering=0) as sink:
        writer = ZipWriter(sink)
        with pytest.raises(OSError, match="No space left"):
            writer.add(tree.make(b"big", size=600_000, mode=0o644), 0o644, {}, 600_000, [os.urandom(600_000)], None)
    del writer
    gc.collect()
    assert said == []


def test_an_archive_never_replaces_what_is_there_unless_asked_to(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "link").symlink_to("taken")
    (tmp_path / "directory").mkdir()
    for name, replace in (("taken", False), ("link", False), ("link", True), ("directory", True)):
        with (
            pytest.raises(RestoreError, match="is there already"),
            archive_file(tmp_path / name, replace=replace),
        ):
            pytest.fail("it was opened")
    with archive_file(tmp_path / "taken", replace=True) as sink:
        sink.write(b"new")
        assert (tmp_path / "taken").read_text() == "mine"
    assert (tmp_path / "taken").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["directory", "link", "taken"]


def test_a_draft_of_a_killed_run_goes_and_one_of_a_running_one_stays(tmp_path: Path) -> None:
    (tmp_path / ".a.tar.pyrsyncbackup-part").write_text("left over")
    with archive_file(tmp_path / "a.tar") as sink:
        sink.write(b"whole")
        with pytest.raises(RestoreError, match="another run is writing"), archive_file(tmp_path / "a.tar"):
            pytest.fail("it was opened")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.tar": "whole"}
