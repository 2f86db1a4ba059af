"""A store that is full, read-only or gone under a running daemon: a pull fails with a line, and later ones recover."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent import RunningAgent
from tests.support.collector import NEVER_BY_ITSELF, RunningCollector
from tests.support.commands import Said, say
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")

# What a pull keeps free, and room for the files below.
SIZE = 150 << 20


class Disk:
    """A small file system."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self.mount()

    def mount(self) -> None:
        _run("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", self.place)

    def remount(self, how: str) -> None:
        _run("mount", "-o", f"remount,{how}", self.place)

    def unmount(self) -> None:
        _run("umount", "-l", self.place)

    def fill(self, leave: int) -> None:
        """Leave at most so many bytes free, also while others write."""
        filler = os.open(self.place / "filler", os.O_WRONLY | os.O_CREAT)
        try:
            while (size := self._free() - leave) > 0:
                with contextlib.suppress(OSError):  # somebody took of it meanwhile
                    os.posix_fallocate(filler, os.fstat(filler).st_size, size)
        finally:
            os.close(filler)

    def _free(self) -> int:
        free = os.statvfs(self.place)
        return free.f_bavail * free.f_frsize

    def free(self) -> None:
        (self.place / "filler").unlink()


class Scene:
    """A daemon whose store is on a disk of its own, and an agent with one module."""

    def __init__(self, base: Path, agent: RunningAgent) -> None:
        self.data = base / "data"
        self.data.mkdir()
        self.disk = Disk(base / "disk")
        self.collector = RunningCollector(base / "collector", NEVER_BY_ITSELF)
        store = self.collector.base / "store"
        shutil.move(store, self.disk.place / "store")
        store.symlink_to(self.disk.place / "store")
        agent.module("data", self.data)
        self.collector.host("web1", agent, 'modules = { include = ["data"] }')
        self.write("one", 1 << 20)

    def write(self, name: str, size: int) -> None:
        (self.data / name).write_bytes(os.urandom(size))

    def say(self, *arguments: str) -> Said:
        return say(self.collector.file, *arguments)

    def pull(self) -> Said:
        return self.say("pull", "web1/data")

    def goes_on(self) -> None:
        """What failed is brought by the next pull; or was already, by a daemon that saw the room before us."""
        again = self.pull()
        assert again.code == 0, again
        newest = self.say("ls", "web1/data@2", "--json").answer["entries"]
        assert {"one", "two"} <= {Path(entry["path"]).name for entry in newest}
        assert len(self.collector.snapshots("web1", "data")) == 2
        assert "Traceback" not in self.collector.log


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    with RunningAgent(tmp_path / "agent") as running:
        yield running


@pytest.fixture
def scene(tmp_path: Path, agent: RunningAgent) -> Iterator[Scene]:
    made = Scene(tmp_path, agent)
    yield made
    made.collector.stop(signal.SIGKILL)
    made.disk.unmount()


@pytest.mark.parametrize("daemon", [True, False], ids=["daemon", "command"])
def test_a_full_store_fails_pulls_until_there_is_room(scene: Scene, daemon: bool) -> None:
    if daemon:
        scene.collector.start()
    assert scene.pull().code == 0
    scene.write("two", 1 << 20)
    for leave in (8 << 20, 100_000, 0):
        scene.disk.fill(leave)
        said = scene.pull()
        assert said.code == 10, said
        assert "the store" in said.out + said.err
        assert any(hint in said.out + said.err for hint in ("free space on", "make room on")), said
        assert "fault of the program" not in said.out
        scene.disk.free()
    assert scene.say("restore", "web1/data", "--to", str(scene.data.parent / "r")).code == 0
    scene.goes_on()
    if daemon:
        assert scene.collector.stop() == 0


@pytest.mark.parametrize("daemon", [True, False], ids=["daemon", "command"])
def test_a_read_only_store_fails_pulls_until_it_can_be_written(scene: Scene, daemon: bool) -> None:
    if daemon:
        scene.collector.start()
    assert scene.pull().code == 0
    scene.write("two", 1000)
    scene.disk.remount("ro")
    said = scene.pull()
    assert said.code == 10
    assert "Read-only file system" in said.out + said.err
    assert "next: mount it writable" in said.out + said.err
    assert scene.say("restore", "web1/data", "--to", str(scene.data.parent / "r")).code == 0
    scene.disk.remount("rw")
    scene.goes_on()
    if daemon:
        assert scene.collector.stop() == 0


def test_a_store_that_is_unmounted_under_the_daemon_fails_pulls_and_is_not_made_in_the_mount_point(
    scene: Scene,
) -> None:
    scene.collector.start()
    assert scene.pull().code == 0
    scene.write("two", 1000)
    kept = scene.data.parent / "kept"
    _run("cp", "-a", scene.disk.place, kept)
    scene.disk.unmount()
    said = scene.pull()
    assert said.code == 10
    assert "next: is its file system mounted?" in said.out + said.err
    assert list(scene.disk.place.iterdir()) == []
    scene.disk.mount()
    _run("cp", "-a", f"{kept}/.", scene.disk.place)
    scene.goes_on()
    assert scene.collector.stop() == 0


def test_a_full_disk_in_the_middle_of_a_transfer_is_said_to_be_full(scene: Scene) -> None:
    """The space is there when it is looked for, and gone when the files come."""
    assert scene.pull().code == 0
    scene.collector.settings('[policy]\nbwlimit = "2MB"\n')
    for number in range(6):
        scene.write(f"big{number}", 3 << 20)
    incoming = scene.disk.place / "store" / "incoming"

    def arriving() -> bool:
        with contextlib.suppress(FileNotFoundError):  # directories come and go
            return any(incoming.glob("*/*/data/*"))
        return False

    filler = threading.Thread(target=lambda: until(arriving) and scene.disk.fill(200_000))
    filler.start()
    said = scene.pull()
    filler.join()
    assert said.code == 10, said
    # The look at the free space between files may come before the failing write.
    assert "o space" in said.out + said.err or "free in the middle of a transfer" in said.out
    scene.disk.free()
    assert scene.pull().code == 0


def _run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, capture_output=True)
