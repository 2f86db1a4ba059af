"""What relays cost, beside `rsync -e 'ssh -J ...'`, in turn, in one run, on the same data: one JSON line a figure.

Usage: python -m tests.bench.routes [CASE...], in BENCH_DIR (default /var/tmp). `ratio` is the rate through relays by
that without them, `goal` what it should be at least; other figures have a `most`.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.pull.report import Outcome

from tests.bench import data
from tests.bench.hops import Costs, Hops, peak_rss
from tests.support.delay_proxy import delay_proxy
from tests.support.fleet import relayed_host
from tests.support.puller import Puller

KINDS = ("direct", "sshtunnel", "openssh")
GOALS = {1: 0.7, 2: 0.5}
OPENSSH_MB_PER_S = 200
REPEATS = 3
RTT = 0.1
ROUND_TRIPS = 3
SIZE = 1 << 30
AT_A_TIME = 200


def say(case: str, **line: object) -> None:
    print(json.dumps({"case": case, **line}), flush=True)


def median(measured: list[tuple[float, Costs]]) -> tuple[float, Costs]:
    walls, costs = zip(*measured, strict=True)
    return statistics.median(walls), {
        part: round(statistics.median(cost[part] for cost in costs), 2) for part in costs[0]
    }


def rate(wall: float) -> int:
    return round(SIZE / 1e6 / wall)


def large_file(hops: Hops) -> None:
    """1 GiB of random bytes over no relay, one, two; rsync over as many jump hosts."""
    tree = hops.base / "large"
    tree.mkdir()
    data.large_file(tree / "big", SIZE)
    hops.agent.module("large", tree)
    ways = [(kind, relays) for kind in KINDS for relays in (0, 1, 2)]
    measured: dict[tuple[str, int], list[tuple[float, Costs]]] = {}
    for _ in range(REPEATS):
        for kind, relays in ways:
            measured.setdefault((kind, relays), []).append(hops.pull(hops.host(kind, relays), "large"))
        for jumps in (0, 1, 2):
            measured.setdefault(("rsync", jumps), []).append(hops.rsync(tree, jumps))
    medians = {way: median(values) for way, values in measured.items()}
    for kind, relays in [*ways, ("rsync", 0), ("rsync", 1), ("rsync", 2)]:
        wall, cpu = medians[kind, relays]
        line: dict[str, object] = {"mb_per_s": rate(wall), "wall_s": round(wall, 2), "cpu_s": cpu}
        if relays:
            ratio = medians[kind, 0][0] / wall
            line = {"ratio": round(ratio, 3), **line}
            if kind != "rsync":
                line = {"goal": GOALS[relays], "reached": ratio >= GOALS[relays], **line}
        elif kind == "openssh":
            least = OPENSSH_MB_PER_S
            line = {"least_mb_per_s": least, "reached": rate(wall) >= least, **line}
        say(f"1 GiB, {kind}, {relays} " + ("jumps" if kind == "rsync" else "relays"), **line)


def check(hops: Hops) -> None:
    """What an unchanged check costs the collector behind two relays, more than without."""
    tree = hops.base / "tree"
    data.host_tree(tree, 1)
    hops.agent.module("m2000", tree)
    for kind in KINDS:
        with (
            hops.connections.agent(hops.host(kind, 0)) as near,
            hops.connections.agent(hops.host(kind, 1)) as middle,
            hops.connections.agent(hops.host(kind, 2)) as far,
        ):
            costs: dict[int, list[float]] = {0: [], 1: [], 2: []}
            for _ in range(15):
                for relays, client in enumerate((near, middle, far)):
                    before = time.process_time()
                    for _ in range(20):
                        hops.check(client, "m2000")
                    costs[relays].append((time.process_time() - before) / 20)
        cpu = {relays: statistics.median(values) * 1000 for relays, values in costs.items()}
        say(
            f"unchanged check, {kind}: collector's CPU behind 2 relays, more than without",
            more_ms=round(cpu[2] - cpu[0], 3),
            most_ms=2,
            reached=cpu[2] - cpu[0] <= 2,
            cpu_ms={relays: round(value, 3) for relays, value in cpu.items()},
        )


def at_a_time(hops: Hops) -> None:
    """200 hosts behind one relay, pulled at a time: as fast as it goes, and each at 100 kB/s."""
    agents = [hops.start_agent(f"agent{number}", max_sessions=32) for number in range(10)]
    relay = hops.relays[0]
    way = hops.first("direct", "relay", relay)
    hosts = []
    for number in range(AT_A_TIME):
        agent = agents[number % len(agents)]
        name = f"h{number:03d}"
        tree = hops.base / "trees" / name
        data.host_tree(tree, number, files=20)
        data.large_file(tree / "big", 2 << 20)
        agent.module(name, tree)
        relay.peer(name, agent.address)
        hosts.append(hops.pinned(relayed_host(way, name, name), agent))
    relay.reload()
    for case, bwlimit in (("", 0), (" at 100 kB/s each", 100_000)):
        opened = threading.Barrier(AT_A_TIME)
        before = peak_rss(relay, anew=True)

        def pull(host: Host, puller: Puller, bwlimit: int = bwlimit, opened: threading.Barrier = opened) -> bool:
            with hops.connections.agent(host) as client:
                opened.wait(300)
                return puller.pull(client, host.name, bwlimit=bwlimit).outcome is Outcome.COMPLETE

        with hops.store() as puller, ThreadPoolExecutor(AT_A_TIME) as threads:
            began = time.perf_counter()
            pulls = [threads.submit(pull, host, puller) for host in hosts]
            failures = [str(error) for pull in pulls if (error := pull.exception()) is not None]
            complete = sum(pull.exception() is None and pull.result() for pull in pulls)
        peak = peak_rss(relay)
        say(
            f"{AT_A_TIME} pulls at a time through one relay{case}",
            peak_rss_mb=round(peak / 1e6, 1),
            most_mb=100,
            reached=peak < 100e6 and complete == AT_A_TIME,
            complete=complete,
            wall_s=round(time.perf_counter() - began, 1),
            idle_rss_mb=round(before / 1e6, 1),
            failures=failures[:3],
        )


def far(hops: Hops) -> None:
    """What an unchanged check waits for on a path of 100 ms there and back, once the route is open."""
    tree = hops.base / "tree"
    data.host_tree(tree, 1)
    hops.agent.module("m2000", tree)
    for kind in KINDS:
        for relays in (0, 1, 2):
            with contextlib.ExitStack() as stack:

                def through(host: Host, stack: contextlib.ExitStack = stack) -> Host:
                    log, target = hops.base / "delay.log", f"127.0.0.1:{hops.port(host)}"
                    proxy = stack.enter_context(delay_proxy(log, "127.0.0.1:0", target, RTT / 2))
                    return hops.at_port(host, proxy.port)

                client = stack.enter_context(hops.connections.agent(hops.host(kind, relays, through)))
                walls = []
                for _ in range(7):
                    began = time.perf_counter()
                    hops.check(client, "m2000")
                    walls.append(time.perf_counter() - began)
            trips = statistics.median(walls) / RTT
            say(
                f"unchanged check, 100 ms away, {kind}, {relays} relays",
                round_trips=round(trips, 2),
                most=ROUND_TRIPS,
                reached=trips <= ROUND_TRIPS,
                first_check=round(walls[0] / RTT, 2),
            )


CASES = {"relays": large_file, "check": check, "many": at_a_time, "far": far}


def main(names: Iterable[str]) -> None:
    for name in names:
        with tempfile.TemporaryDirectory(prefix="b-", dir=os.environ.get("BENCH_DIR", "/var/tmp")) as directory:
            hops = Hops(Path(directory))
            try:
                CASES[name](hops)
            finally:
                hops.close()


if __name__ == "__main__":
    main(sys.argv[1:] or CASES)
