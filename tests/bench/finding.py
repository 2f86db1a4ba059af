"""Questions to a catalog of 1,000 hosts, 10,000 modules, 2 million paths, 1 million changes: one JSON line a figure.

Usage: python -m tests.bench.finding [CASE...], in BENCH_DIR (default /var/tmp). `median_ms` is the query alone in an
open catalog, `command_ms` the whole command, Python's start included.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.changing import grouped
from pyrsyncbackup_collector.catalog.ledger import add_snapshot, module_row
from pyrsyncbackup_collector.entry import DIRECTORY, Entry, parent
from pyrsyncbackup_collector.store.snapshot import Change, Snapshot, Totals
from pyrsyncbackup_collector.store.store import Store

HOSTS, MODULES, PATHS, ROUNDS, CHANGED = 1000, 10, 200, 10, 10
# Between two snapshots of a module, days: a tenth of all modules changes each day.
PAUSE = 10
GOAL = 0.1
REPEATS = 7
DAY = 86_400.0
NOW = 1_790_000_000.0
NAMES = ("nginx", "etc", "ssh", "cron", "systemd", "apt", "network", "postgresql", "docker", "letsencrypt")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def paths(module: str) -> list[str]:
    """Paths as configuration has them: 20 directories of 9 files, and what is above."""
    files = [
        f"etc/{module}/sites-available/{part:02d}-group/{number:03d}.example.org.conf"
        for part in range(20)
        for number in range(9)
    ]
    above = {part for file in files for part in parents(file)}
    return sorted([*files[: PATHS - len(above)], *above], key=lambda path: path.replace("/", "\0"))


def parents(path: str) -> Iterator[str]:
    above = parent(path.encode()).decode()
    while above:
        yield above
        above = parent(above.encode()).decode()


def entry(path: str, host: int, content: int) -> Entry:
    if not path.endswith(".conf"):
        return Entry(path_text=path, type=DIRECTORY, mode=0o755, user="root", group="root", mtime_s=1_700_000_000)
    # One file in 50 is each host's own, the rest are alike.
    own = f"{host}" if hash_of(path) % 50 == 0 else ""
    sha256 = digest(f"{path} {own} {content}")
    stamp = 1_700_000_000 + content
    return Entry(
        path_text=path,
        mode=0o644,
        user="root",
        group="root",
        size=1000 + content,
        mtime_s=stamp,
        sha256=sha256,
        public=True,
    )


def hash_of(path: str) -> int:
    return int(digest(path)[:8], 16)


def fill(catalog: Catalog) -> None:
    """First snapshots, then rounds: an upgrade that each host gets, and in each module one file of its own."""
    listed = {module: paths(module) for module in NAMES[:MODULES]}
    for host in range(HOSTS):
        with catalog._database.writing() as raw:
            for module, names in listed.items():
                row = module_row(raw, f"web{host:04d}", module)
                files = [name for name in names if name.endswith(".conf")]
                for number in range(ROUNDS + 1):
                    time = NOW - ((ROUNDS - number) * PAUSE + (host % 10)) * DAY - host * 10
                    changed = names
                    if number:
                        start = hash_of(f"{module} {number}") % len(files)
                        changed = [*files[start:], *files[:start]][: CHANGED - 1]
                        changed.append(files[(start + 20 + host) % len(files)])
                    changes = [Change(name.encode(), entry(name, host, number)) for name in dict.fromkeys(changed)]
                    made = Snapshot(
                        f"web{host:04d}", module, number + 1, f"{number + 1:06d}-2026-11-22T214903Z", time, "complete",
                        None, digest(f"{host}{module}{number}"), Totals(len(names), len(files), 1000 * len(files)),
                    )  # fmt: skip
                    add_snapshot(raw, row, made, changes, share=True)


def date(moment: float) -> str:
    """As `--since` takes it."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Cost(NamedTuple):
    """Seconds: as a clock on the wall has them, and of processor time, which other work here changes less."""

    wall: float
    cpu: float


def median(work: Callable[[], object], repeats: int = REPEATS) -> Cost:
    work()
    costs = [once(work) for _ in range(repeats)]
    return Cost(statistics.median(cost.wall for cost in costs), statistics.median(cost.cpu for cost in costs))


