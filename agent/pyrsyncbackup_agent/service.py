"""gRPC in, domain out: each RPC as a few lines around the parts that do the work."""

# ruff: noqa: N802, ARG002 - the names and arguments are those of the generated base class

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
from pyrsyncbackup import PROTOCOL_MAX, PROTOCOL_MIN
from pyrsyncbackup.proof import proof
from pyrsyncbackup.v1 import agent_pb2 as pb
from pyrsyncbackup.v1 import agent_pb2_grpc as stubs

from pyrsyncbackup_agent import entries, messages
from pyrsyncbackup_agent.about import About
from pyrsyncbackup_agent.errors import BadRequest
from pyrsyncbackup_agent.slots import peer_certificate
from pyrsyncbackup_agent.statuses import statuses

if TYPE_CHECKING:
    from pyrsyncbackup_agent.lease import Lease, Leases
    from pyrsyncbackup_agent.modules import Registry
    from pyrsyncbackup_agent.restores import Restores
    from pyrsyncbackup_agent.rsyncd import Daemon
    from pyrsyncbackup_agent.trusted import TrustedCollectors

# How long rsync may take to end after its last byte.
DAEMON_END_WAIT: Final = 10.0
# rsync's exit codes of a restore that is there: whole, or without some attribute that this file system cannot hold.
RESTORED: Final = (0, 23)

_Request = TypeVar("_Request")


