"""Wake the loop: from worker threads and from signal handlers, without a lock that a handler could find taken."""

from __future__ import annotations

import contextlib
import select
import socket


class Wakeup:
    """A connection to oneself. `set` may be called from anywhere, at any time; `wait` from one thread."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def set(self) -> None:
        """End the present `wait`, or the next one."""
        # Full: it is set already. Closed: nobody waits any more.
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")

    def wait(self, seconds: float) -> bool:
        """Wait until `set`, or for so long; whether it was set."""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if not poll.poll(max(0.0, seconds) * 1000):
            return False
        with contextlib.suppress(BlockingIOError):
            while len(self._reader.recv(4096)) == 4096:
                pass
        return True

    def close(self) -> None:
        """Give the connection back."""
        self._reader.close()
        self._writer.close()
