"""One TCP connection that is passed on: used by two threads, one for each direction, and cut by a third at any time."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Iterator
from typing import Final

from pyrsyncbackup_agent import dial
from pyrsyncbackup_agent.errors import PeerUnreachable
from pyrsyncbackup_agent.peers import Peer

CONNECT_TIMEOUT: Final = 10.0
# What one read takes. In pieces of 256 KiB bytes pass twice as fast as in those of 64 KiB, for half of the CPU time. A
# connection whose client is slow holds its last piece, twice or three times over with what gRPC has of it: many that
# are open share what few can have, 41 KiB each of 200.
MOST: Final = 256 * 1024
LEAST: Final = 16 * 1024
TOGETHER: Final = 8 * 1024 * 1024

# A peer that is gone without a word is noticed after 30 s: by probes when nothing is under way, else by what it does
# not acknowledge. The latter also ends a connection whose peer has not taken a byte for 30 s; a gRPC server always
# takes them, and its own windows hold back the sender.
_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)


class Reads:
    """How much one read takes now: what there is for all is shared by the connections that are open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """One more connection is open during the block."""
        with self._lock:
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1

    @property
    def size(self) -> int:
        """Bytes."""
        return max(LEAST, min(MOST, TOGETHER // max(1, self._open)))


class Connection:
    """To one peer. `open` once, then `receive` in one thread and `send` in another; each calls `release` at its end.

    The last one to release closes the socket: closed earlier, its number could be another connection's while a thread
    still uses it. `cut` wakes both. What goes wrong is PeerUnreachable with the address and the reason.
    """

    def __init__(self, peer: Peer, reads: Reads) -> None:
        self._peer, self._reads = peer, reads
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._users = 1
        self._is_cut = False
        self._failure: OSError | None = None

    def open(self) -> None:
        """Connect."""
        try:
            opened = dial.dial(self._peer.host, self._peer.port, CONNECT_TIMEOUT, self._take)
        except PeerUnreachable as error:
            raise PeerUnreachable(f"could not connect to {self._peer.address}: {error.cause}") from None
        for option in _OPTIONS:
            opened.setsockopt(*option)

    def receive(self) -> bytes:
        """Wait for bytes of the peer; none when it has ended its side, or when the connection was cut."""
        try:
            # The place for a whole piece is taken when there is something to put in it.
            data = self._open_socket.recv(1, socket.MSG_PEEK) and self._open_socket.recv(self._reads.size)
        except OSError as error:
            self._failed(error)
            data = b""
        # The kernel tells a failure once: perhaps to the other thread.
        if not data and self._failure is not None and not self._is_cut:
            reason = dial.words(self._failure)
            raise PeerUnreachable(f"the connection to {self._peer.address} broke: {reason}")
        return data

    def send(self, data: bytes) -> bool:
        """Pass all of `data` to the peer, waiting while it takes none; False when it takes no more."""
        try:
            self._open_socket.sendall(data)
        except OSError as error:
            self._failed(error)
            return False
        return True

    def end_of_input(self) -> None:
        """Tell the peer that no more comes."""
        with contextlib.suppress(OSError):
            self._open_socket.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """End it, at any time and from any thread."""
        with self._lock:
            self._is_cut = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def share(self) -> None:
        """One more thread uses it."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """One thread less uses it."""
        with self._lock:
            self._users -= 1
            if not self._users and self._socket is not None:
                self._socket.close()
                self._socket = None

    @property
    def _open_socket(self) -> socket.socket:
        if self._socket is None:
            raise OSError(errno.ENOTCONN, "not connected")
        return self._socket

    def _take(self, attempt: socket.socket) -> None:
        with self._lock:
            if self._is_cut:
                raise OSError(errno.ECANCELED, "cut")
            self._socket = attempt

    def _failed(self, error: OSError) -> None:
        if self._failure is None:
            self._failure = error
