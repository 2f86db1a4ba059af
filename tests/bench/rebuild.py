"""`catalog rebuild` of a store whose manifests hold 500,000 entries: entries a second, one JSON line.

Usage: python -m tests.bench.rebuild, in BENCH_DIR (default /var/tmp). Hosts share most contents, as fleets do; each has
a later snapshot with a tenth changed, as a delta.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.rebuild import rebuild
from pyrsyncbackup_collector.entry import DIRECTORY, Entry
from pyrsyncbackup_collector.store.snapshot import Change, Facts, Snapshot
from pyrsyncbackup_collector.store.store import Store

from tests.bench.cases import run_cases

HOSTS, FILES, PER_DIRECTORY = 100, 4_400, 44
GOAL = 100_000


def content(host: int, number: int, version: int) -> bytes:
    own = host if number % 33 == 0 or version else 0
    return f"file {number} of {own}, version {version}\n".encode()


def entry(host: int, number: int, version: int) -> Entry:
    data = content(host, number, version)
    return Entry(
        path_text=f"etc/app/part-{number // PER_DIRECTORY:03d}/file-{number:05d}.conf",
        mode=0o644,
        user="root",
        group="root",
        size=len(data),
        allocated=4096,
        mtime_s=1_700_000_000 + number,
        mtime_ns=123_456_789,
        sha256=hashlib.sha256(data).hexdigest(),
        public=True,
        # The first host sent what all have.
        claimed=host > 0 and number % 33 != 0 and not version,
    )


def directory(path: str) -> Change:
    made = Entry(path_text=path, type=DIRECTORY, mode=0o755, user="root", group="root", mtime_s=1_700_000_000)
    return Change(path.encode(), made)


def fill(store: Store) -> int:
    """Commit two snapshots of each host; the number of entries in the manifests."""
    written: set[bytes] = set()
    lines = 0
    for host in range(HOSTS):
        first = [directory("etc"), directory("etc/app")]
        for number in range(FILES):
            if number % PER_DIRECTORY == 0:
                first.append(directory(f"etc/app/part-{number // PER_DIRECTORY:03d}"))
            made = entry(host, number, 0)
            first.append(Change(made.path, made))
        second = [Change(each.path, each) for each in (entry(host, number, 1) for number in range(0, FILES, 10))]
        for number in range(FILES):
            written.add(content(host, number, 0))
            if number % 10 == 0:
                written.add(content(host, number, 1))
        before: Snapshot | None = None
        for changes in (first, second):
            before = store.commit(
                f"host{host:03d}",
                "app",
                time=1_790_000_000.0,
                state="complete",
                changes=changes,
                previous=before,
                facts=Facts(),
            )
            lines += len(changes)
    for data in written:
        ingest(store, data)
    return lines


def ingest(store: Store, data: bytes) -> None:
    file = os.memfd_create("content")
    try:
        os.write(file, data)
        os.lseek(file, 0, os.SEEK_SET)
        store.objects.ingest(file, 1 << 20)
    finally:
        os.close(file)


def measure(base: Path) -> None:
    Store.create(base / "store")
    with Store.open(base / "store", lock=True) as store:
        lines = fill(store)
        Catalog.create(base / "catalog.sqlite", store.id).close()
        began, cpu = time.perf_counter(), time.process_time()
        made = rebuild(base / "catalog.sqlite", store)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        space = made.catalog.space()
        made.catalog.close()
    rate = lines / seconds
    line = {"case": "catalog rebuild", "entries": lines, "objects": space.objects, "seconds": round(seconds, 2)}
    line |= {"cpu_s": round(cpu, 2), "entries_per_s": round(rate), "goal": GOAL, "reached": rate >= GOAL}
    print(json.dumps(line), flush=True)


CASES = {"rebuild": measure}


def main(names: Iterable[str]) -> None:
    run_cases(CASES, names)


if __name__ == "__main__":
    main(sys.argv[1:] or CASES)
