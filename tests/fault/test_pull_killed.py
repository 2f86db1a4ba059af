"""SIGKILL for a collector at every point of a pull: nothing half is seen, nothing is lost, the next pull goes on."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pyrsyncbackup_collector.pull.report import Outcome
from pyrsyncbackup_collector.store.commit import STEPS
from pyrsyncbackup_collector.store.snapshot import Snapshot

from tests.support.agent import RunningAgent
from tests.support.orphans import adopted, descendants
from tests.support.puller import Puller
from tests.support.waiting import until

FILES = 60
WINDOW = 15

POINTS = [
    "list",
    "transfer",
    "commit",
    "data 1",
    "data 4",
    "session.hash before 1",
    "session.hash after 2",
    "session.transfer before 1",
    "fetcher.fetch after 1",
    "fetcher.fetch before 3",
    "catalog.pin_claimable after 1",
    "objects.ingest before 1",
    "objects.ingest after 20",
    "objects.sync before 1",
    "objects.sync after 2",
    "catalog.record_objects before 2",
    "catalog.record_objects after 1",
    "catalog.record_objects after 3",
    *(f"step {name}" for name in STEPS),
    "catalog.commit before 1",
    "catalog.commit after 1",
    "catalog.unpin before 1",
]
# Points from which on the snapshot exists.
PUBLISHED = {*(f"step {name}" for name in STEPS[STEPS.index("link") + 1 :])}
PUBLISHED |= {"catalog.commit before 1", "catalog.commit after 1", "catalog.unpin before 1"}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    with RunningAgent(tmp_path_factory.mktemp("agent")) as running:
        yield running


class Scene:
    """A directory that is a module, and the base of a collector that is killed again and again."""

    def __init__(self, base: Path, agent: RunningAgent, seed: int) -> None:
        self.top = base / "srv"
        self.base = base / "collector"
        self.agent = agent
        self.random = random.Random(seed)
        self.module = "srv"
        (self.top / "sub").mkdir(parents=True)
        for number in range(FILES):
            self.write(number)
        agent.module("srv", self.top)

    def write(self, number: int) -> None:
        """A file that differs from all others."""
        place = self.top / ("sub" if number % 3 else ".") / f"{number:03}"
        place.write_bytes(self.random.randbytes(self.random.randrange(1, 40_000)))

    def change(self) -> set[str]:
        """Change most files, remove two, add one that was sent before under another name; digests of what is new."""
        before = set(self.digests().values())
        (self.top / "000").unlink()
        (self.top / "sub" / "001").rename(self.top / "renamed")
        for number in range(2, FILES):
            if self.random.random() < 0.9:
                self.write(number)
        return set(self.digests().values()) - before

    def digests(self) -> dict[bytes, str]:
        """Digest of each file by its path in entries."""
        files = (path for path in self.top.rglob("*") if path.is_file())
        return {os.fsencode(path)[1:]: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def child(self, point: str, sandbox: str = "bubblewrap", bwlimit: int = 0) -> subprocess.Popen[str]:
        """A process that pulls once and dies at `point`."""
        asked = {
            "point": point,
            "sandbox": sandbox,
            "base": str(self.base),
            "identity": str(self.agent.base / "collector-identity"),
            "address": self.agent.address,
            "certificate": str(self.agent.base / "state" / "identity" / "certificate.pem"),
            "module": self.module,
            "window": WINDOW,
            "bwlimit": bwlimit,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.pull_child", json.dumps(asked)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def reopened(self) -> Puller:
        """The collector after its start put everything in order."""
        puller = Puller(self.base, self.agent.collector)
        assert puller.store.reconcile().faults == []
        puller.catalog.check_against(puller.store)
        puller.catalog.recover()
        return puller


@pytest.fixture(params=[1, 2])
def scene(tmp_path: Path, agent: RunningAgent, request: pytest.FixtureRequest) -> Scene:
    return Scene(tmp_path, agent, request.param)


def contents(puller: Puller, snapshot: Snapshot) -> dict[bytes, str]:
    """Read a whole snapshot with every content; digests by path."""
    found = {}
    for entry in puller.store.entries(snapshot, verify=True):
        if entry.type == "file":
            assert (entry.stale, entry.changing, entry.error) == (False, False, ""), entry
            found[entry.path] = hashlib.sha256(puller.content(entry)).hexdigest()
            assert found[entry.path] == entry.sha256
    return found


def recorded(puller: Puller) -> set[str]:
    """All digests that the catalog calls objects, each of which must be one."""
    with closing(sqlite3.connect(puller.base / "catalog.sqlite")) as raw:
        digests = {row[0].hex() for row in raw.execute("SELECT sha256 FROM objects")}
    for digest in digests:
        with puller.store.objects.open(digest) as source:
            assert hashlib.sha256(source.read()).hexdigest() == digest
    return digests


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_in_a_pull(scene: Scene, point: str) -> None:
    with Puller(scene.base, scene.agent.collector) as puller:
        client = puller.client(scene.agent.address, scene.agent.certificate_pem)
        assert puller.pull(client, "srv").outcome is Outcome.COMPLETE
        client.close()
    first = scene.digests()
    new = scene.change()
    with adopted() as none_is_left:
        child = scene.child(point)
        out, err = child.communicate(timeout=200)
        assert child.returncode == -signal.SIGKILL, out + err
        none_is_left()
    until(lambda: not descendants(scene.agent.pid), what="the end of the agent's rsync")
    with scene.reopened() as puller:
        snapshots = puller.store.snapshots("web1", "srv")
        assert len(snapshots) == (2 if point in PUBLISHED else 1)
        assert contents(puller, snapshots[0]) == first
        if point in PUBLISHED:
            assert contents(puller, snapshots[1]) == scene.digests()
        kept = recorded(puller)
        client = puller.client(scene.agent.address, scene.agent.certificate_pem)
        report = puller.pull(client, "srv")
        client.close()
        assert report.counts.sent_files == len(new - kept)
        snapshots = puller.store.snapshots("web1", "srv")
        assert [contents(puller, one) for one in snapshots] == [first, scene.digests()]
        assert new <= recorded(puller)
        assert list((scene.base / "store" / "incoming").iterdir()) == []
        assert list((scene.base / "store").rglob(".tmp-*")) == []
