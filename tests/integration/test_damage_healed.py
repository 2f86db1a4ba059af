"""What damage in the store means for the pulls that follow: contents come again, damaged snapshots are passed by."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.pull.report import Outcome
from pyrsyncbackup_collector.store.snapshot import DAMAGED
from pyrsyncbackup_collector.store.verify import Scope, verify

from tests.support.agent import RunningAgent
from tests.support.anybody import let_through
from tests.support.puller import Puller
from tests.support.vault import flip
from tests.support.versions import versions


class World:
    """A directory on a host, its agent, and a collector that knows it by two names."""

    def __init__(self, base: Path) -> None:
        self.top = base / "host" / "srv"
        self.top.mkdir(parents=True)
        self.agent = RunningAgent(base / "agent")
        self.agent.module("srv", self.top)
        self.agent.start()
        self.puller = Puller(base / "collector", self.agent.collector)
        self.store, self.catalog = self.puller.store, self.puller.catalog
        self.clients = {
            host: self.puller.client(self.agent.address, self.agent.certificate_pem, host) for host in ("web1", "web2")
        }

    def pull(self, host: str = "web1"):
        return self.puller.pull(self.clients[host], "srv")

    def object(self, content: bytes) -> Path:
        return self.store.objects.place(hashlib.sha256(content).hexdigest())

    def lose(self, content: bytes) -> None:
        """What the chore does about a missing object."""
        place = self.object(content)
        place.unlink()
        digest = hashlib.sha256(content).hexdigest()
        assert self.catalog.damage_found(digest, "missing", "its file is not there", lambda: not place.exists())

    def manifest(self, number: int) -> Path:
        directory = self.puller.base / "store" / "manifests" / "web1" / "srv"
        return next(directory.glob(f"{number:06d}-*.zst"))

    def names(self) -> list[tuple[int, str]]:
        return [(each.sequence, each.state) for each in self.store.snapshots("web1", "srv")]

    def close(self) -> None:
        for client in self.clients.values():
            client.close()
        self.puller.close()
        self.agent.stop()


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    let_through(made.top)
    for number in range(40):
        (made.top / f"{number:02}").write_text(f"number {number}\n")
    yield made
    made.close()


def contents(world: World) -> set[bytes]:
    entries = world.puller.entries("srv").values()
    return {world.puller.content(entry) for entry in entries if entry.sha256}


def test_a_lost_content_comes_again_without_a_new_snapshot(world):
    world.pull()
    world.lose(b"number 7\n")
    assert world.catalog.lost("web1", "srv") == {hashlib.sha256(b"number 7\n").hexdigest()}
    report = world.pull()
    assert (report.outcome, report.snapshot, report.counts.sent_files) == (Outcome.UNCHANGED, None, 1)
    assert (world.catalog.lost("web1", "srv"), world.catalog.damage()) == (set(), [])
    assert len(contents(world)) == 40


def test_a_lost_content_that_a_host_had_claimed_may_come_from_any_host(world):
    world.pull()
    assert world.pull("web2").counts.claimed_files == 40
    world.lose(b"number 7\n")
    assert [(each.host, len(each.snapshots)) for each in world.catalog.damage()] == [("web1", 1), ("web2", 1)]
    report = world.pull("web2")
    assert (report.outcome, report.counts.sent_files) == (Outcome.UNCHANGED, 1)
    assert world.catalog.damage() == []
    assert world.pull().counts.sent_files == 0


def test_a_lost_content_is_not_claimed_by_a_host_that_is_new(world):
    world.pull()
    world.lose(b"number 7\n")
    report = world.pull("web2")
    assert (report.counts.claimed_files, report.counts.sent_files) == (39, 1)
    assert world.catalog.damage() == []


def test_a_lost_content_of_an_old_snapshot_alone_stays_told_until_somebody_has_it_again(world):
    (world.top / "07").write_text("of old\n")
    world.pull()
    (world.top / "07").write_text("of today\n")
    world.pull()
    world.lose(b"of old\n")
    assert world.catalog.lost("web1", "srv") == set()
    assert [each.snapshots[0].split("@")[1][:6] for each in world.catalog.damage()] == ["000001"]
    assert world.pull().outcome is Outcome.UNCHANGED
    assert len(world.catalog.damage()) == 1
    (world.top / "new").write_text("of old\n")
    world.pull()
    assert world.catalog.damage() == []


@pytest.mark.parametrize("what", ["flipped", "cut", "emptied", "swapped with a sound one"])
def test_a_full_snapshot_is_made_in_place_of_a_newest_one_that_is_damaged(world, what):
    world.pull()
    (world.top / "07").write_text("changed\n")
    (world.top / "08").unlink()
    world.pull()
    newest = world.manifest(2)
    if what == "flipped":
        flip(newest)
    elif what == "cut":
        newest.write_bytes(newest.read_bytes()[:-5])
    elif what == "emptied":
        newest.write_bytes(b"")
    else:
        data = world.manifest(1).read_bytes()
        newest.write_bytes(data)
    (world.top / "09").write_text("changed too\n")
    report = world.pull()
    assert (report.outcome, report.snapshot.base) == (Outcome.COMPLETE, None)
    assert "is damaged: a full one was made in its place" in report.note
    # Everything is known: it is claimed, but for what changed.
    assert report.counts.sent_files == 1
    assert [number for number, _ in world.names()] == [1, 2, 3]
    assert world.names()[2] == (3, "complete")
    # Of one whose end alone is cut off the header can be read: that it is not sound says `verify`.
    assert world.names()[1] == (2, "complete" if what == "cut" else DAMAGED)
    assert len(contents(world)) == 39
    # In the catalog what is gone has ended, and all else is current; a content counts as claimed from now on.
    after = history(world)
    assert [path[-3:] for path in after if after[path][-1][1] is not None] == [b"/08"]
    assert after[next(path for path in after if path.endswith(b"/08"))] == [(1, 2)]
    assert world.pull().outcome is Outcome.UNCHANGED


def history(world: World) -> dict[bytes, list[tuple[int, int | None]]]:
    prefix = os.fsencode(world.top)[1:]
    paths = [prefix + b"/%02d" % number for number in range(40)]
    return {path: [(v.begin, v.end) for v in versions(world.catalog, "web1", "srv", path)] for path in paths}


@pytest.mark.parametrize("how", ["removed", "flipped"])
def test_a_full_snapshot_is_made_where_the_base_of_the_newest_is_damaged_or_gone(world, how):
    world.pull()
    (world.top / "07").write_text("changed\n")
    assert world.pull().snapshot.base is not None
    if how == "removed":
        world.manifest(1).unlink()
    else:
        flip(world.manifest(1))
    report = world.pull()
    assert (report.outcome, report.snapshot.base, report.counts.sent_files) == (Outcome.COMPLETE, None, 0)
    assert len(contents(world)) == 40
    assert world.pull().outcome is Outcome.UNCHANGED


def test_a_damaged_newest_snapshot_that_did_not_reach_the_catalog_keeps_nobody_from_starting(world):
    world.pull()
    (world.top / "07").write_text("changed\n")
    copy = world.puller.base / "copy.sqlite"
    world.catalog.close()
    copy.write_bytes((world.puller.base / "catalog.sqlite").read_bytes())
    world.puller.catalog = world.catalog = Catalog.open(world.puller.base / "catalog.sqlite", world.store.id)
    world.puller.tools = type(world.puller.tools)(
        world.store, world.catalog, world.puller.tools.sandbox, world.puller.clock
    )
    world.pull()
    world.manifest(2).write_bytes(b"")
    with Catalog.open(copy, world.store.id) as old:
        assert [each.state for each in old.check_against(world.store)] == [DAMAGED]
        assert [each.sequence for each in old.snapshots("web1", "srv")] == [1, 2]


def test_a_lost_chunk_brings_the_whole_content_again(world):
    (world.top / "large").write_bytes(os.urandom(40 << 20))
    world.pull()
    entry = next(entry for path, entry in world.puller.entries("srv").items() if path.endswith(b"/large"))
    assert entry.chunks
    with world.store.objects.open(entry.chunks) as listed:
        chunk = json.loads(listed.readlines()[3])["sha256"]
    place = world.store.objects.place(chunk)
    place.unlink()
    (found,) = verify(world.store, Scope(), signed=False, watch=lambda *_: None).findings
    assert (found.kind, found.name, found.needing.count) == ("missing", chunk, 1)
    assert world.catalog.damage_found(chunk, "missing", "its file is not there", lambda: True)
    assert world.catalog.lost("web1", "srv") == {entry.sha256}
    report = world.pull()
    assert (report.outcome, report.counts.sent_files) == (Outcome.UNCHANGED, 1)
    assert place.exists()
    assert world.catalog.damage() == []
    assert verify(world.store, Scope(), signed=False, watch=lambda *_: None).sound
