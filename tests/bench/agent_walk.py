"""What the agent's walk costs: JSON lines with CPU microseconds per entry of a check, a listing and hashing.

Run: python -m tests.bench.agent_walk [ENTRIES]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pyrsyncbackup_agent import entries, messages
from pyrsyncbackup_agent.modules import Root
from pyrsyncbackup_agent.patterns import Rules

PER_DIRECTORY = 1000


def make(base: Path, count: int) -> None:
    """Make `count` small files."""
    for number in range(count):
        if number % PER_DIRECTORY == 0:
            directory = base / f"directory-{number // PER_DIRECTORY:04d}"
            directory.mkdir()
        (directory / f"file-{number:06d}.conf").write_bytes(b"%d\n" % number)


def measure(what: str, count: int, work: Callable[[], object], rounds: int = 3) -> None:
    """Print the best of some rounds."""
    best = min((_once(work) for _ in range(rounds)), key=lambda pair: pair[1])
    line = {"bench": "agent_walk", "what": what, "entries": count, "wall_s": round(best[0], 3)}
    print(json.dumps(line | {"cpu_us_per_entry": round(best[1] / count * 1e6, 2)}))


def _once(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Measure a flat and plain tree."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as base:
        make(Path(base), count)
        roots = [Root(1, os.fsencode(base)[1:])]
        plain, rules = Rules(), Rules((), (b"*.log", b"/cache/**"))
        paths = [entry.path for entry in entries.walk(roots, plain) if entry.stat and entry.path.endswith(b".conf")]
        measure("check", count, lambda: entries.fingerprint(roots, plain))
        measure("check with two patterns", count, lambda: entries.fingerprint(roots, rules))
        measure("list", count, lambda: [m.SerializeToString() for m in messages.listings(entries.walk(roots, plain))])
        measure("hash", count, lambda: list(entries.hash_files(entries.Tree(roots, plain), paths)))


if __name__ == "__main__":
    main()
