"""Drills and mounts beside a running daemon, as commands: asked for, stopped, and left alone by it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.desk import PATIENCE
from tests.support.orphans import naming
from tests.support.waiting import until
from tests.support.world import World

pytestmark = pytest.mark.skipif(
    not shutil.which("sshd", path="/usr/sbin:" + os.environ["PATH"])
    or not all(map(shutil.which, ("rsync", "bwrap", "fusermount3"))),
    reason="needs sshd, rsync, bubblewrap and fuse3",
)
ENDLESS = '["sleep", "987"]'


@pytest.fixture
def world() -> Iterator[World]:
    """A host with one snapshot, and the daemon."""
    with tempfile.TemporaryDirectory(prefix="w-", dir="/tmp") as folder:
        world = World(Path(folder))
        try:
            world.make_host()
            (world.site / "index.html").write_text("hello\n")
            world.start_host()
            world.make_collector('modules = { include = ["site"] }')
            world.make_trust()
            world.run("pull", "web1")
            yield world
        finally:
            subprocess.run(["umount", "-l", f"{folder}/past"], capture_output=True, check=False)
            world.close()


def validate(world: World, command: str) -> None:
    """Give the module a validator, and have the collector know it."""
    file = world.agent_folder / "modules.d" / "site.toml"
    file.write_text(f"{file.read_text()}\n[validate]\ncommand = {command}\n")
    world.restart_agent()
    (world.site / "index.html").write_text("hello again\n")
    world.run("pull", "web1")


def drilling(world: World) -> subprocess.Popen[bytes]:
    """A drill that was begun by command and goes on for ever."""
    command = world.launch("drill.log", "pyrsyncbackup", "drill", "web1")
    until(lambda: validators(world) or world.ended(command), PATIENCE, "the validator to run")
    assert not world.ended(command), said(world)
    return command


def validators(world: World) -> dict[int, str]:
    """Processes of the endless validator that have something of this world in sight."""
    return naming("sleep 987", str(world.folder))


def said(world: World) -> str:
    return (world.folder / "drill.log").read_text()


def drills(world: World) -> list[dict[str, object]]:
    return [each for each in world.ask("status", codes=(0, 14))["upkeep"] if each["host"] == "drill"]


def test_a_drill_is_asked_of_the_daemon_and_status_tells_of_it(world: World) -> None:
    world.start_daemon()
    assert "all came back" in world.run("drill", "web1/site")
    assert "drill" in (world.folder / "daemon.log").read_text()
    assert "upkeep: drill " in world.run("status")


def test_what_does_not_come_back_or_is_no_good_is_in_status(world: World) -> None:
    validate(world, '["sh", "-c", "echo no good; exit 1"]')
    world.start_daemon()
    document = world.ask("drill", "web1", codes=(14,))
    assert [(each["differences"], each["validation"], each["said"]) for each in document["drills"]] == [
        (0, "failed", ["no good"])
    ]
    problems = world.ask("status", codes=(14,))["problems"]
    assert [each["state"] for each in problems if each["module"]] == ["rejected"]
    for place in (world.collector / "store" / "objects").rglob("*"):
        if place.is_file():
            place.chmod(0o600)
            place.write_bytes(b"rotten")
    told = world.run("drill", "web1", codes=(14,))
    assert "1 entry did not come back" in told
    problems = world.ask("status", codes=(14,))["problems"]
    assert [each["state"] for each in problems if each["module"]] == ["unsound"]


def test_ctrl_c_stops_the_command_and_the_drill(world: World) -> None:
    validate(world, ENDLESS)
    world.start_daemon()
    command = drilling(world)
    command.send_signal(signal.SIGINT)
    assert command.wait(PATIENCE) == 130
    assert said(world) == "error: stopped by Ctrl-C\n  next: the daemon was told to stop it too\n"
    until(lambda: not validators(world), PATIENCE, "the validator to be ended")
    until(lambda: not (world.collector / "drill").exists(), PATIENCE, "the directory to be removed")
    assert world.daemon is not None
    assert world.daemon.poll() is None
    assert "Traceback" not in (world.folder / "daemon.log").read_text()


def test_a_daemon_that_is_ended_stops_the_drill_and_says_so(world: World) -> None:
    validate(world, ENDLESS)
    world.start_daemon()
    command = drilling(world)
    assert world.stop_daemon() == 0
    assert command.wait(PATIENCE) == 130
    assert said(world) == "error: stopped on request\n  next: run it again; it goes on\n"
    until(lambda: not validators(world), PATIENCE, "the validator to be ended")
    assert not (world.collector / "drill").exists()
    assert [each["state"] for each in drills(world)] == ["ok"] or drills(world) == []


def test_a_daemon_that_is_killed_leaves_no_validator_and_the_next_drill_clears_up(world: World) -> None:
    validate(world, ENDLESS)
    world.start_daemon()
    command = drilling(world)
    assert world.daemon is not None
    world.daemon.kill()
    world.daemon.wait()
    world.daemon = None
    assert command.wait(PATIENCE) == 1
    assert said(world).startswith("error: the daemon went away\n")
    until(lambda: not validators(world), PATIENCE, "the validator to end")
    assert (world.collector / "drill").exists()
    (world.agent_folder / "modules.d" / "site.toml").write_text(f'title = "A site"\npaths = ["{world.site}"]\n')
    world.restart_agent()
    (world.site / "index.html").write_text("a third time\n")
    world.run("pull", "web1")
    world.run("drill", "web1")
    assert not (world.collector / "drill").exists()


def test_a_mount_shows_what_the_daemon_pulls_meanwhile(world: World) -> None:
    world.start_daemon()
    past = world.folder / "past"
    past.mkdir()
    mount = world.launch("mount.log", "pyrsyncbackup", "mount", str(past))
    until(lambda: past.is_mount() or world.ended(mount), PATIENCE, "it to be mounted")
    module = past / "web1" / "site"
    page = str(world.site / "index.html").lstrip("/")
    assert (module / "latest" / page).read_text() == "hello\n"
    (world.site / "index.html").write_text("hello\nmoon\n")
    world.run("pull", "web1/site")
    until(lambda: len(list(module.iterdir())) == 3, PATIENCE, "the new snapshot to be seen")
    until(lambda: (module / "latest" / page).read_text() == "hello\nmoon\n", PATIENCE, "it to be the latest")
    world.run("drill", "web1")
    assert world.stop_daemon() == 0
    assert (module / "latest" / page).read_text() == "hello\nmoon\n"
    subprocess.run(["umount", str(past)], check=True)
    assert mount.wait(PATIENCE) == 0
