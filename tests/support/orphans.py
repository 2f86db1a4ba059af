"""Processes that outlive the one that started them: found below it, or by what they name and where they work."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.waiting import until

_PR_SET_CHILD_SUBREAPER = 36


def descendants(pid: int) -> list[int]:
    """Processes below one, children before grandchildren; those that ended and wait to be reaped are not counted."""
    found = []
    for child in _children(pid):
        if _state(child) != "Z":
            found.append(child)
        found += descendants(child)
    return found


def command(pid: int) -> str:
    """The command line of a process; empty if it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def naming(*words: str) -> dict[int, str]:
    """Command lines by process id, without our own: those in which all of these words stand."""
    lines = {pid: command(pid) for pid in _others()}
    return {pid: line for pid, line in lines.items() if all(word in line for word in words)}


def knowing(folder: Path) -> dict[int, str]:
    """Command lines by process id, without our own: those that name a directory, or work in it or below."""
    return {pid: command(pid) for pid in _others() if str(folder) in command(pid) or _works_in(pid, folder)}


@contextlib.contextmanager
def adopted() -> Iterator[Callable[[], None]]:
    """While the block runs, orphans of our children become ours; yields what asserts that soon none is left."""
    mine = set(descendants(os.getpid()))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

    def left() -> list[str]:
        for pid in set(_children(os.getpid())) - mine:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return [command(pid) for pid in descendants(os.getpid()) if pid not in mine]

    def none_is_left() -> None:
        until(lambda: not left(), what="the end of all processes that the killed one started")

    try:
        yield none_is_left
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _children(pid: int) -> list[int]:
    """Children that any thread of a process started; a process or thread that ends meanwhile has none."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def _others() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _works_in(pid: int, folder: Path) -> bool:
    with contextlib.suppress(OSError):  # it ended, or is not ours to look at
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(folder)
    return False


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"
