"""A store that fills up: pulls wait and go on by themselves, and garbage goes also when there is no room at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.test_full_and_read_only import Disk
from tests.support.agent import RunningAgent
from tests.support.collector import RunningCollector
from tests.support.commands import Said, say
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")

MIB = 1 << 20
SETTINGS = """[policy]
check = "1s"
pull = "1h"
keep = {{ last = 1 }}
[space]
min_free = "{free}"
min_free_inodes = {inodes}
"""


class Scene:
    """A daemon with two hosts whose store and catalog are both on a small disk of their own."""

    def __init__(self, base: Path, agent: RunningAgent) -> None:
        self.data = base / "data"
        self.data.mkdir()
        self.disk = Disk(base / "disk")
        self.collector = RunningCollector(base / "collector")
        for name in ("store", "catalog.sqlite"):
            shutil.move(self.collector.base / name, self.disk.place / name)
        self.settings()
        agent.module("data", self.data)
        self.collector.host("web1", agent, 'modules = { include = ["data"] }')
        (self.data / "one").write_bytes(b"one" * 1000)

    def settings(self, free: str = "10MiB", inodes: str = '"off"') -> None:
        place = self.disk.place
        text = f'store = "{place}/store"\ncatalog = "{place}/catalog.sqlite"\nruntime = "run"\n'
        self.collector.file.write_text(text + SETTINGS.format(free=free, inodes=inodes))

    def say(self, *arguments: str) -> Said:
        return say(self.collector.file, *arguments)

    def objects(self) -> int:
        return sum(1 for _ in (self.disk.place / "store/objects").glob("??/*"))


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


def test_below_min_free_pulls_wait_are_told_once_and_go_on_when_there_is_room(scene: Scene) -> None:
    scene.settings(free="100MiB")
    collector = scene.collector.start()
    until(lambda: collector.events("pull ended"), what="the first pull")
    scene.disk.fill(90 * MIB)
    (scene.data / "two").write_bytes(b"two" * 1000)
    until(lambda: collector.events("pulls wait for room in the store"), what="the daemon to say so")
    told = collector.events("pulls wait for room in the store")[0]
    assert told["error"] == "StoreFull"
    assert "MiB free, and 100 MiB stay free by `space.min_free`" in told["cause"]
    assert "gc" in told["next"]
    # The line comes when the pulls are held, which is before the run of the one that failed has its end.
    until(lambda: json.loads(scene.say("status", "--json").out)["problems"], what="the failure in the status")
    status = scene.say("status", "--json")
    assert status.code == 14
    document = json.loads(status.out)
    assert "100 MiB stay free" in document["store"]["problem"]
    assert [each["state"] for each in document["problems"]] == ["failing"]
    assert "full store" in scene.say("status").out
    checked = document["hosts"][0]["checked"]
    until(lambda: json.loads(scene.say("status", "--json").out)["hosts"][0]["checked"] > checked, what="another check")
    asked = scene.say("pull", "web1/data")
    assert asked.code == 10
    assert "100 MiB stay free" in asked.out + asked.err
    assert "pyrsyncbackup" in asked.out + asked.err
    # A check that was under way during the first pull may have led to a second one, that found nothing.
    ended = len(collector.events("pull ended"))
    scene.disk.free()
    until(lambda: len(collector.events("pull ended")) > ended, what="the next pull")
    assert len(collector.events("pulls wait for room in the store")) == 1
    until(lambda: collector.events("there is room in the store, pulls go on"), what="the daemon to say so")
    assert len(collector.events("there is room in the store, pulls go on")) == 1
    assert scene.say("status").code == 0
    assert "Traceback" not in collector.log


def test_too_few_inodes_are_as_too_few_bytes(scene: Scene) -> None:
    assert scene.say("pull", "web1/data").code == 0
    scene.settings(inodes="1000000000")
    said = scene.say("pull", "web1/data")
    assert said.code == 10
    assert "inodes free, and 1,000,000,000 stay free" in said.out + said.err
    assert scene.say("check").code == 10


@pytest.mark.parametrize("daemon", [True, False], ids=["daemon", "command"])
def test_garbage_goes_when_the_disk_is_full_to_the_last_byte(scene: Scene, daemon: bool) -> None:
    """Store and catalog share it: the catalog's room comes from the reserve."""
    for number in range(700):
        (scene.data / f"f{number}").write_bytes(b"%d" % number)
    assert scene.say("pull", "web1/data").code == 0
    for number in range(700):
        (scene.data / f"f{number}").unlink()
    assert scene.say("pull", "web1/data").code == 0
    for command in (("prune",), ("retention", "resume", "web1/data"), ("prune",)):
        assert scene.say(*command).code == 0
    with sqlite3.connect(scene.disk.place / "catalog.sqlite") as raw:
        raw.execute("UPDATE objects SET unnamed_since = 0, last_used = 0")
    raw.close()
    before = scene.objects()
    if daemon:
        scene.collector.start()
    scene.disk.fill(0)
    said = scene.say("gc", "--json")
    assert said.code == 0, said
    document = json.loads(said.out)
    assert document["objects"] == 700
    assert scene.objects() == before - 700
    assert "Traceback" not in (scene.collector.log if daemon else said.err)
    scene.disk.free()
    assert scene.say("pull", "web1/data").code == 0


def test_a_store_that_became_read_only_is_said_and_the_next_collection_goes_on(scene: Scene) -> None:
    assert scene.say("pull", "web1/data").code == 0
    scene.disk.remount("ro")
    said = scene.say("gc")
    assert said.code in (10, 11)
    assert "error: " in said.err
    assert "Traceback" not in said.err
    assert scene.say("gc", "--dry-run").code in (0, 11)
    scene.disk.remount("rw")
    assert scene.say("gc").code == 0
