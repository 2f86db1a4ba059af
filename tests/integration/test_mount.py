"""The past as a file system of the kernel, looked at with the programs that administrators use."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.entry import CHARACTER_DEVICE, DIRECTORY, SYMLINK, UNKNOWN, Entry, order
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.objects import Ingested
from pyrsyncbackup_collector.store.snapshot import Change
from pyrsyncbackup_collector.store.store import Store

from tests.support import tree, zoo
from tests.support.comparison import as_mtree, as_rsync_sees
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices of what is mounted need root")
TIME = 1_790_000_000.0


class Mounted:
    """A store with what tests commit to it, and the command that shows it at `top`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.top = folder, folder / "past"
        self.top.mkdir()
        Store.create(folder / "store")
        self.store = Store.open(folder / "store", lock=True)
        self.process: subprocess.Popen[str] | None = None
        lines = {"store": "store", "catalog": "catalog.sqlite", "state": "state", "runtime": "run"}
        text = "".join(f'{key} = "{folder / name}"\n' for key, name in lines.items())
        (folder / "collector.toml").write_text(text)

    def add(self, content: bytes) -> Ingested:
        path = self.folder / "content"
        path.write_bytes(content)
        with path.open("rb") as file:
            return self.store.objects.ingest(file.fileno(), 1 << 30)

    def commit(self, host: str, source: Path) -> list[Entry]:
        """A snapshot of module `files` that holds what `source` does now."""
        entries = list(tree.read(source, self))
        previous = self.store.newest(host, "files")
        before = {each.path for each in self.store.entries(previous)} if previous else set()
        changes = [Change(each.path, each) for each in entries]
        changes += [Change(path, None) for path in before - {each.path for each in entries}]
        changes.sort(key=lambda change: change.path.replace(b"/", b"\0"))
        self.store.commit(host, "files", time=TIME, state="complete", changes=changes, previous=previous)
        return entries

    def mount(self) -> None:
        argv = [sys.executable, "-m", "pyrsyncbackup_collector", "mount", str(self.top)]
        configuration = ["--config", str(self.folder / "collector.toml")]
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen([*argv, *configuration], stdout=log, stderr=log, text=True)
        until(lambda: self.top.is_mount() or self.process.poll() is not None, what="it to be mounted")  # type: ignore[union-attr]
        assert self.top.is_mount(), self.said()

    def said(self) -> str:
        return (self.folder / "log").read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.end()
        if self.top.is_mount() or not os.access(self.top, os.F_OK):
            subprocess.run(["umount", "-l", str(self.top)], check=True)
        self.store.close()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    with contextlib.closing(Mounted(tmp_path)) as made:
        yield made


def test_a_zoo_looks_as_it_did(mounted: Mounted, tmp_path: Path) -> None:
    source = tmp_path / "zoo"
    zoo.build(source)
    mounted.commit("web1", source)
    mounted.mount()
    result = mounted.top / "web1" / "files" / "latest"
    # The top itself is nobody's entry.
    shown = as_rsync_sees(source, result)
    assert [line for line in shown.splitlines() if not line.endswith(" ./")] == []
    assert _without_top(as_mtree(source)) == _without_top(as_mtree(result))


def _without_top(mtree: str) -> list[str]:
    return [line for line in mtree.splitlines() if not line.startswith(". ")]


