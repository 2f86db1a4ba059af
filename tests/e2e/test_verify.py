"""Damage behind our back, as an administrator meets it: found, told, set aside, and gone after the next pull."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.support.waiting import until
from tests.support.world import World

pytestmark = pytest.mark.skipif(
    not shutil.which("sshd", path="/usr/sbin:" + os.environ["PATH"]) or not shutil.which("rsync"),
    reason="needs sshd and rsync",
)

PAGE = b"hello\nworld\n"
OTHER = b"something else\n" * 1000
DAMAGED = 15


@pytest.fixture
def world():
    # Sockets allow 107 bytes of path: pytest's own directories are too long.
    with tempfile.TemporaryDirectory(prefix="w-", dir="/tmp") as folder:
        world = World(Path(folder))
        try:
            world.make_host()
            (world.site / "index.html").write_bytes(PAGE)
            (world.site / "other").write_bytes(OTHER)
            world.start_host()
            world.make_collector('modules = { include = ["site"] }')
            world.make_trust()
            yield world
        finally:
            world.close()


def place(world: World, content: bytes) -> Path:
    digest = hashlib.sha256(content).hexdigest()
    return world.collector / "store" / "objects" / digest[:2] / digest[2:]


def spoil(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("daemon", [False, True])
def test_a_rotten_and_a_missing_object_come_back_with_the_next_pull(world, daemon):
    world.run("pull", "web1")
    (world.site / "late").write_text("later\n")
    world.run("pull", "web1")
    assert "all is sound" in world.run("verify")
    if daemon:
        # It checks at its start, and may pull by it: when what we ask for comes to its end, so has that.
        world.config.write_text(world.config.read_text() + '\n[[rule]]\ncheck = "100y"\npull = "100y"\n')
        world.start_daemon()
        world.run("pull", "web1")
    spoil(place(world, PAGE))
    place(world, OTHER).unlink()

    told = world.ask("verify", codes=(DAMAGED,))
    found = {each["name"]: each for each in told["findings"]}
    page = found[hashlib.sha256(PAGE).hexdigest()]
    other = found[hashlib.sha256(OTHER).hexdigest()]
    assert (page["kind"], other["kind"], len(found)) == ("rotten", "missing", 2)
    names = [each["ref"] for each in world.ask("snapshots")["snapshots"]]
    assert page["snapshots"] == other["snapshots"] == names
    assert page["path"] == str(world.site / "index.html")
    assert sorted(told["awaited"]) == sorted(found)
    assert not place(world, PAGE).exists()
    assert [each.name for each in (world.collector / "store" / "damaged").iterdir()] == [page["name"]]

    problem = next(each for each in world.ask("status", codes=(14,))["problems"] if each["state"] == "damaged")
    assert (problem["host"], problem["module"]) == ("web1", "site")
    assert problem["since"]
    assert "2 contents of 2 snapshots are damaged" in problem["cause"]

    assert "unchanged" in world.run("pull", "web1")
    assert "all is sound" in world.run("verify")
    assert world.problems() == []
    assert [each["ref"] for each in world.ask("snapshots")["snapshots"]] == names
    assert world.run("cat", "web1/site@1", str(world.site / "index.html")).encode() == PAGE


def test_a_check_alone_finds_that_a_lost_content_is_to_be_pulled(world):
    world.run("pull", "web1")
    spoil(place(world, PAGE))
    world.run("verify", codes=(DAMAGED,))
    world.config.write_text(world.config.read_text() + '\n[[rule]]\ncheck = "1s"\npull = "10d"\n')
    world.start_daemon()
    until(lambda: place(world, PAGE).exists(), what="the content to come again")
    until(lambda: not world.ask("status", codes=(0, 14))["problems"], what="the damage to be closed")
