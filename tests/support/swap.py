"""What a local user does to a directory while it is backed up: exchange names, again and again, as fast as it goes.

As a program, `python swap.py LIMIT A B [A B ...]` exchanges each pair in turn until its standard input ends, at most
LIMIT times; the pairs are as they were before when it ends, and it prints "begun", and at last how often it did.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def exchange(one: str | Path, other: str | Path) -> None:
    """Let two names change places, at once: renameat2(2)."""
    names = os.fsencode(one), os.fsencode(other)
    if _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))


@contextlib.contextmanager
def swapping(*pairs: tuple[Path, Path], limit: int = 400_000) -> Iterator[subprocess.Popen[bytes]]:
    """Exchange `pairs` in another process while the block runs."""
    names = [str(name) for pair in pairs for name in pair]
    argv = [sys.executable, "-S", __file__, str(limit), *names]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        try:
            yield process
        finally:
            counted = process.communicate(timeout=60)[0]
        assert process.returncode == 0
        assert int(counted) > 0


def main(limit: int, names: list[str]) -> int:
    """See the module."""
    pairs = list(zip(names[::2], names[1::2], strict=True))
    done = 0
    while done < limit and not select.select([0], [], [], 0)[0]:
        for one, other in pairs:
            exchange(one, other)
        done += 1
        if done == 1:
            print("begun", flush=True)
    if done % 2:
        for one, other in pairs:
            exchange(one, other)
    return done


if __name__ == "__main__":
    print(main(int(sys.argv[1]), sys.argv[2:]))
