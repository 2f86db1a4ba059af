"""Pulls, prunes, collections, verification, drills, a second copy, pins and SIGKILL at random against each other.

Every kept snapshot is whole afterwards, in the store and in the copy.

TORTURE_SECONDS sets how long (default 120), TORTURE_SEED repeats the choices of a run; the seed is printed.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup import identity
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.rebuild import rebuild
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.store.garbage import Collector, Pace
from pyrsyncbackup_collector.store.restore import restore
from pyrsyncbackup_collector.store.store import Store

from tests.support.agent import RunningAgent
from tests.support.puller import Puller
from tests.support.torture_chores import Chores
from tests.support.waiting import until

SECONDS = float(os.environ.get("TORTURE_SECONDS", "120"))
SEED = int(os.environ.get("TORTURE_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
# The longest life of a process, in seconds; half of them end within a quarter of it.
LIFE = 6.0


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    with RunningAgent(tmp_path / "agent") as running:
        yield running


@pytest.mark.timeout(SECONDS + 600)
def test_every_kept_snapshot_is_whole_whatever_was_killed(tmp_path: Path, agent: RunningAgent) -> None:
    print(f"TORTURE_SEED={SEED}")
    rng = random.Random(SEED)
    base, data = tmp_path / "base", tmp_path / "data"
    data.mkdir()
    (data / "f0").write_bytes(b"first")
    agent.module("data", data)
    own = identity.load_or_create(tmp_path / "identity", "collector")
    agent.trust("collector", own.certificate_pem)
    (tmp_path / "agent.pem").write_bytes(agent.certificate_pem)
    asked = {
        "base": str(base),
        "data": str(data),
        "identity": str(tmp_path / "identity"),
        "address": agent.address,
        "certificate": str(tmp_path / "agent.pem"),
    }
    deadline = time.monotonic() + SECONDS
    lives = 0
    while time.monotonic() < deadline:
        lives += 1
        live(asked | {"seed": rng.randrange(1 << 32), "number": lives}, LIFE * rng.random() ** 2)
        if lives % 5 == 0:
            check_objects(base)
    prove(base)
    prove_copy(base)
    print(f"{lives} processes were killed")
    assert lives > 1


def live(asked: dict[str, object], seconds: float) -> None:
    """One process, killed after so long."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.torture_child", json.dumps(asked)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        try:
            ready = child.stdout.readline()
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            child.kill()
        assert child.stderr is not None
        said = child.stderr.read()
    assert (ready, child.returncode) == ("ready\n", -9), said


def check_objects(base: Path) -> int:
    """Read every content of every kept snapshot."""
    count = 0
    with Store.open(base / "store") as store:
        for host, module in store.modules():
            for snapshot in store.snapshots(host, module):
                for entry in store.entries(snapshot, verify=True):
                    if entry.sha256:
                        store.objects.read_entry(entry)
                        count += 1
    return count


def prove(base: Path) -> None:
    """All comes back, the catalog is what a new one would be, and nothing is left over."""
    clock = SystemClock()
    with Store.open(base / "store", lock=True) as store:
        store.reconcile()
        snapshots = [each for one in store.modules() for each in store.snapshots(*one)]
        assert snapshots
        for number, snapshot in enumerate(snapshots):
            target = base / "restored" / str(number)
            target.mkdir(parents=True, mode=0o700)
            report = restore(store.entries(snapshot, verify=True), store.objects, target)
            assert report.complete, report.lines()
            assert report.entries == snapshot.totals.entries
        with Catalog.open(base / "catalog.sqlite", store.id, verify=True) as live:
            live.check_against(store)
            live.recover()
            with rebuild(base / "rebuilt.sqlite", store).catalog as anew:
                assert facts(live) == facts(anew)
                assert names(anew) <= names(live)
            named = {e.sha256 for each in snapshots for e in store.entries(each) if e.sha256}

            def collected() -> bool:
                Collector(store.objects, live, Pace(0, clock, lambda _: None), 0.001, lambda *_: None).run()
                files = {f.parent.name + f.name for f in (base / "store/objects").glob("??/*")}
                return files == named

            until(collected, what="what nothing names to go")
            assert names(live) == named


def prove_copy(base: Path) -> None:
    """A round goes on where the killed ones ended; then all that the copy says it has comes back from it alone."""
    with Puller(base, identity.load_or_create(base / "again", "collector")) as puller:
        Chores(puller).do("replicate", {"names": ["second"], "full": True})
        kept = {(*one, each.name) for one in puller.store.modules() for each in puller.store.snapshots(*one)}
    with Store.open(base / "copy") as copy:
        copied = [each for one in copy.modules() for each in copy.snapshots(*one)]
        assert {(each.host, each.module, each.name) for each in copied} >= kept
        for number, snapshot in enumerate(copied):
            target = base / "from-copy" / str(number)
            target.mkdir(parents=True, mode=0o700)
            report = restore(copy.entries(snapshot, verify=True), copy.objects, target)
            assert report.complete, report.lines()
            assert report.entries == snapshot.totals.entries


def facts(catalog: Catalog) -> tuple[object, object]:
    """Snapshots and versions."""
    with catalog._database.reading() as raw:
        versions = raw.execute(
            "SELECT hosts.name, modules.name, path, from_seq, until_seq, type, mode, size, sha256, flags FROM versions "
            "JOIN modules ON modules.id = module_id JOIN hosts ON hosts.id = host_id ORDER BY 1, 2, 3, 4"
        ).fetchall()
    return catalog.snapshots(), versions


def names(catalog: Catalog) -> set[str]:
    """Objects with a row."""
    with catalog._database.reading() as raw:
        return {digest.hex() for (digest,) in raw.execute("SELECT sha256 FROM objects")}
