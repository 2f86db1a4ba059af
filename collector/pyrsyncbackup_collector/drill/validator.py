"""Runs the program that a host named for its module, where it can do no harm: the only place that starts it.

The argument list is a stranger's. So it gets a network of its own with nothing in it, no file of this machine but the
system's programs, the restored tree read-only, small empty directories in memory, few processes, and a minute.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.rsync_command import python
from pyrsyncbackup_collector.pull.sandbox import SYSTEM_DIRECTORIES, Limits, prlimit

PASSED: Final = "passed"
FAILED: Final = "failed"
# The program is not on this machine.
ABSENT: Final = "absent"
TIMED_OUT: Final = "timed out"
# There is no sandbox that can hold it or it could not start, or not all of the module was restored.
NOT_RUN: Final = "not run"

# How a line begins with which the sandbox says that it could not start the program.
_SANDBOX_SAYS: Final = ("bwrap: ", "unshare: ", "no namespace ")

# Where the restored tree is inside: what "{root}" becomes.
INSIDE: Final = "/restored"
SECONDS: Final = 60.0
LINES: Final = 25
_LINE_BYTES: Final = 500
_PROGRAMS: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PORTS: Final = Path(__file__).with_name("ports.py")
_PROCESSES: Final = 64
_LIMITS: Final = Limits(file_size=64 << 20, cpu=60, memory=2 << 30, files=1024)
# Of each directory in memory, in bytes.
_ROOM: Final = 16 << 20
_ANY_USER: Final = "1000"
# A word that is such a path, or an option that is set to one; not a script.
_NAMED: Final = re.compile(r"(?:[\w:.-]+=)?\{root\}(?P<path>/[\w./@+-]+)")
# Programs need these to start: nothing is laid over them.
_NEEDED: Final = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/dev", "/proc", INSIDE)


@dataclass(frozen=True, slots=True)
class Validation:
    """How it went, and the last lines that the program wrote, printable."""

    outcome: str
    lines: tuple[str, ...] = ()


def program(command: Sequence[str]) -> str | None:
    """The path of the validator's program on this machine; None if it is not here."""
    return shutil.which(command[0], path=_PROGRAMS)


def lacking(command: Sequence[str], tree: Path) -> str:
    """The first path below "{root}" that a word of the command names and the tree has not; nothing if it has all.

    One definition serves hosts that keep the same in other places, of which the program has nothing to say.
    """
    named = [found["path"] for word in command if (found := _NAMED.fullmatch(word))]
    return next((path for path in named if not os.path.lexists(f"{tree}{path}")), "")


def run(
    command: Sequence[str], tree: Path, roots: Collection[bytes], directories: Sequence[str], cancel: Cancel
) -> Validation:
    """Run `command` with the restored `tree` (absolute), whose `roots` lie at their own places too.

    Raises Cancelled.
    """
    roots = [root for root in roots if _is_itself(tree, root)]
    argv = arguments(command, tree, roots, [one for one in directories if _stays_inside(tree, roots, one)])
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return Validation(NOT_RUN, (f"{argv[0]}: {error.strerror}",))
    assert process.stdout is not None  # noqa: S101 - Popen was asked for a pipe
    late = threading.Event()

    def expire() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(SECONDS, expire)
    timer.start()
    try:
        with cancel.ends(lambda: _kill(process)), process.stdout as output:
            lines = _last_lines(output)
            code = process.wait()
    finally:
        timer.cancel()
        _kill(process)
        process.wait()
    cancel.check()
    if late.is_set():
        return Validation(TIMED_OUT, lines)
    if code != 0 and len(lines) == 1 and lines[0].startswith(_SANDBOX_SAYS):
        return Validation(NOT_RUN, lines)
    return Validation(PASSED if code == 0 else FAILED, lines)


def arguments(command: Sequence[str], tree: Path, roots: Collection[bytes], directories: Sequence[str]) -> list[str]:
    """The argument vector: limits, a network of its own in which every port is free, the sandbox, the program."""
    bwrap = ["bwrap", "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
    bwrap += ["--clearenv", "--setenv", "LC_ALL", "C", "--setenv", "PATH", _PROGRAMS]
    bwrap += ["--uid", _ANY_USER, "--gid", _ANY_USER, "--cap-drop", "ALL"]
    for directory in SYSTEM_DIRECTORIES:
        if not directory.startswith("/etc/"):  # /etc may be the host's own
            bwrap += ["--ro-bind-try", directory, directory]
    bwrap += ["--dev", "/dev", *_in_memory("/dev/shm"), "--proc", "/proc", *_in_memory("/tmp")]  # noqa: S108
    bwrap += ["--ro-bind", str(tree), INSIDE]
    for path in places(roots):
        bwrap += ["--ro-bind-try", os.path.join(tree, os.fsdecode(path[1:])), os.fsdecode(path)]  # noqa: PTH118
    for directory in directories:
        if not _is_needed(os.fsencode(directory)):
            bwrap += _in_memory(directory)
    # Else all of these could be filled without end, and a collector that is root would lend it /proc/sys.
    for directory in ("/proc", "/dev", "/"):
        bwrap += ["--remount-ro", directory]
    inner = ["prlimit", f"--nproc={_PROCESSES}", "--", *(word.replace("{root}", INSIDE) for word in command)]
    network = ["unshare", "--user", "--map-root-user", "--net", "--", python(), "-IS", str(_PORTS)]
    network.append(str(os.getpid()))
    return [*prlimit(_LIMITS), *network, *bwrap, "--chdir", "/", "--", *inner]


def places(roots: Collection[bytes]) -> list[bytes]:
    """Where restored roots are laid: absolute paths, none within another, none over what programs need."""
    found: list[bytes] = []
    for root in sorted(b"/" + root for root in roots if root):
        if not _is_needed(root) and not any(root.startswith(other + b"/") for other in found):
            found.append(root)
    return found


def _is_itself(tree: Path, root: bytes) -> bool:
    """Whether the root is in the tree, and no link on the way leads out of it: bubblewrap would follow it."""
    place = os.path.join(os.fsencode(tree), root)  # noqa: PTH118
    return os.path.realpath(place) == place


def _stays_inside(tree: Path, roots: Collection[bytes], directory: str) -> bool:
    """Whether bubblewrap follows no link of the tree to this directory: it would make it, out there, where it leads."""
    path = os.fsencode(directory)
    if not any(path == root or path.startswith(root + b"/") for root in places(roots)):
        return True
    place = os.fsencode(tree) + path
    return os.path.realpath(place) == place and os.path.isdir(place)  # noqa: PTH112


def _is_needed(path: bytes) -> bool:
    return any(path == needed or path.startswith(needed + b"/") for needed in map(os.fsencode, _NEEDED))


def _in_memory(directory: str) -> list[str]:
    return ["--size", str(_ROOM), "--tmpfs", directory]


def _last_lines(output: IO[bytes]) -> tuple[str, ...]:
    lines: deque[str] = deque(maxlen=LINES)
    while line := output.readline(_LINE_BYTES):
        lines.append(printable(line.rstrip(b"\r\n")))
    return tuple(lines)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is not None:
        return  # its number may be another's by now
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