def test_ls_grep_diff_find_and_cp_work_on_the_past(mounted: Mounted, tmp_path: Path) -> None:
    source = tmp_path / "etc"
    (source / "nginx").mkdir(parents=True)
    (source / "nginx" / "nginx.conf").write_text("worker_processes 2;\n")
    (source / "hosts").write_text("127.0.0.1 localhost\n")
    mounted.commit("web1", source)
    (source / "nginx" / "nginx.conf").write_text("worker_processes 8;\n")
    (source / "hosts").unlink()
    mounted.commit("web1", source)
    mounted.commit("web2", source)
    mounted.mount()

    def run(*argv: str, code: int = 0) -> str:
        done = subprocess.run(argv, cwd=mounted.top, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (code, ""), argv
        return done.stdout

    old, new = sorted(path.name for path in (mounted.top / "web1" / "files").iterdir() if not path.is_symlink())
    assert run("ls").split() == ["web1", "web2"]
    assert run("readlink", "web1/files/latest") == f"{new}\n"
    assert run("diff", "-r", f"web1/files/{old}", f"web1/files/{new}", code=1).splitlines() == [
        f"Only in web1/files/{old}: hosts",
        f"diff -r web1/files/{old}/nginx/nginx.conf web1/files/{new}/nginx/nginx.conf",
        *("1c1", "< worker_processes 2;", "---", "> worker_processes 8;"),
    ]
    assert run("diff", "-r", "web1/files/latest/", "web2/files/latest/") == ""
    assert sorted(run("grep", "-rl", "processes 8").split()) == [
        f"web1/files/{new}/nginx/nginx.conf",
        f"web2/files/{old}/nginx/nginx.conf",
    ]
    assert run("find", "-name", "hosts") == f"./web1/files/{old}/hosts\n"
    run("cp", "-a", "web1/files/latest/", str(tmp_path / "copy"))
    assert (tmp_path / "copy" / "nginx" / "nginx.conf").read_text() == "worker_processes 8;\n"


def test_nothing_can_be_written(mounted: Mounted, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "hosts").write_text("x")
    mounted.commit("web1", tmp_path / "etc")
    mounted.mount()
    inside = mounted.top / "web1" / "files" / "latest"
    for work in (
        lambda: (inside / "hosts").write_text("y"),
        lambda: (inside / "new").write_text("y"),
        lambda: (inside / "hosts").unlink(),
        lambda: (inside / "hosts").chmod(0o777),
        lambda: (mounted.top / "web3").mkdir(),
    ):
        with pytest.raises(OSError, match="Read-only file system"):
            work()


def test_a_large_content_is_read_at_any_place(mounted: Mounted, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    content = os.urandom(1 << 20) * 40
    (tmp_path / "data" / "large").write_bytes(content)
    mounted.commit("db1", tmp_path / "data")
    mounted.mount()
    with (mounted.top / "db1" / "files" / "latest" / "large").open("rb", buffering=0) as file:
        for place in (39 << 20, 5, 20 << 20, (40 << 20) - 3, 0):
            file.seek(place)
            assert file.read(100_000) == content[place : place + 100_000]


def test_what_is_damaged_is_an_io_error_with_a_line_that_says_why(mounted: Mounted, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "good").write_text("good")
    (tmp_path / "etc" / "bad").write_text("bad")
    entries = {entry.path: entry for entry in mounted.commit("web1", tmp_path / "etc")}
    place = mounted.store.objects.place(entries[b"bad"].sha256)
    place.chmod(0o600)
    place.write_bytes(b"rotten")
    mounted.mount()
    inside = mounted.top / "web1" / "files" / "latest"
    assert (inside / "good").read_text() == "good"
    with pytest.raises(OSError, match="Input/output error"):
        (inside / "bad").read_text()
    assert mounted.end() == 0
    assert f"object {entries[b'bad'].sha256} is damaged" in mounted.said()
    assert "Traceback" not in mounted.said()


def test_new_snapshots_appear_and_an_unreadable_one_does_not_hide_the_others(mounted: Mounted, tmp_path: Path) -> None:
    source = tmp_path / "etc"
    source.mkdir()
    for number in range(3):
        (source / "hosts").write_text(str(number))
        mounted.commit("web1", source)
    directory = layout.module_directory(mounted.store.path, "web1", "files")
    damaged = sorted(directory.glob("000002-*.zst"))[0]
    damaged.write_bytes(b"no manifest")
    mounted.mount()
    module = mounted.top / "web1" / "files"
    names = sorted(path.name for path in module.iterdir())
    assert len(names) == 4
    with pytest.raises(OSError, match="Input/output error"):
        list((module / names[1]).iterdir())
    assert (module / names[0] / "hosts").read_text() == "0"
    assert (module / names[2] / "hosts").read_text() == "2"


def test_odd_entries_are_shown_as_far_as_can_be_and_stop_nothing(mounted: Mounted) -> None:
    """What a host can send and no file system could hold."""
    digest = mounted.add(b"x").sha256
    odd = b"new\nline \x1b[2J"
    entries = [
        tree.make(b"d", DIRECTORY, mode=0o755),
        tree.make(b"d/" + odd, size=1, sha256=digest, mtime_s=2**62, mtime_ns=999_999_999),
        tree.make(b"d/device", CHARACTER_DEVICE, rdev=(2**40, 2**40)),
        tree.make(b"d/early", size=1, sha256=digest, mtime_s=-(2**62)),
        tree.make(b"d/huge", size=2**63 - 1, sha256=digest, allocated=2**63 - 1),
        tree.make(b"d/larger", size=2**63, sha256=digest),
        tree.make(b"d/link", SYMLINK, target=b"t" * 9000, size=9000),
        tree.make(b"d/named", size=1, sha256=digest, xattrs={"user." + "n" * 200: b"v", "user.large": b"v" * 200_000}),
        tree.make(b"d/owner", size=1, sha256=digest, uid=2**32 - 1, gid=2**32 - 1),
        tree.make(b"d/unknown", UNKNOWN, error="no"),
    ]
    changes = [Change(each.path, each) for each in sorted(entries, key=lambda each: order(each.path))]
    mounted.store.commit("web1", "files", time=TIME, state="partial", changes=changes, previous=None)
    mounted.mount()
    top = os.fsencode(mounted.top / "web1" / "files" / "latest" / "d")
    assert sorted(os.listdir(top)) == sorted(entry.path[2:] for entry in entries[1:])
    results = {}
    for name in os.listdir(top):
        with contextlib.suppress(OSError):
            results[name] = os.lstat(top + b"/" + name)
    assert results[odd].st_mtime == 2**62
    assert results[b"huge"].st_size == 2**63 - 1
    assert stat.S_ISREG(results[b"unknown"].st_mode)
    assert Path(os.fsdecode(top + b"/early")).read_bytes() == b"x"
    with pytest.raises(OSError, match="Input/output error"):
        os.readlink(top + b"/link")
    assert os.getxattr(top + b"/named", "user." + "n" * 200) == b"v"
    for refused in (b"huge", b"unknown"):
        with pytest.raises(OSError, match=r"Input/output error|No data available"):
            Path(os.fsdecode(top + b"/" + refused)).read_bytes()
    assert mounted.end() == 0
    assert "Traceback" not in mounted.said()
    assert "\x1b" not in mounted.said()


def test_a_deep_tree_is_walked_to_its_end(mounted: Mounted) -> None:
    path = b"d"
    entries = [tree.make(path, DIRECTORY, mode=0o755)]
    for _ in range(1500):
        path += b"/" + b"n" * 10
        entries.append(tree.make(path, DIRECTORY, mode=0o755))
    changes = [Change(each.path, each) for each in entries]
    mounted.store.commit("web1", "files", time=TIME, state="complete", changes=changes, previous=None)
    mounted.mount()
    found = subprocess.run(
        ["find", ".", "-type", "d"], cwd=mounted.top / "web1" / "files" / "latest", capture_output=True, check=False
    )
    # Beyond the longest path that the kernel passes on, the file system cannot be asked.
    assert len(found.stdout.splitlines()) > 300
    assert mounted.end() == 0
    assert "Traceback" not in mounted.said()


def test_what_a_killed_mount_left_is_told_with_the_way_out(mounted: Mounted) -> None:
    mounted.mount()
    mounted.end(signal.SIGKILL)
    argv = [sys.executable, "-m", "pyrsyncbackup_collector", "mount", str(mounted.top)]
    configuration = ["--config", str(mounted.folder / "collector.toml")]
    done = subprocess.run([*argv, *configuration], capture_output=True, text=True, check=False)
    assert done.returncode == 12
    assert f"next: `umount {mounted.top}` first" in done.stderr


def test_a_snapshot_that_is_looked_at_is_kept_from_being_pruned(mounted: Mounted, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "hosts").write_text("x")
    mounted.commit("web1", tmp_path / "etc")
    mounted.mount()
    (manifest,) = layout.module_directory(mounted.store.path, "web1", "files").glob("*.zst")
    assert _is_free(manifest)
    assert (mounted.top / "web1" / "files" / "latest" / "hosts").read_text() == "x"
    assert not _is_free(manifest)


def _is_free(path: Path) -> bool:
    return subprocess.run(["flock", "-n", "-x", str(path), "true"], check=False).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_unmounts(mounted: Mounted, number: int) -> None:
    mounted.mount()
    assert mounted.end(number) == 0
    assert not mounted.top.is_mount()
    assert mounted.said() == f"mounted at {mounted.top}; it ends with Ctrl-C, or `umount` of it\n"


def test_a_directory_that_cannot_take_it_is_refused(mounted: Mounted, tmp_path: Path) -> None:
    (mounted.top / "file").touch()
    for target, cause in (
        (mounted.top, "it is not empty"),
        (tmp_path / "nowhere", "No such file or directory"),
        (mounted.top / "file", "it is no directory"),
        (Path("/proc"), "something is mounted there"),
    ):
        argv = [sys.executable, "-m", "pyrsyncbackup_collector", "mount", str(target)]
        done = subprocess.run(
            [*argv, "--config", str(tmp_path / "collector.toml")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 12
        assert f"error: cannot mount at {target}: {cause}" in done.stderr


def test_an_ordinary_user_mounts_it_and_sees_all_of_it(mounted: Mounted, tmp_path: Path) -> None:
    source = tmp_path / "etc"
    source.mkdir()
    (source / "shadow").write_text("of root alone\n")
    (source / "shadow").chmod(0o000)
    mounted.commit("web1", source)
    user = 65534  # fusermount wants one with a name
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o755)
        own = Path(home, "own")
        shutil.copytree(mounted.folder / "store", own / "store")
        (own / "collector.toml").write_text('store = "store"\ncatalog = "catalog.sqlite"\n')
        (own / "past").mkdir()
        subprocess.run(["chown", "-R", f"{user}:{user}", own], check=True)
        child = [sys.executable, "-m", "tests.support.mount_child", own / "past", own / "collector.toml", str(user)]
        done = subprocess.run(["unshare", "--mount", *child], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen == {"code": 0, "files": {"shadow": "of root alone\n"}}, done.stderr
