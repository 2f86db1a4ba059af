"""What a command takes before it has anything to do: one JSON line for each, in an empty store.

Usage: python -m tests.bench.starting [CASE...], in BENCH_DIR (default /var/tmp). `cpu_ms` is the processor time of the
command's process, which other work here changes less than the wall's.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from tests.bench.cases import run_cases

# 660 ms is what a command took while each loaded all of them.
GOAL_MS = 330
REPEATS = 9
COMMANDS = (
    ("--help",),
    ("history", "web1/etc", "/etc"),
    ("status",),
    ("diff", "web1/etc"),
    ("ls", "web1/etc"),
    ("changes",),
    ("snapshots",),
)


def once(argv: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and processor time of one process, seconds. An empty store is no failure of the figure."""
    began = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in (0, 4), argv
    return wall, used.ru_utime + used.ru_stime


def starting(base: Path) -> None:
    program = str(Path(sys.executable).parent / "pyrsyncbackup")
    # An installed program has its byte code, whatever the environment of the benchmark says about writing it.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(base / "pyc")
    environment["PYRSYNCBACKUP_CONFIG"] = str(base / "c" / "collector.toml")
    subprocess.run([program, "init", str(base / "c")], check=True, stdout=subprocess.DEVNULL, env=environment)
    for words in COMMANDS:
        once([program, *words], environment)
        costs = [once([program, *words], environment) for _ in range(REPEATS)]
        wall, cpu = (round(statistics.median(cost[kind] for cost in costs) * 1000) for kind in (0, 1))
        line: dict[str, object] = {"case": f"starting: {' '.join(words)}", "median_ms": wall, "cpu_ms": cpu}
        print(json.dumps(line | {"goal_ms": GOAL_MS, "reached": wall <= GOAL_MS}), flush=True)


CASES = {"starting": starting}


def main(names: Iterable[str]) -> None:
    run_cases(CASES, names)


if __name__ == "__main__":
    main(sys.argv[1:] or CASES)