class AgentService(stubs.AgentServiceServicer):  # type: ignore[misc] # generated, without types
    """What a collector can ask."""

    def __init__(
        self,
        about: About,
        certificate: bytes,
        registry: Registry,
        leases: Leases,
        trusted: TrustedCollectors,
        restores: Restores,
    ) -> None:
        self._about = about
        self._certificate = certificate
        self._registry = registry
        self._leases = leases
        self._trusted = trusted
        self._restores = restores

    def GetInfo(self, request: pb.GetInfoRequest, context: grpc.ServicerContext) -> pb.GetInfoResponse:
        """Who this agent is, with the proof that it holds the secret of the client's invitation."""
        with statuses(context):
            client = peer_certificate(context)
            secret = self._trusted.secret(client)
            about = self._about
            return pb.GetInfoResponse(
                name=about.name,
                version=about.version,
                os=about.os,
                kernel=about.kernel,
                machine_id=about.machine_id,
                rsync_version=about.rsync_version,
                relay=about.relay,
                protocol_min=PROTOCOL_MIN,
                protocol_max=PROTOCOL_MAX,
                proof=proof(secret, self._certificate, client) if secret else b"",
            )
        raise AssertionError  # abort raises

    def ListModules(self, request: pb.ListModulesRequest, context: grpc.ServicerContext) -> pb.ListModulesResponse:
        """The modules as they are now; unknown names are left out."""
        with statuses(context):
            wanted = frozenset(request.names)
            response = pb.ListModulesResponse()
            for module in self._registry.modules():
                if wanted and module.name not in wanted:
                    continue
                fingerprint = None
                if request.with_fingerprints and module.ready and not module.hooks:
                    fingerprint = entries.fingerprint(module.roots, module.rules, lambda: not context.is_active())
                response.modules.append(messages.module(module, fingerprint))
            return response
        raise AssertionError

    def WatchModules(
        self, request: pb.WatchModulesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchModulesResponse]:
        """An event now and after each change."""
        changed = threading.Event()
        ended = threading.Event()

        def end() -> None:
            ended.set()
            changed.set()

        with statuses(context):
            self._registry.modules()
            unwatch = self._registry.watch(lambda _: changed.set())
            try:
                if not context.add_callback(end):
                    return
                last = None
                while True:
                    changed.clear()
                    # Looked at after `clear`, which may have wiped out what `end` set.
                    if ended.is_set():
                        return
                    generation = self._registry.generation
                    if generation != last:
                        last = generation
                        yield pb.WatchModulesResponse(generation=generation)
                    changed.wait()
            finally:
                unwatch()

    def OpenModule(
        self, request: pb.OpenModuleRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.OpenModuleResponse]:
        """The lease: answers once, and lasts until the client goes or the agent ends it."""
        with statuses(context):
            module = self._registry.get(request.name)
            lease = self._leases.open(module, peer_certificate(context))
            try:
                if not context.add_callback(lease.end):
                    return
                lease.prepare(lambda: self._registry.get(request.name))
                yield pb.OpenModuleResponse(session=lease.session, module=messages.module(lease.module))
                lease.ended.wait()
            finally:
                lease.end()
            lease.closed.wait()
            if context.is_active():
                raise lease.reason

    def ListEntries(
        self, request_iterator: Iterator[pb.ListEntriesRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ListEntriesResponse]:
        """Entries of the whole module, or of the paths in the requests."""
        with statuses(context), self._session(request_iterator, context) as (lease, first, rest):
            stopped = lease.ended.is_set
            if first.paths:
                lookup = entries.Lookup(lease.tree, lease.attributes)
                for request in itertools.chain([first], rest):
                    yield from messages.listings(lookup.entries(request.paths))
            else:
                later = next(rest, None)
                if later is not None and later.paths:
                    raise BadRequest("the paths must begin in the first message")
                walk = entries.Walk(lease.tree, lease.attributes, stopped)
                yield from messages.listings(walk)
                if walk.fingerprint is not None:
                    fingerprint = messages.fingerprint_message(walk.fingerprint)
                    yield pb.ListEntriesResponse(fingerprint=fingerprint)
            if stopped():
                raise lease.reason

    def HashFiles(
        self, request_iterator: Iterator[pb.HashFilesRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.HashFilesResponse]:
        """Digests of the paths in the requests, in their order."""
        with statuses(context), self._session(request_iterator, context) as (lease, first, rest):
            for request in itertools.chain([first], rest):
                digests = entries.hash_files(lease.tree, request.paths, lease.ended.is_set)
                yield from messages.hashes(digests)
                if lease.ended.is_set():
                    raise lease.reason

    def Transfer(
        self, request_iterator: Iterator[pb.TransferRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.TransferResponse]:
        """The bytes of one connection to an rsync daemon."""
        with statuses(context), self._session(request_iterator, context) as (lease, first, rest):
            with lease.daemon(first.root) as daemon:
                context.add_callback(daemon.kill)
                for data in _passed(daemon, first.data, rest):
                    yield pb.TransferResponse(data=data)
                if lease.ended.is_set():
                    raise lease.reason
                done = daemon.close(DAEMON_END_WAIT)
            yield pb.TransferResponse(exit=pb.DaemonExit(code=done.code, messages=done.messages))

    def Push(
        self, request_iterator: Iterator[pb.PushRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.PushResponse]:
        """The bytes of one connection to an rsync daemon that takes a restore."""
        with statuses(context):
            first = next(request_iterator, None)
            if first is None:
                raise BadRequest("the stream ended before its first message")
            with self._restores.receive(first.name) as receiving:
                daemon = receiving.daemon
                if not context.add_callback(daemon.kill):
                    return
                for data in _passed(daemon, first.data, request_iterator):
                    yield pb.PushResponse(data=data)
                done = daemon.close(DAEMON_END_WAIT)
                directory = str(receiving.finish()) if done.code in RESTORED else ""
            yield pb.PushResponse(exit=pb.DaemonExit(code=done.code, messages=done.messages), directory=directory)

    @contextlib.contextmanager
    def _session(
        self, request_iterator: Iterator[_Request], context: grpc.ServicerContext
    ) -> Iterator[tuple[Lease, _Request, Iterator[_Request]]]:
        """Read the first request of a stream, and hold its lease's call for as long as the stream lasts."""
        first: Any = next(request_iterator, None)
        if first is None:
            raise BadRequest("the stream ended before its first message")
        lease = self._leases.find(first.session, peer_certificate(context))
        with lease.call(context.cancel):
            yield lease, first, request_iterator


_Requests = Iterator[pb.TransferRequest] | Iterator[pb.PushRequest]


def _passed(daemon: Daemon, first: bytes, requests: _Requests) -> Iterator[bytes]:
    """What the daemon sends, while it gets what the client sends."""
    threading.Thread(target=_feed, args=(daemon, first, requests), name="rsync input", daemon=True).start()
    while data := daemon.receive():
        yield data


def _feed(daemon: Daemon, first: bytes, requests: _Requests) -> None:
    """Pass what the client sends to the daemon, until either has enough."""
    try:
        if first and not daemon.send(first):
            return
        for request in requests:
            if request.data and not daemon.send(request.data):
                return
    except Exception:  # noqa: BLE001 - grpc raises a bare Exception when the client is gone
        daemon.kill()
        return
    daemon.end_of_input()
