"""Real TCP servers in threads, for what is reached through something: each is a function that gets a connection."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator

Serve = Callable[[socket.socket], None]

# Sockets of ports that were given out, the latest; more would take the descriptors that sshtunnel needs.
_held: deque[socket.socket] = deque()
_MOST_HELD = 100


@contextlib.contextmanager
def server(serve: Serve) -> Iterator[str]:
    """Yield "127.0.0.1:PORT"; connections still open at the end are shut down."""
    opened: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def one(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            serve(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            opened.append(connection)
            threads.append(threading.Thread(target=one, args=(connection,), daemon=True))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for connection in opened:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


@contextlib.contextmanager
def serving(serve: Serve) -> Iterator[int]:
    """The same, by its port."""
    with server(serve) as address:
        yield int(address.rpartition(":")[2])


def closed_port() -> int:
    """A port on which nobody listens, and that nobody gets who asks for any: it is bound until the test process ends.

    A server that sets SO_REUSEADDR, as all do, may listen on it.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    _held.append(held)
    if len(_held) > _MOST_HELD:
        _held.popleft().close()
    return int(held.getsockname()[1])


@contextlib.contextmanager
def swallowing() -> Iterator[str]:
    """Yield an address that answers nothing, not even a refusal: its queue of connections is full."""
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def exactly(connection: socket.socket, size: int) -> bytes:
    """So many bytes, in however many pieces they come; fewer at the end of what there is."""
    got = b""
    while len(got) < size and (data := connection.recv(size - len(got))):
        got += data
    return got


def echo(connection: socket.socket) -> None:
    """Send back what comes."""
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def flood(connection: socket.socket) -> None:
    """Send for as long as it is taken."""
    block = bytes(1 << 18)
    while True:
        connection.sendall(block)


def deaf(connection: socket.socket) -> None:
    """Take nothing, until both ends are done with the connection."""
    poller = select.poll()
    poller.register(connection, 0)
    poller.poll()


def reset(connection: socket.socket) -> None:
    """Take one byte, answer one, then reset."""
    connection.recv(1)
    connection.sendall(b"!")
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
