"""Reading objects beside `zstd -dc | sha256sum` of the same ones: `python -m tests.bench verify`."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pyrsyncbackup_collector.store.rehash import Rehash
from pyrsyncbackup_collector.store.store import Store

from tests.bench.cases import run_cases
from tests.bench.data import text

GOAL = 0.8
ROUNDS = 3


def verify(base: Path) -> None:
    """20,000 small objects, 300 of 300 kB, and large ones below the size from which contents are kept in chunks."""
    Store.create(base / "store")
    with Store.open(base / "store", lock=True) as store:
        rng = random.Random(1)
        body = text(rng, 1 << 20)
        small = (
            f"{n}\n".encode() + body[(at := rng.randrange(900_000)) : at + int(rng.expovariate(1 / 5800))]
            for n in range(20_000)
        )
        cases = {
            "20,000 small objects": [_put(store, base, [content]) for content in small],
            "300 objects of 300 kB": [_put(store, base, [text(random.Random(n), 300_000)]) for n in range(300)],
            "one object of 30 MiB of text": [_put(store, base, (text(random.Random(n), 1 << 20) for n in range(30)))],
            "20 objects of 30 MiB of random bytes": [
                _put(store, base, (os.urandom(1 << 20) for _ in range(30))) for _ in range(20)
            ],
        }
        place = store.objects.place
        for case, digests in cases.items():
            names = "\0".join(str(place(digest)) for digest in digests).encode()
            peer, ours = [], []
            for _ in range(ROUNDS):
                peer.append(_seconds(lambda: _peer(names)))  # noqa: B023
                ours.append(_seconds(lambda: _ours(store, digests)))  # noqa: B023
            rate = statistics.median(peer) / statistics.median(ours)
            line = {"case": f"verify {case}", "ours_s": round(statistics.median(ours), 3)}
            line |= {"peer_s": round(statistics.median(peer), 3), "ratio": round(rate, 2)}
            print(json.dumps({**line, "goal": GOAL, "reached": rate >= GOAL}), flush=True)


def _put(store: Store, base: Path, pieces: Iterable[bytes]) -> str:
    source = base / "source"
    with source.open("wb") as file:
        file.writelines(pieces)
    with source.open("rb") as file:
        return store.objects.ingest(file.fileno(), 1 << 40).sha256


def _peer(names: bytes) -> None:
    shell = "xargs -0 zstd -dcq | sha256sum"
    subprocess.run(shell, shell=True, input=names, check=True, stdout=subprocess.DEVNULL)  # noqa: S602


def _ours(store: Store, digests: list[str]) -> None:
    with Rehash(store.objects.place) as rehash:
        assert not any(found.kind for found in rehash.all(digests))


def _seconds(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


CASES = {"verify": verify}


def main(names: Iterable[str]) -> None:
    run_cases(CASES, names)


if __name__ == "__main__":
    main(sys.argv[1:] or CASES)
