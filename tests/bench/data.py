"""Trees for the benchmarks: the same seed gives the same bytes."""

from __future__ import annotations

import os
import random
from pathlib import Path

WORDS = ("server", "listen", "location", "proxy_pass", "root", "allow", "deny", "include", "limit", "timeout", "user")


def text(rng: random.Random, size: int) -> bytes:
    """About `size` bytes that look like configuration: compress about four times."""
    lines = []
    total = 0
    while total < size:
        line = " ".join(rng.choices(WORDS, k=6)) + f" {rng.random()}\n"
        lines.append(line)
        total += len(line)
    return "".join(lines).encode()[:size]


def host_tree(top: Path, host: int, files: int = 2000, own: float = 0.03) -> None:
    """A host's configuration: files of 5.8 kB on average, a share `own` of them its own, the rest the fleet's."""
    for number in range(files):
        mine = number % round(1 / own) == 0
        rng = random.Random(f"{host if mine else 'fleet'}-{number}")
        directory = top / f"d{number % 40:02d}" / f"s{number % 4}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"file{number:05d}.conf").write_bytes(text(rng, int(rng.expovariate(1 / 5800)) + 1))


def change(top: Path, share: float, seed: str) -> int:
    """Rewrite a share of all files with contents of their own; returns how many."""
    rng = random.Random(seed)
    paths = sorted(path for path in top.rglob("*") if path.is_file())
    chosen = rng.sample(paths, max(1, int(len(paths) * share)))
    for path in chosen:
        path.write_bytes(text(random.Random(f"{seed}-{path.name}"), path.stat().st_size + rng.randint(1, 20)))
    return len(chosen)


def small_files(top: Path, files: int) -> None:
    """`files` files of 1 to 8 kB, 500 to a directory; the first line tells them apart."""
    rng = random.Random("small")
    body = text(rng, 8192)
    for number in range(files):
        directory = top / f"{number // 500:04d}"
        if number % 500 == 0:
            directory.mkdir(parents=True)
        head = f"{number} {rng.random()}\n".encode()
        (directory / f"{number:06d}").write_bytes(head + body[: rng.randint(1024, 8192) - len(head)])


def large_file(path: Path, size: int) -> None:
    """Random bytes, which nothing compresses."""
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
