"""Large files: kept in chunks, and what changes in one costs about what changed, on the wire and in the store."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.pull.report import Outcome, PullReport
from pyrsyncbackup_collector.store.restore import restore

from tests.support.agent import RunningAgent
from tests.support.puller import Puller

MIB = 1 << 20
SIZE = 64 * MIB


class World:
    """A large file on a host, its agent, and a collector."""

    def __init__(self, base: Path) -> None:
        self.top = base / "host"
        self.top.mkdir()
        self.file = self.top / "large"
        self.chance = random.Random(5)
        self.file.write_bytes(self.chance.randbytes(SIZE))
        self.agent = RunningAgent(base / "agent")
        self.agent.module("srv", self.top)
        self.agent.start()
        self.puller = Puller(base / "collector", self.agent.collector)
        self.client = self.puller.client(self.agent.address, self.agent.certificate_pem)

    def pull(self) -> PullReport:
        report = self.puller.pull(self.client, "srv")
        assert (report.outcome, report.problems) == (Outcome.COMPLETE, ())
        return report

    def entry(self, name: str = "large", host: str = "web1") -> Entry:
        return self.puller.entries("srv", host)[os.fsencode(self.top / name)[1:]]

    def stored(self) -> int:
        """Bytes of all objects."""
        return sum(path.stat().st_size for path in self.puller.store.objects.path.rglob("*") if path.is_file())

    def close(self) -> None:
        self.client.close()
        self.puller.close()
        self.agent.stop()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_a_change_in_a_large_file_costs_what_changed(world: World) -> None:
    first = world.pull()
    assert first.counts.wire_bytes >= SIZE
    versions = [(world.entry(), world.file.read_bytes())]
    for change in ("in the middle", "inserted at the front", "appended", "cut off"):
        content = world.file.read_bytes()
        new = world.chance.randbytes(MIB)
        world.file.write_bytes(
            {
                "in the middle": content[: 20 * MIB] + new + content[21 * MIB :],
                "inserted at the front": new + content,
                "appended": content + new,
                "cut off": content[: -3 * MIB],
            }[change]
        )
        before = world.stored()
        report = world.pull()
        assert report.counts.wire_bytes < 2 * MIB, change
        assert world.stored() - before < 8 * MIB, change
        versions.append((world.entry(), world.file.read_bytes()))
    for entry, content in versions:
        assert entry.chunks
        assert not world.puller.store.objects.place(entry.sha256).exists()
        assert world.puller.content(entry) == content


def test_a_large_content_is_claimed_with_its_chunks(world: World) -> None:
    for directory in (world.top, *world.top.parents[:-1]):
        directory.chmod(directory.stat().st_mode | 0o055)
    world.file.chmod(0o644)
    (world.top / "private").write_bytes(world.chance.randbytes(40 * MIB))
    (world.top / "private").chmod(0o600)
    world.pull()
    other = world.puller.client(world.agent.address, world.agent.certificate_pem, host="web2")
    before = world.stored()
    report = world.puller.pull(other, "srv")
    other.close()
    assert (report.counts.claimed_files, report.counts.sent_files) == (1, 1)
    claimed, sent = world.entry(host="web2"), world.entry("private", host="web2")
    assert (claimed.claimed, claimed.chunks) == (True, world.entry().chunks)
    # What nobody may claim is sent in whole, and takes no room a second time.
    assert (sent.claimed, sent.chunks) == (False, world.entry("private").chunks)
    assert report.counts.wire_bytes >= 40 * MIB
    assert world.stored() == before
    assert world.puller.content(claimed) == world.file.read_bytes()


def test_a_large_file_moved_linked_and_touched_keeps_its_chunks(world: World) -> None:
    world.pull()
    chunks = world.entry().chunks
    os.link(world.file, world.top / "link")
    world.file.rename(world.top / "moved")
    assert world.pull().counts.sent_files == 0
    assert world.entry("link").chunks == world.entry("moved").chunks == chunks
    os.utime(world.top / "link", ns=(1, 1))
    assert world.pull().counts.sent_files == 0
    assert world.entry("link").chunks == chunks


@pytest.mark.parametrize("what", ["a chunk", "the list"])
def test_a_damaged_old_version_is_no_basis_and_what_is_missing_is_written_again(world: World, what: str) -> None:
    world.pull()
    entry = world.entry()
    objects = world.puller.store.objects
    chunks = list(objects.chunks_of(entry))
    objects.place(chunks[10].sha256 if what == "a chunk" else entry.chunks).unlink()
    content = world.file.read_bytes() + b"more"
    world.file.write_bytes(content)
    assert world.pull().counts.wire_bytes >= SIZE
    assert world.puller.content(world.entry()) == content
    if what == "a chunk":
        assert world.puller.content(entry) == content[:-4]


def test_a_snapshot_of_large_files_is_restored(world: World, tmp_path: Path) -> None:
    sparse = world.top / "sparse"
    with sparse.open("wb") as file:
        file.seek(50 * MIB)
        file.write(b"in the middle")
        file.truncate(80 * MIB)
    world.pull()
    newest = world.puller.store.newest("web1", "srv")
    assert newest is not None
    restored = tmp_path / "restored"
    report = restore(world.puller.store.entries(newest), world.puller.store.objects, restored)
    assert report.lines() == []
    for file in (world.file, sparse):
        assert (restored / str(file)[1:]).read_bytes() == file.read_bytes()
    assert (restored / str(sparse)[1:]).stat().st_blocks * 512 < 10 * MIB
