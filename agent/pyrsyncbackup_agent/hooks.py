"""Commands before and after a pull: run as argv, in a process group of their own, with a time limit.

They decide nothing about the module. What a hook leaves running after its lease is ended with it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pyrsyncbackup_agent.errors import HookFailed

TAIL_LINES: Final = 25
_LINE_LIMIT: Final = 500
# Between SIGTERM and SIGKILL.
TERM_GRACE: Final = 2.0
DIRECTORY_VARIABLE: Final = "PYRSYNCBACKUP_HOOK_DIR"
MODULE_VARIABLE: Final = "PYRSYNCBACKUP_MODULE"


class Hooks:
    """Runs the hooks of one lease, one at a time. `stop` may come from any thread; what runs then ends soon."""

    def __init__(self, module: str, directory: Path) -> None:
        self._module = module
        self._directory = directory
        self._lock = threading.Lock()
        self._stopping = False
        self._running: subprocess.Popen[bytes] | None = None

    def before(self, commands: Sequence[Sequence[str]], timeout: float) -> None:
        """Run all; raise HookFailed with the tail of the output at the first that fails."""
        for argv in commands:
            self._run(argv, timeout, interruptible=True)

    def after(self, commands: Sequence[Sequence[str]], timeout: float) -> list[HookFailed]:
        """Run all, also when one fails, and return the failures."""
        failures = []
        for argv in commands:
            try:
                self._run(argv, timeout, interruptible=False)
            except HookFailed as error:
                failures.append(error)
        return failures

    def stop(self) -> None:
        """End a running `before` hook, and start no further one."""
        with self._lock:
            self._stopping = True
            process = self._running
        if process is not None:
            _signal(process, signal.SIGTERM)

    def _run(self, argv: Sequence[str], timeout: float, *, interruptible: bool) -> None:
        with self._lock:
            if interruptible and self._stopping:
                raise HookFailed("hook failed: stopped before it began")
            process = self._start(argv)
            if interruptible:
                self._running = process
        deadline = time.monotonic() + timeout
        lines: deque[str] = deque(maxlen=TAIL_LINES)
        try:
            timed_out = not _read(process, lines, deadline, lambda: interruptible and self._stopping)
        finally:
            _end(process)
            with self._lock:
                self._running = None
        if timed_out and not (interruptible and self._stopping):
            raise _failure(argv, f"it ran longer than {timeout:g} s", lines)
        if interruptible and self._stopping:
            raise _failure(argv, "it was stopped", lines)
        if process.returncode:
            how = f"exit code {process.returncode}"
            if process.returncode < 0:
                how = f"ended by signal {-process.returncode}"
            raise _failure(argv, how, lines)

    def _start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            DIRECTORY_VARIABLE: str(self._directory),
            MODULE_VARIABLE: self._module,
        }
        environment.pop("NOTIFY_SOCKET", None)
        try:
            return subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self._directory,
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise _failure(argv, f"it cannot be started: {reason}", ()) from error


def end_orphans(directory: Path) -> None:
    """Kill and reap processes that hooks with this directory left behind, in whatever group they are.

    They became children of the agent, which is their subreaper; the environment tells whose they are.
    """
    marker = f"{DIRECTORY_VARIABLE}={directory}".encode()
    for _ in range(20):  # each round reaches the children of those that the round before ended
        found = [pid for pid in _children() if _is_ours(pid, marker)]
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for pid in found:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> list[int]:
    pids = []
    with contextlib.suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):
                pids += [int(pid) for pid in (task / "children").read_text().split()]
    return pids


def _is_ours(pid: int, marker: bytes) -> bool:
    try:
        return marker in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _read(process: subprocess.Popen[bytes], lines: deque[str], deadline: float, stopped: Callable[[], bool]) -> bool:
    """Collect the last lines until the process ends; False if time ran out, or it ignored being stopped."""
    output = process.stdout
    if output is None:
        return True
    os.set_blocking(output.fileno(), False)
    pid_fd = os.pidfd_open(process.pid)
    rest = b""
    stopped_at = 0.0
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            selector.register(pid_fd, selectors.EVENT_READ)
            while True:
                now = time.monotonic()
                if stopped():
                    stopped_at = stopped_at or now
                if now >= deadline or (stopped_at and now >= stopped_at + TERM_GRACE):
                    return False
                ready = {key.fd for key, _ in selector.select(min(deadline - now, 0.5))}
                if output.fileno() in ready:
                    data = output.read(65536)
                    if not data:
                        selector.unregister(output)
                    rest = _split(rest + (data or b""), lines)
                elif pid_fd in ready:
                    return True
    finally:
        os.close(pid_fd)
        if rest:
            lines.append(_text(rest))


def _split(data: bytes, lines: deque[str]) -> bytes:
    *whole, rest = data.split(b"\n")
    lines.extend(_text(line) for line in whole[-TAIL_LINES:])
    return rest[-_LINE_LIMIT:]


def _text(line: bytes) -> str:
    return line[:_LINE_LIMIT].decode("utf-8", "backslashreplace").rstrip("\r")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        try:
            process.wait(TERM_GRACE)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()
    if process.stdout:
        process.stdout.close()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _failure(argv: Sequence[str], how: str, lines: Sequence[str]) -> HookFailed:
    text = f"hook failed: {' '.join(argv)}: {how}"
    return HookFailed("\n".join([text, *lines]))
