"""A real gRPC server under mutual TLS whose answers a test chooses, also those that no honest agent gives."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from pyrsyncbackup import identity
from pyrsyncbackup.v1 import agent_pb2 as pb
from pyrsyncbackup.v1 import agent_pb2_grpc

SESSION = b"session-token"


class PlainAgent(agent_pb2_grpc.AgentServiceServicer):
    """Answers from its attributes; a test replaces what it is about."""

    def __init__(self, own: identity.Identity, secret: bytes = b"") -> None:
        self.identity = own
        self.secret = secret
        self.protocol = (1, 1)
        self.address = ""
        self.module = pb.Module(
            name="etc", title="Etc", state=pb.MODULE_STATE_READY, roots=[pb.Root(id=1, path=b"etc/nginx")]
        )
        self.listing: list[pb.ListEntriesResponse] = []
        self.flood = None
        self.lease_ended = threading.Event()

    def GetInfo(self, request, context):
        collector = context.auth_context()["x509_pem_cert"][0]
        proof = b""
        if self.secret:
            ders = [identity.certificate_der(pem) for pem in (self.identity.certificate_pem, collector)]
            proof = identity.proof(self.secret, *ders)
        return pb.GetInfoResponse(
            name="plain", version="1", protocol_min=self.protocol[0], protocol_max=self.protocol[1], proof=proof
        )

    def ListModules(self, request, context):
        return pb.ListModulesResponse(modules=[self.module])

    def OpenModule(self, request, context):
        ended = self.lease_ended
        context.add_callback(ended.set)
        yield pb.OpenModuleResponse(session=SESSION, module=self.module)
        ended.wait()

    def ListEntries(self, requests, context):
        first = next(requests)
        assert first.session == SESSION
        if not first.paths:
            yield from self.listing
            return
        for request in (first, *requests):
            yield pb.ListEntriesResponse(entries=[self.entry(path) for path in request.paths])

    def entry(self, path: bytes) -> pb.Entry:
        return pb.Entry(path=path, type=pb.ENTRY_TYPE_FILE, mode=0o644, size=1, root=1, token=7)

    def HashFiles(self, requests, context):
        for request in requests:
            yield pb.HashFilesResponse(
                hashes=[pb.FileHash(path=path, sha256=bytes(32), size=1, token=7) for path in request.paths]
            )

    def Transfer(self, requests, context):
        """Sends back what it gets, or what a test's `flood` yields."""
        if self.flood is not None:
            yield from self.flood(requests, context)
            return
        assert next(requests).session == SESSION
        for request in requests:
            yield pb.TransferResponse(data=request.data)
        yield pb.TransferResponse(exit=pb.DaemonExit(code=0, messages="done"))


@contextlib.contextmanager
def serving(agent: PlainAgent, collectors: list[bytes], address: str = "127.0.0.1:0") -> Iterator[PlainAgent]:
    """Serve until the end of the block, trusting the certificates of `collectors`; sets `agent.address`."""
    credentials = grpc.ssl_server_credentials(
        [(agent.identity.key_pem, agent.identity.certificate_pem)], b"".join(collectors), require_client_auth=True
    )
    options = (
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.so_reuseport", 0),
    )
    pool = ThreadPoolExecutor(16)
    server = grpc.server(pool, options=options)
    agent_pb2_grpc.add_AgentServiceServicer_to_server(agent, server)
    port = server.add_secure_port(address, credentials)
    agent.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield agent
    finally:
        agent.lease_ended.set()
        server.stop(0).wait()
        pool.shutdown()
