"""Space and time of the same backups beside restic's, in turn, in one run: one JSON line a figure.

Usage: python -m tests.bench restic, in BENCH_DIR (default /var/tmp). Twenty hosts of 2,000 files in one repository,
five rounds with 1 % of the files changed. restic reads the trees where they are; ours come through agent, rsync, TLS.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.bench import data
from tests.bench.pulls import disk
from tests.bench.scene import Scene
from tests.support import copies

HOSTS, ROUNDS = 20, 5


@dataclass
class Spent:
    """Wall and processor seconds."""

    wall: float = 0.0
    cpu: float = 0.0

    def on(self, work: Callable[[], object], host: Callable[[], float] = float) -> None:
        os.sync()
        before = time.perf_counter(), cpu() + host()
        work()
        self.wall += time.perf_counter() - before[0]
        self.cpu += cpu() + host() - before[1]

    def line(self) -> dict[str, float]:
        return {"wall_s": round(self.wall, 2), "cpu_s": round(self.cpu, 2)}


def cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def length(top: Path) -> int:
    """Bytes of all files below `top`, as ls counts."""
    return sum(path.lstat().st_size for path in top.rglob("*") if path.is_file())


def beside(scene: Scene) -> None:
    """Five rounds of both."""
    environment = {**os.environ, "RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": str(scene.base / "cache")}
    repository = scene.base / "restic"

    def restic(*words: str) -> None:
        argv = ["restic", "--repo", str(repository), "--quiet", *words]
        subprocess.run(argv, check=True, env=environment, stdin=subprocess.DEVNULL)

    restic("init")
    trees = [scene.base / "space" / f"host{number}" for number in range(HOSTS)]
    for number, tree in enumerate(trees):
        data.host_tree(tree, number)
        scene.agent.module(f"s{number}", tree)
    clients = [scene.direct(f"space{number}") for number in range(HOSTS)]
    target = copies.directory(scene.base / "copy")
    copies.make(target, scene.puller.store)
    ours, theirs, copying = Spent(), Spent(), Spent()
    for round_number in range(ROUNDS + 1):
        if round_number == 1:
            report("first backup of 20 hosts", scene, repository, ours, theirs, copying)
            ours, theirs, copying = Spent(), Spent(), Spent()
        for number, tree in enumerate(trees):
            if round_number:
                data.change(tree, 0.01, f"{round_number}-{number}")
            client, module = clients[number], f"s{number}"
            ours.on(lambda client=client, module=module: scene.puller.pull(client, module))  # type: ignore[misc]
            theirs.on(lambda tree=tree, number=number: restic("backup", "--host", f"h{number}", str(tree)))  # type: ignore[misc]
        copying.on(lambda: copies.replicate(scene.puller.store, target))
    report("5 rounds with 1 % changed", scene, repository, ours, theirs, copying)
    target.close()


def report(case: str, scene: Scene, repository: Path, ours: Spent, theirs: Spent, copying: Spent) -> None:
    store, plain = scene.puller.store.path, disk(scene.base / "space")
    parts = {name: store / name for name in ("objects", "manifests")}
    line = {
        "case": f"restic: {case}",
        "time_ratio": round(ours.wall / theirs.wall, 3),
        "space_ratio": round(disk(store) / disk(repository), 3),
        "goal": 1.0,
        "reached": ours.wall <= theirs.wall and disk(store) <= disk(repository),
        "ours": ours.line(),
        "restic": theirs.line(),
        "copy": copying.line(),
        "plain_bytes": plain,
        "ours_bytes": disk(store),
        "restic_bytes": disk(repository),
        "ours_length": length(store),
        "restic_length": length(repository),
        "catalog_bytes": sum(file.stat().st_size for file in scene.puller.base.glob("*.sqlite*")),
        "files": sum(1 for _ in store.rglob("*")),
        "parts": {name: {"bytes": disk(path), "length": length(path)} for name, path in parts.items()},
    }
    print(json.dumps(line), flush=True)


CASES = {"restic": beside}


def main(names: Iterable[str]) -> None:
    for name in names:
        with tempfile.TemporaryDirectory(prefix="b-", dir=os.environ.get("BENCH_DIR", "/var/tmp")) as directory:
            scene = Scene(Path(directory))
            try:
                CASES[name](scene)
            finally:
                scene.close()


if __name__ == "__main__":
    main(sys.argv[1:] or CASES)
