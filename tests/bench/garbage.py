"""Prune and gc of 1,000 snapshots with a million objects, and `space` over them: one JSON line a figure.

Usage: python -m tests.bench.garbage [CASE...], in BENCH_DIR (default /var/tmp). Manifests, logs, rows and files are all
there, as real pulls make them, but each file holds one byte. BENCH_MODULES (default 100) scales it: ten snapshots with
a thousand files of their own for each module go.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import zstandard
from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.clock import Uptime
from pyrsyncbackup_collector.config.model import Keep, PolicySettings
from pyrsyncbackup_collector.daemon import chores
from pyrsyncbackup_collector.daemon.composition import opened
from pyrsyncbackup_collector.entry import DIRECTORY, Entry
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.ledger import ModuleMemory, StoredObject
from pyrsyncbackup_collector.store.snapshot import Change
from pyrsyncbackup_collector.store.store import Store

from tests.bench.cases import run_cases
from tests.support.fleet import make_config

MODULES = int(os.environ.get("BENCH_MODULES", "100"))
SNAPSHOTS = 11
FILES = 1000
# For the first collection, which notes what nothing names, the prune, and the one that removes it, together.
MOST_S = 60
DAY = 86400.0


class Clock:
    """The machine's, moved on by whole days."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def uptime(self) -> Uptime:
        return Uptime("bench", self.monotonic())


def say(case: str, **line: object) -> None:
    print(json.dumps({"case": case, **line}), flush=True)


def build(base: Path) -> None:
    """A store and its catalog."""
    Store.create(base / "store")
    frame = zstandard.compress(b"x")
    with Store.open(base / "store", lock=True) as store, Catalog.create(base / "catalog.sqlite", store.id) as catalog:
        for number in range(MODULES):
            host, previous = f"host{number:04d}", None
            for round_ in range(SNAPSHOTS):
                run = catalog.run_begin(host, "data")
                digests = [hashlib.sha256(b"%d/%d/%d" % (number, round_, n)).hexdigest() for n in range(FILES)]
                for digest in digests:
                    file = os.open(store.objects._place(digest), os.O_WRONLY | os.O_CREAT, 0o400)
                    os.write(file, frame)
                    os.close(file)
                catalog.record_objects(run, host, [StoredObject(each, 1, len(frame), False) for each in digests])
                changes = [Change(b"srv", Entry(path_text="srv", type=DIRECTORY))] if previous is None else []
                changes += [
                    Change(b"srv/%04d" % n, Entry(path_text=f"srv/{n:04d}", size=1, sha256=digest))
                    for n, digest in enumerate(digests)
                ]
                now = time.time() - (SNAPSHOTS - round_) * 60
                snapshot = store.commit(host, "data", time=now, state="complete", changes=changes, previous=previous)
                catalog.commit(run, snapshot, changes, ModuleMemory(snapshot.sequence, b"", b""))
                catalog.unpin(run)
                catalog.run_end(run, "complete", sequence=snapshot.sequence)
                previous = snapshot
    os.sync()


def garbage(base: Path) -> None:
    logs.configure(level="critical")
    began = time.perf_counter()
    build(base)
    built = time.perf_counter() - began
    config = replace(make_config(base), policy=PolicySettings(keep=Keep(last=1), freeze="off"))
    clock = Clock()
    seconds: dict[str, float] = {}
    with opened(config, clock=clock) as parts:

        def do(name: str, chore: str, **options: object) -> dict[str, object]:
            began = time.perf_counter()
            done = chores.do(chore, parts, config, options, Cancel(), trigger="command")
            seconds[name] = round(time.perf_counter() - began, 1)
            assert done.error is None, done.error
            return done.document

        began = time.perf_counter()
        space = parts.catalog.store_space()
        took = time.perf_counter() - began
        say("space of all modules", wall_s=round(took, 2), objects=parts.catalog.space().objects, stored=space.stored)
        do("prune", "prune")
        began = time.perf_counter()
        due = sum(each.objects for each in parts.catalog.unnamed(DAY))
        seconds["plan"] = round(time.perf_counter() - began, 1)
        do("mark", "gc", rate=0)
        clock.ahead += DAY + 60
        done = do("free", "gc", rate=0)
        left = parts.catalog.space()
    total = round(seconds["prune"] + seconds["mark"] + seconds["free"], 1)
    most = MOST_S * MODULES / 100
    say(
        f"prune and gc of {MODULES * (SNAPSHOTS - 1):,} snapshots",
        objects=done["objects"],
        wall_s=total,
        most_s=most,
        reached=total <= most and done["objects"] == due == MODULES * (SNAPSHOTS - 1) * FILES,
        parts_s=seconds,
        left_objects=left.objects,
        built_s=round(built, 1),
        catalog_mb=round((base / "catalog.sqlite").stat().st_size / 1e6),
    )


CASES = {"garbage": garbage}


def main(names: Iterable[str]) -> None:
    run_cases(CASES, names)


if __name__ == "__main__":
    main(sys.argv[1:] or CASES)
