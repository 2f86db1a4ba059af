"""A connection through a relay, as a client holds it: bytes in and out, and a local port that leads through it."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
from pyrsyncbackup.v1 import relay_pb2 as pb
from pyrsyncbackup.v1 import relay_pb2_grpc


class Relayed:
    """One Connect. `send` puts bytes in line, `end` half-closes, `call` has the answers."""

    def __init__(self, stub: relay_pb2_grpc.RelayServiceStub, peer: str, first: bytes = b"") -> None:
        self._requests: queue.SimpleQueue[pb.ConnectRequest | None] = queue.SimpleQueue()
        self._requests.put(pb.ConnectRequest(peer=peer, data=first))
        self.call = stub.Connect(iter(self._requests.get, None))

    def stands(self) -> Relayed:
        """Wait until the TCP connection stands."""
        self.call.initial_metadata()
        return self

    def send(self, data: bytes) -> None:
        """Send."""
        self._requests.put(pb.ConnectRequest(data=data))

    def end(self) -> None:
        """Send no more."""
        self._requests.put(None)

    def cancel(self) -> None:
        """End it."""
        self.call.cancel()
        self.end()

    def receive(self, size: int) -> bytes:
        """Exactly `size` bytes, of messages that end there."""
        data = b""
        while len(data) < size:
            data += next(self.call).data
        return data

    def rest(self) -> bytes:
        """Everything until the end."""
        return b"".join(message.data for message in self.call)

    def status(self) -> tuple[grpc.StatusCode, str]:
        """Read to the end; code and message."""
        try:
            self.rest()
        except grpc.RpcError as error:
            self.end()
            return error.code(), error.details()
        return self.call.code(), self.call.details()


@contextlib.contextmanager
def pump(stub: relay_pb2_grpc.RelayServiceStub, peer: str) -> Iterator[str]:
    """Yield a local address whose first connection is passed on to `peer`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError, grpc.RpcError):
                relayed = Relayed(stub, peer)
                back = threading.Thread(target=answers, args=(connection, relayed))
                back.start()
                while data := connection.recv(1 << 16):
                    relayed.send(data)
                relayed.end()
                back.join()

        def answers(connection: socket.socket, relayed: Relayed) -> None:
            with contextlib.suppress(OSError, grpc.RpcError):
                for message in relayed.call:
                    connection.sendall(message.data)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        server.join()


def footprint(pid: int) -> tuple[int, int]:
    """Threads and open files of a process."""
    return len(list(Path(f"/proc/{pid}/task").iterdir())), len(list(Path(f"/proc/{pid}/fd").iterdir()))


def memory(pid: int) -> int:
    """Resident memory in MB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line)
    return int(line.split()[1]) >> 10
