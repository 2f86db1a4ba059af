"""SIGKILL and a full disk while a large content is cut: nothing half is named, and the next pull goes on."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.errors import StoreFull
from pyrsyncbackup_collector.pull.report import Outcome

from tests.support.agent import RunningAgent
from tests.support.estate import Content, Estate
from tests.support.orphans import adopted, descendants
from tests.support.puller import Puller
from tests.support.waiting import until

MIB = 1 << 20
SIZE = 40 * MIB


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    with RunningAgent(tmp_path_factory.mktemp("agent")) as running:
        yield running


def whole(puller: Puller) -> list[str]:
    """Read every snapshot, and every object that the catalog knows; the digests of the file in each snapshot."""
    with puller.catalog._database.reading() as raw:
        rows = raw.execute("SELECT lower(hex(sha256)), size FROM objects WHERE chunks IS NULL").fetchall()
    for digest, size in rows:
        puller.store.objects.read(digest, size)
    found = []
    for snapshot in puller.store.snapshots("web1", "srv"):
        (entry,) = (e for e in puller.store.entries(snapshot, verify=True) if e.path.endswith(b"/large"))
        assert hashlib.sha256(puller.content(entry)).hexdigest() == entry.sha256
        found.append(entry.sha256)
    return found


@pytest.mark.parametrize(
    "point",
    [
        "objects._write before 3",
        "objects._write after 5",
        "objects.ingest after 1",
        "catalog.pin_known after 4",
        "catalog.record_objects before 1",
        "catalog.record_objects after 1",
        "catalog.lists after 1",
    ],
)
def test_killed_while_a_large_file_is_cut(tmp_path: Path, agent: RunningAgent, point: str) -> None:
    top = tmp_path / "srv"
    top.mkdir()
    chance = random.Random(6)
    content = chance.randbytes(SIZE)
    (top / "large").write_bytes(content)
    agent.module("srv", top)
    with Puller(tmp_path / "collector", agent.collector) as puller:
        client = puller.client(agent.address, agent.certificate_pem)
        puller.pull(client, "srv")
        client.close()
        (first,) = whole(puller)
    changed = content[: 10 * MIB] + chance.randbytes(8 * MIB) + content[18 * MIB :]
    (top / "large").write_bytes(changed)
    asked = {
        "point": point,
        "sandbox": "bubblewrap",
        "base": str(tmp_path / "collector"),
        "identity": str(agent.base / "collector-identity"),
        "address": agent.address,
        "certificate": str(agent.base / "state" / "identity" / "certificate.pem"),
        "module": "srv",
        "window": 10,
        "bwlimit": 0,
    }
    with adopted() as none_is_left:
        child = subprocess.run(
            [sys.executable, "-m", "tests.support.pull_child", json.dumps(asked)],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        assert child.returncode == -signal.SIGKILL, child.stdout + child.stderr
        none_is_left()
    until(lambda: not descendants(agent.pid), what="the end of the agent's rsync")
    with Puller(tmp_path / "collector", agent.collector) as puller:
        assert puller.store.reconcile().faults == []
        puller.catalog.check_against(puller.store)
        puller.catalog.recover()
        assert whole(puller) == [first]
        client = puller.client(agent.address, agent.certificate_pem)
        assert puller.pull(client, "srv").outcome is Outcome.COMPLETE
        client.close()
        assert whole(puller) == [first, hashlib.sha256(changed).hexdigest()]
        assert list((tmp_path / "collector" / "store").rglob(".tmp-*")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_store_that_is_full_in_the_middle_of_a_large_content_goes_on_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", disk], check=True, capture_output=True)
    try:
        estate = Estate(disk)
        first, second = (random.Random(seed).randbytes(SIZE) for seed in (7, 8))
        estate.pull("web1", "srv", {b"large": Content(first)})
        filler = disk / "filler"
        filler.write_bytes(bytes(30 * MIB))
        with pytest.raises(StoreFull, match="No space left"):
            estate.pull("web1", "srv", {b"large": Content(second)})
        assert estate.catalog.known({hashlib.sha256(second).hexdigest()}) == {}
        assert list(disk.rglob(".tmp-*")) == []
        filler.unlink()
        estate.pull("web1", "srv", {b"large": Content(second)})
        for snapshot, content in zip(estate.store.snapshots("web1", "srv"), (first, second), strict=True):
            (entry,) = estate.store.entries(snapshot, verify=True)
            assert estate.store.objects.read_entry(entry) == content
        estate.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
