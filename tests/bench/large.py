"""Large contents: what a changed 1 GiB file costs in room and on the wire, and how fast contents are cut.

Usage: python -m tests.bench.large [CASE...], in BENCH_DIR (default /var/tmp). JSON lines; a ratio is ours by what it is
compared with, `goal` what it should be at most.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.store.objects import Ingested, ObjectStore

from tests.bench import data
from tests.bench.cases import run_cases
from tests.bench.scene import Scene

MIB = 1 << 20
SIZE = 1 << 30
# In turn, and the best of them: it is the machine that is shared, not the work that varies.
REPEATS = 3


def report(case: str, ratio: float, goal: float, **more: object) -> None:
    line = {"case": case, "ratio": round(ratio, 4), "goal": goal, "reached": ratio <= goal}
    print(json.dumps({**line, **more}), flush=True)


def changed_file(base: Path) -> None:
    """1 GiB, then 10 MB changed in the middle, then 1 MB put in front: by the bytes that changed."""
    scene = Scene(base)
    try:
        tree = base / "tree"
        tree.mkdir()
        file = tree / "big"
        data.large_file(file, SIZE)
        scene.agent.module("large", tree)
        client = scene.direct()
        first, pulled = scene.pull(client, "large")
        more = {"wire_bytes": pulled.counts.wire_bytes, "room_bytes": room(scene), "wall_s": round(first.wall, 2)}
        print(json.dumps({"case": "1 GiB, first pull", **more}), flush=True)
        for case, size, goal, change in (
            ("10 MB changed in the middle of 1 GiB", 10_000_000, 1.6, change_middle),
            ("1 MB put in front of 1 GiB", 1_000_000, 8.0, put_in_front),
        ):
            change(file, os.urandom(size))
            before = room(scene)
            cost, pulled = scene.pull(client, "large")
            added, wire = room(scene) - before, pulled.counts.wire_bytes
            more = {"changed_bytes": size, **cost.line()}
            report(f"{case}: room", added / size, goal, added_bytes=added, **more)
            report(f"{case}: wire", wire / size, 1.3, wire_bytes=wire, **more)
    finally:
        scene.close()


def room(scene: Scene) -> int:
    """Bytes of all objects."""
    return sum(path.stat().st_size for path in scene.puller.store.objects.path.rglob("*") if path.is_file())


def change_middle(file: Path, new: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(SIZE // 2)
        opened.write(new)


def put_in_front(file: Path, new: bytes) -> None:
    old = file.rename(file.with_name("old"))
    with file.open("wb") as target, old.open("rb") as source:
        target.write(new)
        while block := source.read(16 * MIB):
            target.write(block)
    old.unlink()


def random_bytes(path: Path) -> None:
    data.large_file(path, SIZE)


def text_bytes(path: Path) -> None:
    rng = random.Random("large")
    block = data.text(rng, 64 * MIB)
    with path.open("wb") as file:
        for number in range(SIZE // len(block)):
            # Not one piece again and again: each block begins and goes on as no other does.
            file.write(b"%d" % number + block[number:])
        file.truncate(SIZE)


def ingest_rate(base: Path) -> None:
    """Taking in and reading 1 GiB as chunks, by the same as one object."""
    for name, make in (("random", random_bytes), ("text", text_bytes)):
        source = base / name
        make(source)
        taken: dict[str, list[float]] = {"chunks": [], "one object": []}
        read: dict[str, list[float]] = {"chunks": [], "one object": []}
        for number in range(REPEATS):
            for form, large in (("one object", 2 * SIZE), ("chunks", 32 * MIB)):
                place = base / f"objects-{number}-{form[:3]}-{name}"
                place.mkdir()
                objects = ObjectStore(place, large)
                found: list[Ingested] = []
                taken[form].append(timed(lambda: found.append(ingest(objects, source))))  # noqa: B023
                read[form].append(timed(lambda: read_all(objects, found[0])))  # noqa: B023
                objects.close()
                shutil.rmtree(place)
        for what, times, goal in (("taking in", taken, 1.2), ("reading", read, 2.0)):
            rates = {f"{form}_mb_per_s": round(SIZE / 1e6 / min(each)) for form, each in times.items()}
            report(f"{what} 1 GiB of {name}", min(times["chunks"]) / min(times["one object"]), goal, **rates)
        source.unlink()


def ingest(objects: ObjectStore, source: Path) -> Ingested:
    with source.open("rb", buffering=0) as file:
        return objects.ingest(file.fileno(), 2 * SIZE)


def read_all(objects: ObjectStore, found: Ingested) -> None:
    chunks = found.chunked.list.sha256.hex() if found.chunked else ""
    with objects.open_entry(Entry(size=found.size, sha256=found.sha256, chunks=chunks)) as stream:
        while stream.read(MIB):
            pass


def timed(work: Callable[[], object]) -> float:
    os.sync()
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


CASES: dict[str, Callable[[Path], None]] = {"large-change": changed_file, "large-ingest": ingest_rate}


def main(names: Iterable[str]) -> None:
    run_cases(CASES, names)


if __name__ == "__main__":
    main(sys.argv[1:] or CASES)
