"""The way through a relay: a Unix socket whose connections the relay passes on to one of its peers.

What passes is the TLS of the two ends; here and at the relay it is bytes. Two threads copy each connection: this
module's from the relay to the socket, gRPC's from the socket to the relay. Both wait for whoever is slower.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from pyrsyncbackup_collector.errors import ConnectError, ConnectionLost, PeerUnreachable, RelayBusy
from pyrsyncbackup_collector.transport.relay_client import PeerConnection, RelayClient
from pyrsyncbackup_collector.transport.route import Endpoint

# What one read takes: as much as a Unix socket holds by default.
_CHUNK = 2**18
# A relay notices a moment later that a connection was closed: a full one is asked again, so often, after so many
# seconds each time.
_ROOM_PAUSE = 0.05
_ROOM_TRIES = 8


class RelayHop:
    """An open way to a peer, listening at `path`. The constructor makes the first connection, to know that it works.

    Raises ConnectError. `lost` is called when the connection with the relay itself turns out to be gone, `make_room`
    when the relay is full: it returns whether it closed a connection of ours that nobody used.
    """

    def __init__(
        self, relay: RelayClient, peer: str, path: Path, lost: Callable[[], None], make_room: Callable[[], bool]
    ) -> None:
        self._relay, self._peer, self._lost, self._make_room = relay, peer, lost, make_room
        self._path = path
        self._failure: ConnectError | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._ended = threading.Event()
        self._open: set[PeerConnection] = set()
        self.endpoint = Endpoint(f"unix:{path}", str(path))
        self._first: PeerConnection | None = self._connect()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.unlink(missing_ok=True)
            self._listener.bind(str(path))
            self._listener.listen()
        except BaseException:
            self._listener.close()
            self._end(self._first)
            raise
        threading.Thread(target=self._accept, name=f"relay to {peer}", daemon=True).start()

    @property
    def alive(self) -> bool:
        """False if it was closed, or its peer did not answer the last time. The relay itself is its owner's business.

        gRPC connects anew by itself when a connection ends: so a peer that is gone shows.
        """
        return not self._closed and not isinstance(self._failure, PeerUnreachable)

    def why(self) -> ConnectError | None:
        """Why the last connection failed."""
        failure = self._failure
        return failure.anew() if failure else None

    def close(self) -> None:
        """End all connections and remove the socket."""
        with self._lock:
            self._closed = True
            connections = [*self._open]
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept
        self._listener.close()
        self._path.unlink(missing_ok=True)
        for connection in connections:
            connection.close()

    def _connect(self) -> PeerConnection:
        try:
            connection = self._passed_on()
        except ConnectionLost:
            self._lost()
            raise
        with self._lock:
            if not self._closed:
                self._open.add(connection)
                return connection
        connection.close()
        raise ConnectionLost(f"the way through relay {self._relay.host} was closed", "it is made anew")

    def _passed_on(self) -> PeerConnection:
        tries = 0
        while True:
            try:
                return self._relay.connect(self._peer)
            except RelayBusy:
                # The first time in any case: this hop's own connection before may just have been closed.
                if tries % _ROOM_TRIES == 0 and not self._make_room() and tries:
                    raise
            tries += 1
            self._ended.wait(_ROOM_PAUSE)

    def _end(self, connection: PeerConnection) -> None:
        with self._lock:
            self._open.discard(connection)
        connection.close()

    def _accept(self) -> None:
        while True:
            try:
                local, _ = self._listener.accept()
            except OSError:  # closed
                return
            first, self._first = self._first, None
            server = threading.Thread(
                target=self._serve, args=(local, first), name=f"relay to {self._peer}", daemon=True
            )
            try:
                server.start()
            except RuntimeError:  # no more threads
                self._first = first
                local.close()

    def _serve(self, local: socket.socket, connection: PeerConnection | None) -> None:
        """One connection from its begin to its end; a failure is remembered, never raised."""
        with contextlib.closing(local):
            try:
                connection = connection or self._connect()
            except ConnectError as error:
                self._failure = error
                return
            self._failure = None
            try:
                _copy(local, connection)
            except ConnectError as error:
                self._failure = error
                if isinstance(error, ConnectionLost):
                    self._lost()
            finally:
                # Wakes gRPC's thread, which may wait for the socket.
                with contextlib.suppress(OSError):
                    local.shutdown(socket.SHUT_RDWR)
                self._end(connection)


def _copy(local: socket.socket, connection: PeerConnection) -> None:
    connection.send(_pieces(local, connection))
    for data in connection.receive():
        try:
            local.sendall(data)
        except OSError:  # the near side has enough
            return


def _pieces(local: socket.socket, connection: PeerConnection) -> Iterator[bytes]:
    """What comes from the near side, until it ends: nobody there who would read an answer."""
    with contextlib.suppress(OSError):
        while data := local.recv(_CHUNK):
            yield data
    connection.close()
