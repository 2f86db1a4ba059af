"""Restores beside `rsync -a` from a plain copy, and archives: `python -m tests.bench [restore tar]`.

Cases: restore (100,000 small files, and 1 GiB of random data, into a new directory), tar (both as an archive, to
/dev/null). A JSON line each: seconds, and the ratio to rsync in the same run, of which the best of some rounds counts;
CPU seconds of all threads and processes beside it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.store import filling
from pyrsyncbackup_collector.store.archive import write_archive
from pyrsyncbackup_collector.store.objects import Ingested
from pyrsyncbackup_collector.store.restore import restore
from pyrsyncbackup_collector.store.snapshot import Change, Snapshot
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.store.tar import TarWriter

from tests.bench import data
from tests.support import tree

ROUNDS: Final = 3


class _Ingesting(tree.Contents):
    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def add(self, content: bytes) -> str | Ingested:
        file = os.memfd_create("content")
        try:
            filling.write(file, content)
            os.lseek(file, 0, os.SEEK_SET)
            return self._store.objects.ingest(file, 1 << 40)
        finally:
            os.close(file)


class Cost(NamedTuple):
    """Seconds by the clock, and of all processors."""

    wall: float
    cpu: float


def best(costs: list[Cost]) -> Cost:
    """The least of each: others use the machine too."""
    return Cost(min(cost.wall for cost in costs), min(cost.cpu for cost in costs))


class Scene:
    """A plain copy and a store with the same data."""

    def __init__(self, base: Path, make: Callable[[Path], object]) -> None:
        self.base = base
        self.plain = base / "plain"
        self.plain.mkdir()
        make(self.plain)
        Store.create(base / "store")
        self.store = Store.open(base / "store", lock=True)
        entries: list[Entry] = list(tree.read(self.plain, _Ingesting(self.store)))
        self.size = sum(entry.size for entry in entries)
        changes = [Change(entry.path, entry) for entry in entries]
        self.snapshot: Snapshot = self.store.commit(
            "web1", "data", time=1.79e9, state="complete", changes=changes, previous=None
        )

    def timed(self, work: Callable[[], object], made: Path | None = None) -> Cost:
        if made is not None and made.exists():
            shutil.rmtree(made)
        os.sync()
        begin, spent = time.perf_counter(), sum(os.times()[:4])
        work()
        return Cost(time.perf_counter() - begin, sum(os.times()[:4]) - spent)


KINDS: Final[dict[str, Callable[[Path], object]]] = {
    "100,000 files": lambda top: data.small_files(top, 100_000),
    "1 GiB": lambda top: data.large_file(top / "large", 1 << 30),
}


def _restore(scene: Scene, kind: str) -> None:
    ours, theirs = scene.base / "ours", scene.base / "theirs"
    rsync = ["rsync", "-a", f"{scene.plain}/", f"{theirs}/"]
    costs: dict[str, list[Cost]] = {"ours": [], "rsync": []}
    for _ in range(ROUNDS):
        costs["rsync"].append(scene.timed(lambda: subprocess.run(rsync, check=True), theirs))
        costs["ours"].append(scene.timed(lambda: _restored(scene, ours), ours))
    mine, rsyncs = best(costs["ours"]), best(costs["rsync"])
    ratios = {"ratio": round(mine.wall / rsyncs.wall, 2), "cpu_ratio": round(mine.cpu / rsyncs.cpu, 2)}
    _tell("restore", kind, mine, rsync_s=round(rsyncs.wall, 2), rsync_cpu_s=round(rsyncs.cpu, 2), **ratios)


def _restored(scene: Scene, target: Path) -> None:
    report = restore(scene.store.entries(scene.snapshot), scene.store.objects, target)
    if not report.complete:
        raise SystemExit("\n".join(report.lines()))


def _tar(scene: Scene, kind: str) -> None:
    costs = []
    for _ in range(ROUNDS):
        with open(os.devnull, "wb", buffering=0) as sink:
            costs.append(scene.timed(lambda sink=sink: _archived(scene, TarWriter(sink))))
    least = best(costs)
    _tell("tar", kind, least, mb_per_s=round(scene.size / 1e6 / least.wall))


def _archived(scene: Scene, writer: TarWriter) -> None:
    report = write_archive(scene.store.entries(scene.snapshot), scene.store.objects, writer).report(Path("-"))
    if not report.complete:
        raise SystemExit("\n".join(report.lines()))


def _tell(bench: str, kind: str, cost: Cost, **more: object) -> None:
    line = {"bench": bench, "data": kind, "wall_s": round(cost.wall, 2), "cpu_s": round(cost.cpu, 2), **more}
    print(json.dumps(line), flush=True)


CASES: Final[dict[str, Callable[[Scene, str], None]]] = {"restore": _restore, "tar": _tar}


def main(cases: list[str]) -> None:
    """Measure the cases, over each kind of data."""
    for kind, make in KINDS.items() if cases else ():
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as base:
            scene = Scene(Path(base), make)
            try:
                for case in cases:
                    CASES[case](scene, kind)
            finally:
                scene.store.close()
