"""Commands before and after a pull: run as argv, one at a time, with a time limit.

They decide nothing about the module. What a hook leaves running in the background (a lock that is held during the
pull) may go on until the lease ends, and is ended with it.
"""

from __future__ import annotations

import os
import selectors
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pyrsyncbackup_agent.errors import HookFailed
from pyrsyncbackup_agent.processes import Child, end_orphans

TAIL_LINES: Final = 25
# Between SIGTERM and SIGKILL, in seconds.
TERM_GRACE: Final = 2.0
DIRECTORY_VARIABLE: Final = "PYRSYNCBACKUP_HOOK_DIR"
MODULE_VARIABLE: Final = "PYRSYNCBACKUP_MODULE"
_LINE_LIMIT: Final = 500


class Hooks:
    """The hooks of one lease. `stop` may come from any thread; a `before` hook that runs then ends soon."""

    def __init__(self, module: str, directory: Path) -> None:
        self._module = module
        self._directory = directory
        self._lock = threading.Lock()
        self._stopping = False
        self._running: Child | None = None

    def before(self, commands: Sequence[Sequence[str]], timeout: float) -> None:
        """Run all; raise HookFailed with the tail of the output at the first that fails."""
        for argv in commands:
            self._run(argv, timeout, lambda: self._stopping)

    def after(self, commands: Sequence[Sequence[str]], timeout: float) -> list[HookFailed]:
        """Run all, also when one fails or the lease was stopped, and return the failures."""
        failures = []
        for argv in commands:
            try:
                self._run(argv, timeout, lambda: False)
            except HookFailed as error:
                failures.append(error)
        return failures

    def stop(self) -> None:
        """End a running `before` hook, and start no further one."""
        with self._lock:
            self._stopping = True
            if self._running is not None:
                self._running.signal(signal.SIGTERM)

    def end_background(self) -> None:
        """End what hooks left running, in whatever process group it is."""
        end_orphans(f"{DIRECTORY_VARIABLE}={self._directory}")

    def _run(self, argv: Sequence[str], timeout: float, stopped: Callable[[], bool]) -> None:
        with self._lock:
            if stopped():
                raise _failure(argv, "stopped before it began", ())
            child = self._start(argv)
            if not self._stopping:
                self._running = child
        lines: deque[str] = deque(maxlen=TAIL_LINES)
        in_time = False
        try:
            in_time = _read(child, lines, time.monotonic() + timeout, stopped)
        finally:
            with self._lock:
                self._running = None
            if not in_time:
                child.signal(signal.SIGTERM)
                if not child.ended(TERM_GRACE):
                    child.signal(signal.SIGKILL)
            code = child.reap(group=not in_time)
            if child.stdout:
                child.stdout.close()
        if stopped():
            raise _failure(argv, "it was stopped", lines)
        if not in_time:
            raise _failure(argv, f"it ran longer than {timeout:g} s", lines)
        if code:
            raise _failure(argv, f"exit code {code}" if code > 0 else f"ended by signal {-code}", lines)

    def _start(self, argv: Sequence[str]) -> Child:
        own = {DIRECTORY_VARIABLE: str(self._directory), MODULE_VARIABLE: self._module}
        environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"} | own
        try:
            return Child(argv, cwd=str(self._directory), env=environment)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise _failure(argv, f"it cannot be started: {reason}", ()) from error


def _read(child: Child, lines: deque[str], deadline: float, stopped: Callable[[], bool]) -> bool:
    """Collect the last lines until the process ends; False if time ran out, or it ignores being stopped."""
    output = child.stdout
    if output is None:
        return True
    os.set_blocking(output.fileno(), False)
    rest = b""
    stopped_at = 0.0
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        selector.register(child.pid_fd, selectors.EVENT_READ)
        while True:
            now = time.monotonic()
            if stopped():
                stopped_at = stopped_at or now
            if now >= deadline or (stopped_at and now >= stopped_at + TERM_GRACE):
                return False
            ready = {key.fd for key, _ in selector.select(min(deadline - now, 0.5))}
            # Output first: what was written before the end is read before the end is seen.
            if output.fileno() in ready:
                data = output.read(65536)
                if not data:
                    selector.unregister(output)
                rest = _split(rest + (data or b""), lines)
            elif child.pid_fd in ready:
                if rest:
                    lines.append(_text(rest))
                return True


def _split(data: bytes, lines: deque[str]) -> bytes:
    *whole, rest = data.split(b"\n")
    lines.extend(_text(line) for line in whole[-TAIL_LINES:])
    return rest[-_LINE_LIMIT:]


def _text(line: bytes) -> str:
    return line[:_LINE_LIMIT].decode("utf-8", "backslashreplace").rstrip("\r")


def _failure(argv: Sequence[str], how: str, lines: Sequence[str]) -> HookFailed:
    return HookFailed("\n".join([f"hook failed: {' '.join(argv)}: {how}", *lines]))
