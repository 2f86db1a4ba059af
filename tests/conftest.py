"""What holds for every test: nothing that it started is left when it has ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _nothing_is_left_running(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail if a process that knows of the test's own directory outlives the test."""
    if "tmp_path" not in request.fixturenames:
        yield
        return
    folder = os.fsencode(request.getfixturevalue("tmp_path"))
    yield
    if _processes_of(folder):
        until(lambda: not _processes_of(folder), timeout=5, what=f"the end of {_processes_of(folder)}")


def _processes_of(folder: bytes) -> dict[int, str]:
    """Command lines by process id: those that name `folder`, or whose working directory is in it."""
    found = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            line = (process / "cmdline").read_bytes()
            if folder in line or os.readlink(process / "cwd").startswith(os.fsdecode(folder)):
                found[int(process.name)] = os.fsdecode(line.replace(b"\0", b" "))
        except OSError:  # ended meanwhile
            continue
    return found