def once(work: Callable[[], object]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def report(case: str, cost: Cost, goal: float | None = GOAL, **more: object) -> None:
    line: dict[str, object] = {"case": case, "median_ms": round(cost.wall * 1000, 1)}
    line["cpu_ms"] = round(cost.cpu * 1000, 1)
    if goal is not None:
        line |= {"goal_ms": goal * 1000, "reached": cost.wall <= goal}
    print(json.dumps(line | more), flush=True)


class Scene:
    """The catalog, and a configuration for commands."""

    def __init__(self, base: Path) -> None:
        self.base = base
        Store.create(base / "store")
        (base / "hosts.d").mkdir()
        (base / "collector.toml").write_text('store = "store"\ncatalog = "catalog.sqlite"\n')
        with Store.open(base / "store") as store:
            self.catalog = Catalog.create(base / "catalog.sqlite", store.id)
        began = time.perf_counter()
        fill(self.catalog)
        self.catalog._database.raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.describe(time.perf_counter() - began)

    def describe(self, seconds: float) -> None:
        with self.catalog._database.reading() as raw:
            versions = raw.execute("SELECT count(*) FROM versions").fetchone()[0]
            snapshots = raw.execute("SELECT count(*) FROM snapshots").fetchone()[0]
        size = (self.base / "catalog.sqlite").stat().st_size
        line = {"case": "finding: the catalog", "seconds": round(seconds, 1), "bytes": size, "versions": versions}
        line |= {"snapshots": snapshots, "bytes_per_version": round(size / versions, 1)}
        print(json.dumps(line), flush=True)

    def command(self, *arguments: str) -> float:
        argv = [str(Path(sys.executable).parent / "pyrsyncbackup"), "--config", str(self.base / "collector.toml")]
        # An installed program has its byte code, whatever the environment of the benchmark says about writing it.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = str(self.base / "pyc")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
        run = lambda: subprocess.run([*argv, *arguments], check=True, **quiet)  # noqa: E731
        return round(median(run, 3).wall * 1000)


def questions(scene: Scene) -> None:
    catalog = scene.catalog
    path = paths("nginx")[20]
    raw_path = path.encode()
    host = "web0500"
    command = scene.command("history", f"{host}/nginx", f"/{path}")
    report("finding: history", median(lambda: catalog.path_history(host, "nginx", raw_path)), command_ms=command)
    report("finding: history, who has the same", median(lambda: catalog.holders("nginx", raw_path)))
    report("finding: diff --name-only, last two", median(lambda: catalog.changes_between(host, "nginx", 10, 11)))
    report("finding: diff --name-only, first and last", median(lambda: catalog.changes_between(host, "nginx", 1, 11)))
    for hours in (1, 24, 168):
        since = NOW - hours * 3600

        def changes(since: float = since) -> object:
            return grouped(catalog.changes_since(since).snapshots)

        found = sum(len(one.changes) for one in catalog.changes_since(since).snapshots)
        command = scene.command("changes", "--since", date(since))
        report(f"finding: changes --since {hours}h", median(changes), changes=found, command_ms=command)
    since = NOW - 5 * DAY
    report("finding: changes of a host, 5d", median(lambda: grouped(catalog.changes_since(since, host).snapshots)))
    for hosts in ("web000*", "web00*", None):
        count = len(catalog.stored(hosts, "nginx"))
        report(
            f"finding: compare PATH, {count} hosts", median(lambda h=hosts: catalog.compare_path("nginx", raw_path, h))
        )
        report(f"finding: compare, {count} hosts", median(lambda h=hosts: catalog.compare_module("nginx", h), 3))
    command = scene.command("compare", "nginx", f"/{path}")
    print(json.dumps({"case": "finding: compare PATH, 1000 hosts, the command", "command_ms": command}), flush=True)
    report("finding: find, one name", median(lambda: catalog.find("001.example.org.conf", limit=50), 3), None)
    report("finding: find, a suffix", median(lambda: catalog.find("*.conf", limit=50), 1), None)


CASES = {"finding": questions}


def main(names: Iterable[str]) -> None:
    for name in names:
        with tempfile.TemporaryDirectory(prefix="b-", dir=os.environ.get("BENCH_DIR", "/var/tmp")) as directory:
            scene = Scene(Path(directory))
            try:
                CASES[name](scene)
            finally:
                scene.catalog.close()


if __name__ == "__main__":
    main(sys.argv[1:] or CASES)
