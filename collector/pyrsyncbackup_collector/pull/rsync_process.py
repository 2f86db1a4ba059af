"""Runs one rsync client in the sandbox and joins it to the agent's daemon: the only place that starts it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import IO, Protocol

from pyrsyncbackup_collector.errors import BackupError, TransferFailed
from pyrsyncbackup_collector.pull.outcome import Ended
from pyrsyncbackup_collector.transport.offer import DaemonExit

# Lines of rsync's messages that travel with the outcome, and bytes of one of them.
TAIL_LINES = 25
LINE_BYTES = 500

# Seconds that the client may take to start the bridge, and to end once the connection has.
START = 30.0
END = 60.0


class Pump(Protocol):
    """Carries the bytes of one rsync connection to the agent's daemon and back."""

    def run(
        self,
        ends: Callable[[], tuple[int, int] | None],
        on_data: Callable[[int], None] | None = None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> DaemonExit | None:
        """Have the daemon started, then copy both ways until both ends are done; raises BackupError.

        `ends` waits for the client's two descriptors (from it, to it), which are owned and closed here; None, and None
        is returned, if there will be none. `on_failure` is called before they are closed in the middle.
        """
        ...


class Client:
    """A started rsync client that waits for its connection. Run it, or close it: no process is left by either.

    `argv_for` takes the descriptor of the bridge's socket. Make it in a thread that outlives the client: the kernel
    ends bubblewrap with the thread that started it.
    """

    def __init__(self, argv_for: Callable[[int], Sequence[str]]) -> None:
        self._control, bridges = socket.socketpair()
        with bridges:
            self._process = subprocess.Popen(
                list(argv_for(bridges.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(bridges.fileno(),),
                start_new_session=True,
                umask=0o077,
            )
        self._tail = _Tail(self._process.stderr)

    def run(self, pump: Pump, on_data: Callable[[int], None] | None = None) -> Ended:
        """Join it to `pump` and wait for its end.

        A failure of the connection is returned in `Ended.lost`, since what arrived before it counts.
        """
        exited: DaemonExit | None = None
        lost: BackupError | None = None
        try:
            # An rsync that sees its connection end removes the begin of the file that it was writing.
            exited = pump.run(lambda: _receive_ends(self._control), on_data, lambda: _kill(self._process))
        except BackupError as error:
            lost = error
            _kill(self._process)
        except OSError as error:  # a taken-over client handed out descriptors that are no sockets
            lost = TransferFailed(f"rsync's end of the connection cannot be used: {error.strerror}")
            _kill(self._process)
        finally:
            code, lines = self._end()
        return Ended(code, tuple(lines), exited, lost)

    def close(self) -> None:
        """End it; it was not run."""
        _kill(self._process)
        self._end()

    def _end(self) -> tuple[int, list[str]]:
        # Descriptors that nobody took go with it, so that rsync sees the end of its connection whatever else fails.
        self._control.close()
        return _wait(self._process), self._tail.finish()


def _receive_ends(control: socket.socket) -> tuple[int, int] | None:
    """Rsync's two descriptors from the bridge; None if the client ended before."""
    control.settimeout(START)
    try:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 2)
    except TimeoutError:
        raise TransferFailed(f"rsync did not start within {START:.0f} s", "look at the load of this machine") from None
    if len(descriptors) != 2:
        return None
    return descriptors[0], descriptors[1]


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Exit code of the client; whatever else is left of its process group is ended before the number is free again."""
    pidfd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()  # select() ends at descriptor 1023, which a hundred pulls at a time reach
        poll.register(pidfd, select.POLLIN)
        poll.poll(END * 1000)
    finally:
        os.close(pidfd)
    _kill(process)
    return process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class _Tail:
    """Drains a stream in a thread and keeps its last lines, whatever their number and length."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        assert stream is not None  # noqa: S101 - Popen was asked for a pipe
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._thread = threading.Thread(target=self._drain, name="rsync-messages", daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        while line := self._stream.readline(LINE_BYTES):
            self._lines.append(line.decode("utf-8", "backslashreplace").rstrip("\n"))

    def finish(self) -> list[str]:
        """The last lines; the process has ended."""
        self._thread.join(END)
        if not self._thread.is_alive():
            self._stream.close()
        return list(self._lines)
