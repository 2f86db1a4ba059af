"""Child processes: started in sessions of their own, ended with everything that they started, always reaped.

The agent adopts processes whose parent ended (it is their subreaper), so that what a hook left behind can be found.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

_PR_SET_CHILD_SUBREAPER: Final = 36

# A process has one set of children: those that are here are waited for by who started them, all others are orphans.
_own: set[int] = set()
_own_lock = threading.Lock()


class Child:
    """A running program in a session and process group of its own. Thread-safe; `reap` it in the end."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.STDOUT,
        pass_fds: Sequence[int] = (),
        cwd: str = "/",
        env: Mapping[str, str],
    ) -> None:
        """Start it. Raise OSError, or ValueError for arguments that no program can be given."""
        self._lock = threading.Lock()
        self._code: int | None = None
        with _own_lock:
            self._process = subprocess.Popen(
                list(argv),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                cwd=cwd,
                env=env,
                start_new_session=True,
            )
            _own.add(self._process.pid)
        self.pid_fd = os.pidfd_open(self._process.pid)

    @property
    def pid(self) -> int:
        """Process id, also that of its group."""
        return self._process.pid

    @property
    def stdout(self) -> IO[bytes] | None:
        """Its output, if it goes through a pipe."""
        return self._process.stdout

    @property
    def stderr(self) -> IO[bytes] | None:
        """Its messages, if they go through a pipe of their own."""
        return self._process.stderr

    def signal(self, number: int) -> None:
        """Send a signal to its whole group; does nothing once it was reaped, when the number may be another's."""
        with self._lock:
            if self._code is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, number)

    def ended(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for its end, without reaping it."""
        with self._lock:
            if self._code is not None:
                return True
            # A poll of an open descriptor: it stays open until `reap`, which its own thread calls.
            waiting = self.pid_fd
        poll = select.poll()
        poll.register(waiting, select.POLLIN)
        return bool(poll.poll(max(timeout, 0) * 1000))

    def reap(self, *, group: bool) -> int:
        """Wait for its end and return the exit code, negative for a signal. With `group` end what else is in its group.

        A second call returns the same.
        """
        with self._lock:
            if self._code is not None:
                return self._code
        self.ended(1 << 20)
        if group:
            self.signal(signal.SIGKILL)  # as long as it is not reaped the number is its own
        with self._lock:
            if self._code is None:
                self._code = self._process.wait()
                os.close(self.pid_fd)
                with _own_lock:
                    _own.discard(self._process.pid)
            return self._code


def adopt_orphans() -> str:
    """Become the parent of processes whose parent ended; return the reason why that does not work, or nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        return os.strerror(ctypes.get_errno())
    return ""


def end_orphans(marker: str) -> None:
    """Kill and reap orphans whose environment holds `marker`; reap all those that ended by themselves."""
    for _ in range(20):  # each round reaches the children of those that the round before ended
        found = [pid for pid in _orphans() if _has(pid, marker.encode())]
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for pid in found:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        if not found:
            break
    for pid in _orphans():
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _orphans() -> list[int]:
    pids: list[int] = []
    with _own_lock:
        with contextlib.suppress(OSError):
            for task in Path("/proc/self/task").iterdir():
                with contextlib.suppress(OSError):
                    pids += [int(pid) for pid in (task / "children").read_text().split()]
        return [pid for pid in pids if pid not in _own]


def _has(pid: int, marker: bytes) -> bool:
    try:
        return marker in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
