"""A catalog that is lost, old, foreign or broken, and a store that is gone: what the commands say, and the remedy."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.agent import RunningAgent
from tests.support.collector import NEVER_BY_ITSELF, RunningCollector
from tests.support.commands import Said, say

REBUILD = "  next: run `pyrsyncbackup catalog rebuild`; the snapshots in the store are not touched by it\n"
MOUNTED = "  next: is its file system mounted?"


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    with RunningAgent(tmp_path_factory.mktemp("agent")) as running:
        yield running


class Scene:
    """A collector with three snapshots of one module; `old` is its catalog after the first, `late` after the second."""

    def __init__(self, base: Path, agent: RunningAgent) -> None:
        self.data = base / "data"
        self.data.mkdir()
        self.collector = RunningCollector(base / "collector", NEVER_BY_ITSELF)
        self.catalog = self.collector.base / "catalog.sqlite"
        self.store = self.collector.base / "store"
        agent.module("data", self.data)
        self.collector.host("web1", agent, 'modules = { include = ["data"] }')
        (self.data / "same").write_text("stays\n")
        for number, copy in enumerate(("old", "late", "newest")):
            (self.data / "changing").write_text(f"version {number}\n")
            (self.data / f"new-{number}").write_text(f"new {number}\n")
            assert self.say("pull", "web1/data").code == 0
            shutil.copy(self.catalog, self.collector.base / copy)

    def say(self, *arguments: str) -> Said:
        return say(self.collector.file, *arguments)

    def put(self, copy: str) -> None:
        """Bring an earlier catalog back."""
        for file in self.catalog.parent.glob("catalog.sqlite*"):
            file.unlink()
        shutil.copy(self.collector.base / copy, self.catalog)

    def nothing_new(self) -> None:
        """A pull works and transfers nothing; a directory above may have another time, as others work in there."""
        said = self.say("pull", "web1/data")
        assert re.match(r"web1/data  (unchanged|complete .* \d metadata)", said.out), said
        assert " sent" not in said.out

    def answers(self) -> list[str]:
        """What the queries say, but for the history of runs."""
        return [
            self.say(*question, "--json").out
            for question in (
                ("snapshots", "web1/data"),
                ("ls", "web1/data"),
                ("diff", "web1/data@000001", "web1/data@000003"),
            )
        ]


@pytest.fixture
def scene(tmp_path: Path, agent: RunningAgent) -> Iterator[Scene]:
    made = Scene(tmp_path, agent)
    yield made
    made.collector.stop(signal.SIGKILL)


def lost(scene: Scene) -> None:
    scene.catalog.unlink()


def foreign(scene: Scene) -> None:
    with closing(sqlite3.connect(scene.catalog)) as raw, raw:
        raw.execute("UPDATE meta SET value = 'another' WHERE key = 'store_id'")


def cut(scene: Scene) -> None:
    os.truncate(scene.catalog, 9000)


def scribbled(scene: Scene) -> None:
    scene.catalog.write_bytes(b"no database at all\n" * 1000)


FAULTS: list[tuple[Callable[[Scene], None], str]] = [
    (lost, "error: there is no catalog DIR/catalog.sqlite\n" + REBUILD),
    (cut, "error: the catalog DIR/catalog.sqlite is damaged: database disk image is malformed\n" + REBUILD),
    (scribbled, "error: the catalog DIR/catalog.sqlite is damaged: file is not a database\n" + REBUILD),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS, ids=["lost", "cut", "scribbled"])
def test_without_a_sound_catalog_all_is_refused_until_it_is_rebuilt(
    scene: Scene, fault: Callable[[Scene], None], words: str
) -> None:
    before = scene.answers()
    fault(scene)
    for command in (["status"], ["pull", "web1"], ["daemon"]):
        said = scene.say(*command)
        assert (said.code, said.err) == (11, words), command
    # What is read from the store alone goes on.
    assert scene.say("restore", "web1/data", "--to", str(scene.data.parent / "restored")).code == 0
    rebuilt = scene.say("catalog", "rebuild")
    assert rebuilt.code == 0
    assert "3 snapshots" in rebuilt.out
    assert scene.answers() == before
    scene.nothing_new()


def test_the_catalog_of_another_store_is_refused(scene: Scene) -> None:
    foreign(scene)
    for command in (["status"], ["pull", "web1"], ["daemon"]):
        said = scene.say(*command)
        assert said.code == 11
        assert said.err.startswith("error: the catalog DIR/catalog.sqlite belongs to store another, not ")
        assert said.err.endswith(
            "\n  next: check the paths `store` and `catalog` in the configuration, "
            "or run `pyrsyncbackup catalog rebuild`\n"
        )
    assert scene.say("catalog", "rebuild").code == 0
    assert [each["state"] for each in scene.say("status", "--json").answer["problems"]] == ["stopped"]


def test_an_old_catalog_is_refused_until_it_is_rebuilt(scene: Scene) -> None:
    before = scene.answers()
    scene.put("old")
    words = (
        "error: catalog and store do not belong together: "
        "the catalog lacks the last 2 snapshots of web1/data: it is an old one\n"
    )
    for command in (["pull", "web1"], ["daemon"], ["check"]):
        said = scene.say(*command)
        assert (said.code, said.err) == (11, words + REBUILD), command
    assert scene.say("catalog", "rebuild").code == 0
    assert scene.answers() == before
    scene.nothing_new()


def test_a_catalog_that_a_crash_left_one_behind_is_brought_up_to_date_by_the_next_pull(scene: Scene) -> None:
    before = scene.answers()
    scene.put("late")
    assert scene.say("check").code == 0
    # An old copy lacks the rows of the contents too, which a crash at this point does not: they are sent again, once.
    assert scene.say("pull", "web1/data").out.startswith("web1/data  unchanged")
    scene.nothing_new()
    assert scene.answers() == before


def test_a_manifest_that_is_gone_is_told_and_a_full_one_comes_in_its_place(scene: Scene) -> None:
    newest = scene.say("snapshots", "web1/data", "--json").answer["snapshots"][-1]["name"]
    for file in (scene.store / "manifests" / "web1" / "data").glob(f"{newest}*"):
        file.unlink()
    said = scene.say("pull", "web1/data")
    assert (said.code, said.out[:28]) == (0, "web1/data  complete   000004")
    assert " sent" not in said.out
    scene.nothing_new()
    status = scene.say("status")
    assert status.code == 14
    assert "damaged web1/data since" in status.out
    assert f"the manifest of {newest} is missing: its file is not there" in " ".join(status.out.split())
    verified = scene.say("verify", "--json")
    assert verified.code == 15
    assert [(each["kind"], each["name"]) for each in verified.answer["findings"]] == [
        ("missing", f"web1/data@{newest}")
    ]
    assert scene.say("prune").code == 0
    assert scene.say("gc").code == 0


@pytest.mark.parametrize("what", ["manifest", "module", "log", "cut log"])
def test_the_daemon_starts_and_goes_on_whatever_one_module_lost(scene: Scene, agent: RunningAgent, what: str) -> None:
    scene.collector.host("web2", agent, 'modules = { include = ["data"] }')
    assert scene.say("pull", "web2/data").code == 0
    module = scene.store / "manifests" / "web1" / "data"
    before = [file.name for file in sorted(module.glob("0*"))]
    if what == "module":
        shutil.rmtree(module.parent)
    elif what == "log":
        for file in module.glob("log*"):
            file.unlink()
    elif what == "cut log":
        log = module / "log.jsonl"
        log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:1]))
    else:
        (module / before[-1]).unlink()
    with scene.collector.start():
        if what in ("manifest", "module"):
            assert scene.say("pull", "web1/data").code == 0
            assert scene.collector.snapshots("web1", "data")[-1].startswith("000004-")
            (told,) = [each for each in scene.collector.events(level="error") if each.get("next")]
            assert (told["event"], told["name"].partition("@")[0]) == (
                "log is missing" if what == "module" else "manifest is missing",
                "web1/data",
            )
            status = scene.say("status", "--json")
            (problem,) = status.answer["problems"]
            assert (status.code, problem["state"], problem["host"]) == (14, "damaged", "web1")
        else:
            assert scene.collector.events("store does not fit")[0]["cause"].startswith("web1/data: the ")
            assert [file.name for file in sorted(module.glob("0*"))][: len(before)] == before
        (scene.data / "changing").write_text("later\n")
        for host in ("web1", "web2"):
            assert scene.say("pull", f"{host}/data").code == 0
            assert scene.say("cat", f"{host}/data", str(scene.data / "changing")).out == "later\n"
        assert scene.say("gc").code == 0
        assert scene.say("prune").code == 0
    assert "Traceback" not in scene.collector.log
    assert scene.say("restore", "web1/data", "--to", str(scene.data.parent / "restored")).code == 0


def test_a_store_that_is_not_there_is_refused_by_every_command_and_never_made(scene: Scene) -> None:
    away = scene.store.rename(scene.store.with_name("away"))
    for command in (["status"], ["pull", "web1"], ["daemon"], ["snapshots"], ["catalog", "rebuild"], ["check"]):
        said = scene.say(*command)
        assert said.code == 10, command
        assert "error: no store at DIR/store\n" + MOUNTED in said.err
    assert not scene.store.exists()
    away.rename(scene.store)
    scene.nothing_new()


def test_a_locked_catalog_fails_the_pull_and_not_the_store(scene: Scene) -> None:
    (scene.data / "changing").write_text("while it is locked\n")
    with closing(sqlite3.connect(scene.catalog, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        said = scene.say("pull", "web1/data")
        assert said.code == 11
        assert "error: " in said.err + said.out
        assert "locked by another process" in said.err + said.out
        assert [each["state"] for each in scene.say("status", "--json").answer["problems"]] == ["stopped"]
        raw.execute("ROLLBACK")
    assert scene.say("pull", "web1/data").out.startswith("web1/data  complete   000004-")


def test_a_second_collector_is_refused_naming_the_first(scene: Scene) -> None:
    with scene.collector.start():
        assert scene.collector.process is not None
        for command in (["daemon"], ["catalog", "rebuild"]):
            said = scene.say(*command)
            assert said.code == 10
            assert said.err.startswith(
                f"error: the store DIR/store is in use by process {scene.collector.process.pid} on "
            )
            assert said.err.endswith(
                "\n  next: stop it, or let it do the work: `pyrsyncbackup pull` asks a running daemon\n"
            )
        scene.nothing_new()


def test_a_daemon_that_was_killed_is_not_waited_for(scene: Scene) -> None:
    with scene.collector.start():
        assert "daemon: runs since" in scene.say("status").out
        scene.collector.stop(signal.SIGKILL)
        told = scene.say("status")
        assert told.code == 14
        assert told.out.startswith("stopped daemon since ")
        assert "or hangs, without a word" in told.out
        assert "daemon: does not run" in told.out
        assert scene.say("status", "--json").answer["daemon"] is None
        scene.nothing_new()
