"""A local user of a host swaps directories and files of a module for links to what is not part of it."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.errors import BackupError
from pyrsyncbackup_collector.pull.report import Outcome, PullReport

from tests.support.agent import RunningAgent
from tests.support.puller import Puller
from tests.support.swap import swapping

FILES = 60
ROUNDS = 8


class World:
    """A module `top/srv` with a directory of files, and a directory beside it, of the same form, that is secret."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.top = base / "host" / "top"
        self.module = self.top / "srv"
        self.secret = base / "host" / "secret"
        for place, word in ((self.module, "ours"), (self.secret / "srv", "SECRET")):
            (place / "d" / "e").mkdir(parents=True)
            for number in range(FILES):
                (place / "d" / f"{number:03d}").write_text(f"{word} {number}")
                (place / "d" / "e" / f"{number:03d}").write_text(f"{word} deeper {number}")
            (place / "file").write_text(f"{word} file")
        (self.secret / "srv" / "d" / "name-of-a-secret").write_text("SECRET too")
        self.agent = RunningAgent(base / "agent", rsync=str(self.wrapper()), max_sessions=4)
        self.agent.module("srv", self.module)
        self.agent.start()
        self.puller = Puller(base / "collector", self.agent.collector)
        self.hosts: list[str] = []

    def wrapper(self) -> Path:
        """What the agent runs as rsync: with a file `swap` beside it, the pair in there changes places meanwhile."""
        place = self.base / "rsync"
        swap = self.base / "swap"
        place.write_text(
            f"#!{sys.executable} -S\n"
            "import os, subprocess, sys\n"
            f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
            "from tests.support.swap import exchange\n"
            f"if '--daemon' not in sys.argv or not os.path.exists({str(swap)!r}):\n"
            "    os.execvp('rsync', ['rsync', *sys.argv[1:]])\n"
            f"pair = open({str(swap)!r}).read().split()\n"
            "exchange(*pair)\n"
            "try:\n"
            "    code = subprocess.run(['rsync', *sys.argv[1:]], close_fds=False).returncode\n"
            "finally:\n"
            "    exchange(*pair)\n"
            "sys.exit(code)\n"
        )
        place.chmod(0o755)
        return place

    def link(self, name: Path, target: str | Path) -> Path:
        """A link of a local user's: what root makes where nobody else can write counts as meant."""
        name.symlink_to(target)
        if os.geteuid() == 0:
            os.lchown(name, 65534, 65534)
        return name

    def pull(self) -> PullReport | BackupError:
        """A whole pull, as of a host that was never seen."""
        host = f"web{len(self.hosts)}"
        self.hosts.append(host)
        client = self.puller.client(self.agent.address, self.agent.certificate_pem, host=host)
        try:
            return self.puller.pull(client, "srv", share=False)
        except BackupError as error:
            return error
        finally:
            client.close()

    def secrets(self) -> set[str]:
        found = {path for path in self.secret.rglob("*") if path.is_file()}
        return {hashlib.sha256(path.read_bytes()).hexdigest() for path in found}

    def check(self, ends: list[PullReport | BackupError]) -> None:
        """Nothing secret is anywhere, and every end is told in words, with the paths."""
        store = self.puller.store
        for digest in self.secrets():
            assert not store.objects.place(digest).exists()
        ours = os.fsencode(self.module)[1:]
        for host in self.hosts:
            for snapshot in store.snapshots(host, "srv"):
                for entry in store.entries(snapshot):
                    assert entry.sha256 not in self.secrets()
                    assert b"secret" not in entry.path
                    assert ours.startswith(entry.path) or entry.path.startswith(ours + b"/")
        for end in ends:
            if isinstance(end, BackupError):
                assert end.cause
                assert end.exit_code in (5, 6, 8)
            else:
                assert all(problem.path and problem.message for problem in end.problems)
        assert list((store.path / "incoming").iterdir()) == []

    def settled(self) -> None:
        """Once it is quiet, the next pull brings everything."""
        end = self.pull()
        assert isinstance(end, PullReport)
        assert (end.outcome, end.problems) == (Outcome.COMPLETE, ())
        entries = self.puller.entries("srv", host=self.hosts[-1])
        contents = {self.puller.content(entry) for entry in entries.values() if entry.sha256}
        assert contents == {
            path.read_bytes() for path in self.module.rglob("*") if path.is_file() and not path.is_symlink()
        }

    def close(self) -> None:
        self.puller.close()
        self.agent.stop()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_left_alone_it_is_complete(world):
    world.settled()


@pytest.mark.parametrize("relative", [True, False], ids=["relative", "absolute"])
def test_directories_and_files_that_are_swapped_for_links_bring_nothing_from_outside(world, relative):
    def target(name: str, depth: int) -> str:
        return "../" * depth + f"secret/srv/{name}" if relative else f"{world.secret}/srv/{name}"

    pairs = [
        (world.module / "d", world.link(world.module / "d.other", target("d", 2))),
        (world.module / "file", world.link(world.module / "file.other", target("file", 2))),
    ]
    with swapping(*pairs):
        ends = [world.pull() for _ in range(ROUNDS)]
    world.check(ends)
    world.settled()


@pytest.mark.parametrize("relative", [True, False], ids=["relative", "absolute"])
@pytest.mark.parametrize("level", ["the root", "above the root"])
def test_a_root_or_what_is_above_it_that_is_swapped_for_a_link_brings_nothing_from_outside(world, relative, level):
    name, inside = (world.module, "/srv") if level == "the root" else (world.top, "")
    target = os.path.relpath(world.secret, name.parent) if relative else str(world.secret)
    with swapping((name, world.link(name.with_name(name.name + ".other"), target + inside))):
        ends = [world.pull() for _ in range(ROUNDS)]
    world.check(ends)
    world.settled()


def test_a_directory_that_is_swapped_for_a_link_to_the_one_above_it_does_not_go_round(world):
    with swapping((world.module / "d" / "e", world.link(world.module / "d" / "loop", ".."))):
        ends = [world.pull() for _ in range(ROUNDS // 2)]
    world.check(ends)
    world.settled()


@pytest.mark.parametrize("what", ["d", "d/e", "file"])
def test_what_was_swapped_just_for_the_transfer_is_delivered_and_not_taken(world, what):
    """As an rsync does that follows what it was led to: it sends the other files, under the right names."""
    other = world.base / "host" / "copy"
    if (world.secret / "srv" / what).is_dir():
        shutil.copytree(world.secret / "srv" / what, other)
    else:
        shutil.copy(world.secret / "srv" / what, other)
    (world.base / "swap").write_text(f"{world.module / what} {other}")
    end = world.pull()
    assert isinstance(end, PullReport)
    world.check([end])
    inside = os.fsencode(world.module / what)[1:]
    assert end.problems
    assert all(path == inside or path.startswith(inside + b"/") for path in (problem.path for problem in end.problems))
    assert all("its content is not taken" in problem.message for problem in end.problems)
    assert end.counts.sent_files == 2 * FILES + 1 - len(end.problems)
    (world.base / "swap").unlink()
    world.settled()
