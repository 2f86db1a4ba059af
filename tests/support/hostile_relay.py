"""A relay that does what no honest one does: a real gRPC server under mutual TLS, bent as a test wants.

Left alone it passes connections on. What `connect` yields goes over the wire as it is, also what is no message.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from pyrsyncbackup import identity
from pyrsyncbackup.v1 import agent_pb2 as pb
from pyrsyncbackup.v1 import agent_pb2_grpc, relay_pb2

from tests.support.plain_agent import PlainAgent

CONNECTED = (("connected", "1"),)
Requests = Iterator[relay_pb2.ConnectRequest]


class HostileRelay(PlainAgent):
    """`peers` are addresses by name; `connect` answers a Connect after its first request, with serialised messages."""

    def __init__(self, folder: Path) -> None:
        super().__init__(identity.load_or_create(folder / "identity"))
        self.peers: dict[str, str] = {}
        self.connect: Callable[[str, Requests, grpc.ServicerContext], Iterable[bytes]] = self.pass_on
        self.list: Callable[[], bytes] = lambda: relay_pb2.ListPeersResponse(
            peers=[relay_pb2.Peer(name=name, answers=True) for name in self.peers]
        ).SerializeToString()
        self.connects = 0

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def GetInfo(self, request, context):
        return pb.GetInfoResponse(name="evil", version="1", protocol_min=1, protocol_max=1, relay=True)

    def pass_on(self, peer: str, requests: Requests, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Do as an honest relay does."""
        host, _, port = self.peers[peer].rpartition(":")
        with socket.create_connection((host, int(port)), 60) as far:
            context.add_callback(lambda: _shut(far))
            context.send_initial_metadata(CONNECTED)
            threading.Thread(target=_feed, args=(requests, far), daemon=True).start()
            with contextlib.suppress(OSError):
                while data := far.recv(65536):
                    yield message(data)

    def _connect(self, requests: Requests, context: grpc.ServicerContext) -> Iterator[bytes]:
        self.connects += 1
        yield from self.connect(next(requests).peer, requests, context)

    def _list(self, request: object, context: grpc.ServicerContext) -> bytes:
        return self.list()


def message(data: bytes) -> bytes:
    """A message that carries these bytes."""
    return relay_pb2.ConnectResponse(data=data).SerializeToString()


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def _feed(requests: Requests, far: socket.socket) -> None:
    with contextlib.suppress(Exception):  # gRPC raises a bare one when the client is gone
        for request in requests:
            far.sendall(request.data)
    _shut(far)


@contextlib.contextmanager
def relaying(relay: HostileRelay, collectors: list[bytes]) -> Iterator[HostileRelay]:
    """Serve until the end of the block; sets `relay.address`."""
    credentials = grpc.ssl_server_credentials(
        [(relay.identity.key_pem, relay.identity.certificate_pem)], b"".join(collectors), require_client_auth=True
    )
    pool = ThreadPoolExecutor(32)
    options = (("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 10_000))
    server = grpc.server(pool, options=options)
    agent_pb2_grpc.add_AgentServiceServicer_to_server(relay, server)
    handlers = {
        "Connect": grpc.stream_stream_rpc_method_handler(relay._connect, relay_pb2.ConnectRequest.FromString),
        "ListPeers": grpc.unary_unary_rpc_method_handler(relay._list, relay_pb2.ListPeersRequest.FromString),
    }
    service = grpc.method_handlers_generic_handler("pyrsyncbackup.v1.RelayService", handlers)
    server.add_generic_rpc_handlers((service,))
    relay.address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    server.start()
    try:
        yield relay
    finally:
        server.stop(0).wait()
        pool.shutdown()
