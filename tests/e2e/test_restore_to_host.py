"""`restore --to-host`: files go back to a host that allows it, by the way that pulls take."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_cli_relays import Scene
from tests.e2e.test_cli_relays import most as most
from tests.e2e.test_cli_relays import scene as scene
from tests.support.comparison import as_rsync_sees
from tests.support.desk import PATIENCE
from tests.support.waiting import until
from tests.support.world import World

pytestmark = pytest.mark.skipif(
    not shutil.which("sshd", path="/usr/sbin:" + os.environ["PATH"]) or not shutil.which("rsync"),
    reason="needs sshd and rsync",
)
ODD = "x\x1b[2J\nodd"


@pytest.fixture
def world() -> Iterator[World]:
    """A host with one snapshot that takes restores, behind a real sshd."""
    with tempfile.TemporaryDirectory(prefix="w-", dir="/tmp") as folder:
        world = World(Path(folder))
        try:
            world.make_host()
            fill(world.site)
            allow(world, True)
            world.start_host()
            world.make_collector('modules = { include = ["site"] }')
            world.make_trust()
            world.run("pull", "web1")
            yield world
        finally:
            world.close()


def fill(site: Path) -> None:
    (site / "conf").mkdir()
    (site / "conf" / "a.conf").write_text("a\n")
    (site / "conf" / "link").symlink_to("/etc/passwd")
    (site / "conf").chmod(0o555)
    (site / "index.html").write_text("hello\n")
    (site / "secret").write_text("secret\n")
    (site / "secret").chmod(0)
    (site / "suid").write_text("#!/bin/sh\n")
    (site / "suid").chmod(0o4755)
    (site / ODD).write_text("odd\n")


def allow(world: World, allowed: bool) -> None:
    file = world.agent_folder / "agent.toml"
    text = file.read_text().partition("\n[restore]")[0]
    file.write_text(f"{text}\n[restore]\nenabled = true\n" if allowed else f"{text}\n")


def received(world: World) -> list[str]:
    there = world.agent_folder / "state" / "restore"
    return sorted(path.name for path in there.iterdir()) if there.exists() else []


def left_here(world: World) -> list[Path]:
    return list((world.collector / "sending").iterdir())


def test_all_of_a_snapshot_goes_back_to_its_host(world: World) -> None:
    said = world.run("restore", "web1/site", "--to-host", ".")
    (name,) = received(world)
    assert name.startswith("web1-site-000001-")
    place = world.agent_folder / "state" / "restore" / name
    assert f"restored web1/site@{name[10:]} to web1:{place}: 5 files," in said
    assert "1 entry: without what an agent, which is not root, cannot give (set-id bits): " in said
    assert "(mode: made readable for its owner): " in said
    assert "  all of it belongs to the agent's user; `--tar` keeps owners and the like\n" in said
    site = place / str(world.site).lstrip("/")
    assert {path.name for path in site.iterdir()} == {path.name for path in world.site.iterdir()}
    assert (site / "index.html").read_text() == "hello\n"
    assert (site / "index.html").stat().st_mtime_ns == (world.site / "index.html").stat().st_mtime_ns
    assert (site / "secret").read_text() == "secret\n"
    assert os.readlink(site / "conf" / "link") == "/etc/passwd"
    assert (site / "conf").stat().st_mode & 0o7777 == 0o555
    assert (site / "suid").stat().st_mode & 0o7777 == 0o755
    assert left_here(world) == []


def test_pipes_arrive_and_acls_but_for_whom_they_name(world: World) -> None:
    site = world.site
    os.mkfifo(site / "pipe", 0o640)
    subprocess.run(["setfacl", "-m", "u:34:rw,g::-,m::rw", site / "index.html"], check=True)
    world.run("pull", "web1")
    done = world.command("restore", "web1/site", str(site / "pipe"), str(site / "index.html"), "--to-host", ".")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 entry: without what an agent, which is not root, cannot give (ACLs that name users or groups): " in (
        done.stdout
    )
    (name,) = received(world)
    there = world.agent_folder / "state" / "restore" / name / str(site).lstrip("/")
    assert stat.S_ISFIFO((there / "pipe").lstat().st_mode)
    acl = subprocess.run(["getfacl", "-cpE", there / "index.html"], check=True, capture_output=True, text=True).stdout
    assert acl.split() == ["user::rw-", "group::---", "mask::rw-", "other::r--"], "the group gets no more than it had"


def test_another_choice_has_another_directory_and_the_same_one_is_never_written_over(world: World) -> None:
    one = world.ask("restore", "web1/site", str(world.site / "index.html"), "--to-host", "web1")
    two = world.ask("restore", "web1/site", "*.conf", "--exclude", "x*", "--to-host", "web1")
    assert (one["complete"], one["restored"]["file"], one["remark"]) == (True, 1, "")
    assert one["target"] == f"web1:{one['directory']}"
    assert len({one["directory"], two["directory"]}) == 2
    assert Path(one["directory"], str(world.site / "index.html").lstrip("/")).read_text() == "hello\n"
    again = world.command("restore", "web1/site", str(world.site / "index.html"), "--to-host", "web1")
    assert again.returncode == 12
    cause = f"error: web1: restore: {one['directory']} is there already\n"
    assert again.stderr == f"{cause}  next: move or remove it on the host\n"
    assert left_here(world) == []


def test_a_dry_run_touches_neither_side(world: World) -> None:
    plan = world.ask("restore", "web1/site", "--to-host", ".", "--dry-run")
    assert plan["target"] == "a new directory on web1"
    assert {step["action"] for step in plan["plan"]} == {"make"}
    assert world.ask("restore", "--dry-run", "--to-host", "web1/site") == plan, "the host may be left out"
    assert received(world) == []
    assert not (world.collector / "sending").exists()


def test_a_host_refuses_by_default_before_anything_is_restored(world: World) -> None:
    allow(world, False)
    world.restart_agent()
    done = world.command("restore", "web1/site", "--to-host", ".")
    assert (done.returncode, done.stdout) == (12, "")
    assert done.stderr == (
        "error: web1: restore: this host takes none\n  next: allow it there in agent.toml: [restore] enabled = true\n"
    )
    assert received(world) == []
    assert not (world.collector / "sending").exists()


def test_a_host_that_is_unknown_or_down_is_told(world: World) -> None:
    unknown = world.command("restore", "web1/site", "--to-host", "web9")
    assert unknown.returncode == 4
    assert unknown.stderr.startswith("error: no host is called web9\n")
    assert unknown.stderr.endswith("next: did you mean web1? If it is a path, say `--to-host . web9`\n")
    world.sshd.kill()
    down = world.command("restore", "web1/site", "--to-host", ".")
    assert down.returncode == 5
    assert down.stderr.startswith("error: web1: ")
    assert len(down.stderr.splitlines()) == 2


@pytest.mark.parametrize("option", [["--special"], ["--overwrite", "always"], ["--check"], ["--to", "out"]])
def test_what_makes_no_sense_with_it_is_refused(world: World, option: list[str]) -> None:
    done = world.command("restore", "web1/site", "--to-host", ".", *option)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 2)


def test_what_a_killed_command_left_is_removed_by_the_next(world: World) -> None:
    left = world.collector / "sending" / "0123"
    left.mkdir(parents=True)
    (left / "secret").write_text("x")
    world.run("restore", "web1/site", "--to-host", ".")
    assert left_here(world) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_one_that_is_ended_leaves_nothing_here_and_goes_on_there(world: World, number: int) -> None:
    (world.site / "large").write_bytes(os.urandom(64 << 20))
    (world.site / "secret").chmod(0o600)
    (world.site / "suid").chmod(0o755)
    world.run("pull", "web1")
    command = world.launch("restore.log", "pyrsyncbackup", "restore", "web1/site", "--to-host", ".")
    until(lambda: received(world) or world.ended(command), PATIENCE, "the host to begin")
    assert world.agent is not None
    world.agent.send_signal(signal.SIGSTOP)
    try:
        assert [name.endswith(".partial") for name in received(world)] == [True]
        command.send_signal(number)
        assert command.wait(PATIENCE) == (-9 if number == signal.SIGKILL else 130)
        assert number == signal.SIGKILL or not (world.collector / "sending").exists() or left_here(world) == []
    finally:
        world.agent.send_signal(signal.SIGCONT)
    assert "Traceback" not in (world.folder / "restore.log").read_text()

    def again() -> bool:
        done = world.command("restore", "web1/site", "--to-host", ".")
        assert done.returncode == 0 or "another restore is on its way" in done.stderr, done.stderr
        return done.returncode == 0

    until(again, PATIENCE, "the host to be free again")
    assert left_here(world) == []
    (name,) = received(world)
    place = world.agent_folder / "state" / "restore" / name
    assert as_rsync_sees(world.site, place / str(world.site).lstrip("/")) == ""
    assert list(place.rglob(".*")) == []


def test_a_damaged_content_is_told_and_the_rest_arrives(world: World) -> None:
    for place in (world.collector / "store" / "objects").rglob("*"):
        if place.is_file():
            place.chmod(0o600)
            place.write_bytes(b"rotten")
            break
    answer = world.ask("restore", "web1/site", "--to-host", ".", codes=(13,))
    assert [each["reason"] for each in answer["shortfalls"] if each["missing"]] == ["damaged"]
    assert Path(answer["directory"]).is_dir()


def test_it_goes_through_a_relay(scene: Scene) -> None:
    scene.see()
    scene.run("host", "accept", "db1")
    scene.run("pull", "db1/data")
    refused = scene.run("restore", "db1/data", "--to-host", ".", code=12)
    assert "db1: restore: this host takes none" in refused
    scene.one.stop()
    scene.one.config.write_text(scene.one.config.read_text() + "[restore]\nenabled = true\n")
    scene.one.start()
    scene.relay.peer("db1", scene.one.address, "The database")
    scene.relay.reload()
    answer = scene.ask("restore", "db1/data", "--to-host", "db1")
    assert answer["restored"]["file"] == 1
    copied = Path(answer["directory"], str(scene.folder / "data" / "a").lstrip("/"))
    assert copied.read_text() == "a\n"
