"""The bytes of one rsync connection, between the client's two sockets and the messages of an RPC.

Nothing polls: one thread (gRPC's) blocks reading the one socket, the caller's blocks on the RPC. An end of file on
either side is passed on, and `close` wakes both.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from pyrsyncbackup_collector.clock import Clock

# gRPC moves twice as much in messages of 128 kB and more than in small ones (DESIGN section 8).
CHUNK = 256 * 1024
# The rsync client ends at once when its daemon's side ended; longer means that it hangs.
_LINGER = 30.0


class LocalEnd:
    """The near end: two stream sockets whose peer is the rsync client, one for each direction; owned from here on.

    They may be the same one.
    """

    def __init__(self, from_client: int, to_client: int) -> None:
        self._from = socket.socket(fileno=from_client)
        self._to = self._from if to_client == from_client else socket.socket(fileno=to_client)
        for end in (self._from, self._to):
            end.setblocking(True)
        self._sent_all = threading.Event()
        self.received = 0
        self.sent = 0

    def chunks(self) -> Iterator[bytes]:
        """What the rsync client writes, until its end of file or `close`."""
        try:
            while data := self._read():
                self.sent += len(data)
                yield data
        finally:
            self._sent_all.set()

    def _read(self) -> bytes:
        try:
            return self._from.recv(CHUNK)
        except OSError:  # closed meanwhile
            return b""

    def write(self, data: bytes) -> bool:
        """Give `data` to the rsync client; False if it does not want any more."""
        try:
            self._to.sendall(data)
        except OSError:
            return False
        self.received += len(data)
        return True

    def finish(self) -> None:
        """The daemon has ended: pass its end of file on, and wait for the client's."""
        with contextlib.suppress(OSError):
            self._to.shutdown(socket.SHUT_WR)
        self._sent_all.wait(_LINGER)

    def wake(self) -> None:
        """End both directions; whoever blocks on the socket returns."""
        for end in (self._from, self._to):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End both directions and close the sockets."""
        self.wake()
        self._from.close()
        self._to.close()


class Pace:
    """A token bucket of one second; `rate` is in bytes a second, 0 for no limit."""

    def __init__(self, clock: Clock, rate: float) -> None:
        self._clock = clock
        self._rate = rate
        self._tokens = rate
        self._time = clock.monotonic()
        self._stopped = threading.Event()

    def take(self, size: int) -> None:
        """Wait until `size` bytes may pass; returns at once after `stop`."""
        if not self._rate:
            return
        now = self._clock.monotonic()
        self._tokens = min(self._rate, self._tokens + (now - self._time) * self._rate) - size
        self._time = now
        if self._tokens < 0:
            self._stopped.wait(-self._tokens / self._rate)

    def stop(self) -> None:
        """End the waiting."""
        self._stopped.set()
