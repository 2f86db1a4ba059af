"""Retention beside a running daemon: it follows each pull, and does what commands ask for."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent import RunningAgent
from tests.support.collector import RunningCollector
from tests.support.commands import Said, say
from tests.support.waiting import until


class Scene:
    """A daemon that keeps the last two and pulls when it is asked to alone, and a module with one file."""

    def __init__(self, base: Path, agent: RunningAgent) -> None:
        self.file = base / "data" / "a"
        self.file.parent.mkdir()
        policy = '[policy]\ncheck = "1h"\nkeep = { last = 2 }\nwindows = ["2199-01-01"]\n'
        self.collector = RunningCollector(base / "collector", policy)
        agent.module("data", self.file.parent)
        self.collector.host("web1", agent, 'modules = { include = ["data"] }')
        self.collector.start()

    def say(self, *words: str) -> Said:
        return say(self.collector.file, *words)

    def pull(self, content: str) -> None:
        self.file.write_text(content)
        said = self.say("pull", "web1/data")
        assert said.code == 0, said

    def left(self) -> list[int]:
        found = self.say("snapshots", "--json").answer["snapshots"]
        return [one["sequence"] for one in found]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with RunningAgent(tmp_path / "agent") as agent:
        made = Scene(tmp_path, agent)
        yield made
        made.collector.stop(signal.SIGKILL)


def test_a_daemon_prunes_after_each_pull_and_on_request(scene: Scene) -> None:
    scene.pull("first")
    said = scene.say("pin", "web1/data", "--why", "the first")
    assert said.code == 0, said
    for number in range(4):
        scene.pull(f"change {number}")
    until(lambda: scene.left() == [1, 4, 5], what="the daemon to prune")
    assert scene.say("unpin", "web1/data@1").code == 0
    said = scene.say("prune", "--json")
    assert said.code == 0, said
    assert said.answer["removed"] == 1
    assert scene.left() == [4, 5]
    scene.pull("after it")
    until(lambda: scene.left() == [5, 6], what="the daemon to prune")
    assert scene.say("forget", "web1/data", "--yes").code == 0
    assert scene.left() == []
    scene.pull("anew")
    assert scene.left() == [7]
    assert scene.say("check").code == 0
    assert "Traceback" not in scene.collector.log
    assert scene.collector.stop() == 0


def test_a_daemon_says_what_it_refuses_to_prune(scene: Scene) -> None:
    scene.pull("first")
    assert scene.say("pin", "web1/data").code == 0
    for number in range(3):
        scene.pull(f"change {number}")
    # What it prunes after a pull, it prunes when the pull was answered.
    until(lambda: scene.left() == [1, 3, 4], what="the daemon to prune")
    assert scene.say("unpin", "web1/data@1").code == 0
    log = scene.collector.base / "store/manifests/web1/data/log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:1] + lines[2:]))
    said = scene.say("prune")
    assert said.code == 13
    assert "nothing is removed: the log does not fit" in said.out
    assert 1 in scene.left()
    assert "Traceback" not in scene.collector.log
