"""Checks and pulls beside plain `rsync -a -e ssh`, in turn, in one run, on the same data: one JSON line a figure.

Usage: python -m tests.bench.pulls [CASE...], in BENCH_DIR (default /var/tmp). `ratio` is ours by rsync's wall time,
`goal` what it should be at most.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.bench import data
from tests.bench.scene import Cost, Scene

REPEATS = 7


def report(case: str, ours: Cost, rsync: Cost, goal: float, **more: object) -> None:
    ratio = ours.wall / rsync.wall
    line = {"case": case, "ratio": round(ratio, 4), "goal": round(goal, 4), "reached": ratio <= goal}
    print(json.dumps({**line, "ours": ours.line(), "rsync": rsync.line(), **more}), flush=True)


def in_turn(repeats: int, ours: Callable[[int], Cost], rsync: Callable[[int], Cost]) -> tuple[Cost, Cost]:
    pairs = [(ours(number), rsync(number)) for number in range(repeats)]
    return Cost.median([pair[0] for pair in pairs]), Cost.median([pair[1] for pair in pairs])


def host_of_2000_files(scene: Scene) -> None:
    """Check, unchanged pull, one change, first pull, first pull of the next host."""
    tree = scene.base / "host1"
    data.host_tree(tree, 1)
    scene.agent.module("m2000", tree)
    plain = scene.base / "plain"
    client = scene.tunnel()
    ours, rsync = [], []
    for number in range(3):  # a fresh store each time: nothing known
        scene.puller.close()
        scene.puller = type(scene.puller)(scene.base / f"first{number}", scene.agent.collector)
        ours.append(scene.pull(client, "m2000")[0])
        shutil.rmtree(plain, ignore_errors=True)
        rsync.append(scene.rsync(tree, plain))
    report("first pull, 2000 files, nothing known", Cost.median(ours), Cost.median(rsync), 1.3)

    settle(scene, client, "m2000")
    again = in_turn(REPEATS, lambda _: scene.pull(client, "m2000")[0], lambda _: scene.rsync(tree, plain))
    report("unchanged pull, 2000 files", *again, 1 / 6)

    def check(_: int) -> Cost:
        known = scene.puller.catalog.memory("web1", "m2000").fingerprint
        seen = []
        cost = scene.cost(lambda: seen.append(client.modules(fingerprints=True, names=["m2000"])[0].fingerprint))
        assert seen[0].digest == known
        return cost

    checked = in_turn(REPEATS, check, lambda _: scene.rsync(tree, plain))
    report("unchanged check, 2000 files, route open", *checked, 1 / 25, collector_cpu_goal_s=0.002)

    def one_change(number: int) -> Cost:
        victim = tree / "d07" / "s3" / "file00007.conf"
        victim.write_text(f"changed {number}\n" * 50)
        cost, pulled = scene.pull(client, "m2000")
        assert pulled.counts.sent_files == 1
        return cost

    report("one file changed of 2000", *in_turn(REPEATS, one_change, lambda _: scene.rsync(tree, plain)), 1 / 3)

    other = scene.base / "host2"
    data.host_tree(other, 2)
    ours, rsync = [], []
    for number in range(3):
        clone = scene.base / f"host2-{number}"
        shutil.copytree(other, clone)
        for path in (p for p in clone.rglob("*") if p.is_file() and int(p.name[4:9]) % 33 == 0):
            path.write_text(f"{number}" + path.read_text())
        scene.agent.module("m2000", clone)
        ours.append(scene.pull(scene.direct(f"next{number}"), "m2000")[0])
        shutil.rmtree(plain)
        rsync.append(scene.rsync(clone, plain))
    report("first pull of the next host, 97 % known", Cost.median(ours), Cost.median(rsync), 1 / 3)


def settle(scene: Scene, client: object, module: str) -> None:
    """Pull until the fingerprint is one to keep: nothing younger than two seconds."""
    while not scene.puller.catalog.memory("web1", module).fingerprint:  # type: ignore[union-attr]
        scene.pull(client, module)  # type: ignore[arg-type]


def small_files(scene: Scene) -> None:
    """100,000 files of 1 to 8 kB."""
    tree, plain = scene.base / "small", scene.base / "small-plain"
    tree.mkdir()
    data.small_files(tree, 100_000)
    scene.agent.module("small", tree)
    client = scene.tunnel()
    ours = scene.pull(client, "small")[0]
    report("first pull, 100000 files", ours, scene.rsync(tree, plain), 2.0)
    settle(scene, client, "small")

    def check(_: int) -> Cost:
        return scene.cost(lambda: client.modules(fingerprints=True, names=["small"]))

    report("unchanged check, 100000 files", *in_turn(3, check, lambda _: scene.rsync(tree, plain)), 0.8)

    def changed(number: int) -> Cost:
        data.change(tree, 0.01, f"round{number}")
        return scene.pull(client, "small")[0]

    report("1 % changed of 100000 files", *in_turn(3, changed, lambda _: scene.rsync(tree, plain)), 1.2)


def large_file(scene: Scene) -> None:
    """1 GiB of random bytes: MB/s, with the store."""
    for case, goal in (("direct", 200), ("tunnel", 100), ("openssh", 200)):
        tree = scene.base / f"large-{case}"
        tree.mkdir()
        data.large_file(tree / "big", 1 << 30)
        scene.agent.module("large", tree)
        client = getattr(scene, case)()
        cost, _ = scene.pull(client, "large")
        rsync = scene.rsync(tree, scene.base / "large-plain")
        rate = (1 << 30) / 1e6 / cost.wall
        line = {"case": f"1 GiB {case}", "mb_per_s": round(rate), "goal_mb_per_s": goal, "reached": rate >= goal}
        print(json.dumps({**line, "ours": cost.line(), "rsync": rsync.line()}), flush=True)
        shutil.rmtree(tree)
        shutil.rmtree(scene.base / "large-plain")


def space(scene: Scene) -> None:
    """20 hosts of 2,000 files, 3 % of each its own; then 5 rounds with 1 % changed."""
    trees = []
    for number in range(20):
        tree = scene.base / "space" / f"host{number}"
        data.host_tree(tree, number)
        scene.agent.module(f"s{number}", tree)
        trees.append(tree)
    clients = [scene.direct(f"space{number}") for number in range(20)]
    plain = 0
    for round_number in range(6):
        for number, tree in enumerate(trees):
            if round_number:
                data.change(tree, 0.01, f"{round_number}-{number}")
            scene.pull(clients[number], f"s{number}")
            plain += disk(tree) if round_number == 0 else hard_linked(tree, round_number, number)
        if round_number in (0, 5):
            base = scene.puller.base
            ours = disk(base)
            case = "space after the first pull of 20 hosts" if round_number == 0 else "space after 5 rounds of 1 %"
            line = {"case": case, "ours_bytes": ours, "plain_bytes": plain, "ratio": round(ours / plain, 4)}
            print(json.dumps({**line, "goal": round(1 / 15, 4), "reached": ours * 15 <= plain}), flush=True)


def disk(top: Path) -> int:
    """Bytes in use below `top`, as du counts."""
    return sum(path.lstat().st_blocks * 512 for path in (top, *top.rglob("*")))


def hard_linked(tree: Path, round_number: int, number: int) -> int:
    """What one more tree of a hard-linking backup takes: its directories, and the files that changed."""
    directories = sum(path.lstat().st_blocks * 512 for path in (tree, *tree.rglob("*")) if path.is_dir())
    files = [path for path in tree.rglob("*") if path.is_file()]
    changed = max(1, len(files) // 100)
    return directories + changed * sum(path.stat().st_blocks * 512 for path in files) // len(files)


CASES = {"host": host_of_2000_files, "small": small_files, "large": large_file, "space": space}


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
