"""The RPCs of one agent as plain calls with plain values; with `relay_client` the only user of gRPC's messages.

What comes back was checked (`modules`, `listing`), failed as one of our errors (`rpc_errors`), and within time: unary
calls and streams have deadlines, and an agent that goes silent is given up (`watchdog`). How the connection comes about
and whether this is the right agent is decided before (`connections`, `trust`).
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import grpc
from pyrsyncbackup import PROTOCOL_MAX, PROTOCOL_MIN
from pyrsyncbackup.identity import Identity, certificate_name
from pyrsyncbackup.v1 import agent_pb2, agent_pb2_grpc

from pyrsyncbackup_collector.clock import Clock, SystemClock
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import (
    AgentMisbehaved,
    ConnectionLost,
    ModuleBusy,
    ProtocolMismatch,
)
from pyrsyncbackup_collector.transport import modules
from pyrsyncbackup_collector.transport.listing import EntryReader, Limits, hashed
from pyrsyncbackup_collector.transport.offer import (
    AgentInfo,
    FileHash,
    Fingerprint,
    Listed,
    ModuleOffer,
    ModuleState,
    Offers,
)
from pyrsyncbackup_collector.transport.pump import Pace
from pyrsyncbackup_collector.transport.relay_client import RelayClient
from pyrsyncbackup_collector.transport.rpc_errors import translate
from pyrsyncbackup_collector.transport.stream import Calls, Stream, Timeouts
from pyrsyncbackup_collector.transport.transfer import Rpc, Transfer
from pyrsyncbackup_collector.transport.watchdog import Watchdog

_MAX_MESSAGE = 4 * 2**20
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
    # Together they find a dead path within 30 s. The agent takes pings every 10 s. It is the timeout of pings that
    # counts: that of keepalive alone, gRPC 1.85 never sets.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # What an agent may send before it is taken. gRPC's own way adapts it to the line by pings of its own, in the middle
    # of the data: their answers wait behind all that is on its way, too long for the timeout on a slow line, and no
    # keepalive is sent meanwhile. 12 MB/s at 100 ms there and back, instead of 32.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 2 << 20),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # Two channels never share a connection: each has its own pinned certificate.
    ("grpc.use_local_subchannel_pool", 1),
)
# Paths of a request go in messages of about this many bytes.
_REQUEST_BYTES = 256 * 1024
_MAX_TEXT = 200
# An honest message of more bytes than this is one large entry and what fits in 512 kB. Decoded, an entry takes some
# 250 bytes even if it is empty: a message full of such would take a hundred times its size.
_DENSE = 768 * 1024
_MAX_DENSE = 20_000
# Protocol buffers' wire type of strings and messages.
_LENGTH_DELIMITED = 2
# After the end of a lease the agent takes a moment for its `after` hooks.
_BUSY_RETRIES = 8
_BUSY_PAUSE = 0.25


# A context manager within which something else may call what it is given.
Ends = Callable[[Callable[[], None]], contextlib.AbstractContextManager[None]]


def _nothing_ends(cancel: Callable[[], None]) -> contextlib.AbstractContextManager[None]:  # noqa: ARG001
    return contextlib.nullcontext()


class AgentClient:
    """A connection to one agent, for any number of threads. `target` is gRPC's, as "unix:/run/x.sock"."""

    def __init__(
        self,
        target: str,
        *,
        host: str,
        identity: Identity,
        agent_certificate: bytes,
        clock: Clock | None = None,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.host = host
        self.limits = limits or Limits()
        self.timeouts = timeouts or Timeouts()
        self.clock = clock or SystemClock()
        credentials = grpc.ssl_channel_credentials(agent_certificate, identity.key_pem, identity.certificate_pem)
        name = ("grpc.ssl_target_name_override", certificate_name(agent_certificate))
        self._channel = grpc.secure_channel(target, credentials, options=(*_OPTIONS, name))
        self._stub = agent_pb2_grpc.AgentServiceStub(self._channel)
        self._list = self._channel.stream_stream(
            "/pyrsyncbackup.v1.AgentService/ListEntries",
            request_serializer=agent_pb2.ListEntriesRequest.SerializeToString,
            response_deserializer=_with_size,
        )
        self.watchdog = Watchdog(self.clock)
        # The same agent, asked to pass connections on.
        self.relay = RelayClient(self._channel, host, self.watchdog, self.timeouts.call)

    def info(self, timeout: float | None = None) -> AgentInfo:
        """Who the agent is, whatever its protocol."""
        answer = self._call(self._stub.GetInfo, agent_pb2.GetInfoRequest(), timeout or self.timeouts.call)
        return AgentInfo(
            name=_text(answer.name),
            version=_text(answer.version),
            os=_text(answer.os),
            kernel=_text(answer.kernel),
            machine_id=_text(answer.machine_id),
            rsync_version=_text(answer.rsync_version),
            protocol_min=answer.protocol_min,
            protocol_max=answer.protocol_max,
            relay=answer.relay,
            proof=answer.proof[:64],
        )

    def checked_info(self, timeout: float | None = None) -> AgentInfo:
        """Who the agent is; raises ProtocolMismatch if we cannot talk to it."""
        info = self.info(timeout)
        if info.protocol_max < PROTOCOL_MIN or info.protocol_min > PROTOCOL_MAX:
            older = "the agent" if info.protocol_max < PROTOCOL_MIN else "the collector"
            raise ProtocolMismatch(
                f"{self.host}: the agent (version {info.version}) speaks protocol {info.protocol_min} to "
                f"{info.protocol_max}, the collector {PROTOCOL_MIN} to {PROTOCOL_MAX}",
                f"update {older}",
            )
        return info

    def offers(self, *, fingerprints: bool = False, names: Iterable[str] = ()) -> Offers:
        """The modules of the host, or those of `names`, and what was dropped. With fingerprints this is the check."""
        request = agent_pb2.ListModulesRequest(with_fingerprints=fingerprints, names=list(names))
        timeout, limit = (self.timeouts.check, "check") if fingerprints else (self.timeouts.call, "connect")
        return modules.offers(self._call(self._stub.ListModules, request, timeout, limit).modules)

    def modules(self, *, fingerprints: bool = False, names: Iterable[str] = ()) -> list[ModuleOffer]:
        """The usable part of `offers`."""
        return list(self.offers(fingerprints=fingerprints, names=names).modules)

    def watch(self) -> Iterator[int]:
        """The agent's generation of modules, now and after each change; ends with ConnectionLost."""
        call = self._stub.WatchModules(agent_pb2.WatchModulesRequest())
        try:
            for event in call:
                yield event.generation
        except grpc.RpcError as error:
            raise translate(error, self.host) from error
        finally:
            call.cancel()

    def open(self, module: str, *, bwlimit: float = 0, ends: Ends = _nothing_ends) -> Session:
        """Take the lease on a module, running its `before` hooks; a context manager that gives it back.

        `bwlimit` bounds its transfers, in bytes a second. Hooks may take an hour: while they run, `ends` is in force,
        a context manager that is given what cancels the waiting.
        """
        pause = threading.Event()
        for _ in range(_BUSY_RETRIES):
            try:
                return Session(self, self._stub, self._list, module, bwlimit, ends)
            except ModuleBusy:
                pause.wait(_BUSY_PAUSE)
        return Session(self, self._stub, self._list, module, bwlimit, ends)

    def try_push(self, name: str) -> None:
        """Whether a restore `name` would be taken now: raises what `push` would. Leaves an empty begin of it there."""
        calls, limit = Calls(self.host, self.timeouts, self.watchdog), self.timeouts.call
        only = iter((agent_pb2.PushRequest(name=name),))
        with Stream(calls, lambda: self._stub.Push(only), limit, limit) as stream:
            # To its end, so that the agent is free for the restore itself.
            while stream.next() is not None:
                pass

    def push(self, name: str) -> Transfer:
        """The rsync connection for a restore into the host's new directory `name`; `last.directory` is its path."""
        calls = Calls(self.host, self.timeouts, self.watchdog)
        rpc = Rpc(self._stub.Push, agent_pb2.PushRequest(name=name), agent_pb2.PushRequest)
        return Transfer(calls, rpc, Pace(self.clock, 0))

    def close(self) -> None:
        """End the connection and everything that runs on it."""
        self._channel.close()
        self.watchdog.close()

    def _call(self, method: Callable[..., Any], request: object, timeout: float, limit: str = "connect") -> Any:
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise translate(error, self.host, f"{timeout:g} s (`limits.{limit}`)") from error
        except ValueError as error:  # gRPC's word for a closed channel
            raise ConnectionLost(f"{self.host}: the connection to the agent was closed", "it is made anew") from error


class Session(Calls):
    """The lease on one module: what it offers now, its entries, digests and transfers. Its calls end with it.

    Used by one thread at a time, but for `cancel`.
    """

    def __init__(
        self, client: AgentClient, stub: Any, lister: Any, module: str, bwlimit: float, ends: Ends = _nothing_ends
    ) -> None:
        super().__init__(client.host, client.timeouts, client.watchdog)
        self.fingerprint: Fingerprint | None = None
        self._client, self._stub, self._lister, self._bwlimit = client, stub, lister, bwlimit
        self._lease = Stream(self, lambda: stub.OpenModule(agent_pb2.OpenModuleRequest(name=module)), open_=True)
        try:
            with ends(self.cancel):
                opened = self._lease.next()
            if opened is None or not 0 < len(opened.session) <= 256 or opened.module.name != module:
                raise AgentMisbehaved(f"{self.host}: the agent opened something else than {module}")
            self._token: bytes = opened.session
            self.offer: ModuleOffer = modules.offer(opened.module)
            if self.offer.state is not ModuleState.READY:
                raise AgentMisbehaved(f"{self.host}: the agent opened {module}, but: {self.offer.reason}")
        except BaseException:
            self._lease.close()
            raise

    def list(self) -> Iterator[Listed]:
        """All entries, in strictly increasing order, each after its parent; then `fingerprint` is set, if any."""
        reader = EntryReader(self.offer.roots, self._client.limits)
        request = agent_pb2.ListEntriesRequest(session=self._token)
        timeouts = self._client.timeouts
        self.fingerprint = None
        with Stream(self, lambda: self._lister(iter((request,))), timeouts.list_idle, timeouts.list_total) as stream:
            while (answer := stream.next()) is not None:
                message, size = answer
                if self.fingerprint is not None:
                    raise AgentMisbehaved(f"{self.host}: the agent goes on after the end of its listing")
                reader.measure(message.entries, size)
                if message.HasField("fingerprint"):
                    self.fingerprint = modules.fingerprint(message.fingerprint)
                yield from reader.whole(message.entries)

    def lookup(self, paths: Iterable[bytes]) -> Iterator[Listed]:
        """The entries of `paths` as they are now, in their order; what is not there comes with its error."""
        reader, asked = EntryReader(self.offer.roots, self._client.limits), deque[bytes]()
        timeouts = self._client.timeouts
        requests = self._requests(agent_pb2.ListEntriesRequest, paths, asked)
        if (first := next(requests, None)) is None:  # no path at all would mean the whole module
            return
        sent = _chain(first, requests)
        with Stream(self, lambda: self._lister(sent), timeouts.list_idle, timeouts.list_total) as stream:
            while (answer := stream.next()) is not None:
                message, size = answer
                reader.measure(message.entries, size)
                yield from reader.looked_up(message.entries, asked)
        self._all_answered(asked)

    def hash(self, paths: Iterable[bytes]) -> Iterator[FileHash]:
        """The digests of the files at `paths`, in their order."""
        asked, timeouts = deque[bytes](), self._client.timeouts
        requests = self._requests(agent_pb2.HashFilesRequest, paths, asked)
        if (first := next(requests, None)) is None:
            return
        sent = _chain(first, requests)
        with Stream(self, lambda: self._stub.HashFiles(sent), timeouts.hash_idle, timeouts.hash_total) as stream:
            while (message := stream.next()) is not None:
                yield from hashed(message.hashes, asked)
        self._all_answered(asked)

    def transfer(self, root: int) -> Transfer:
        """One rsync connection to the daemon that serves the root of that number."""
        first = agent_pb2.TransferRequest(session=self._token, root=root)
        rpc = Rpc(self._stub.Transfer, first, agent_pb2.TransferRequest)
        return Transfer(self, rpc, Pace(self._client.clock, self._bwlimit))

    def __enter__(self) -> Self:
        """The session itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        """Give the lease back."""
        self.close()

    def _requests(self, message: Any, paths: Iterable[bytes], asked: deque[bytes]) -> Iterator[Any]:
        batch: list[bytes] = []
        size, session = 0, self._token
        for path in paths:
            batch.append(path)
            size += len(path) + 8
            if size >= _REQUEST_BYTES:
                asked.extend(batch)
                yield message(session=session, paths=batch)
                batch, size, session = [], 0, b""
        if batch:
            asked.extend(batch)
            yield message(session=session, paths=batch)

    def _all_answered(self, asked: deque[bytes]) -> None:
        if asked:
            raise AgentMisbehaved(f"{self.host}: the agent left {len(asked)} paths unanswered")


def _text(text: str) -> str:
    return printable(text[:_MAX_TEXT])


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _with_size(data: bytes) -> tuple[Any, int]:
    if len(data) > _DENSE:
        _check_density(data)
    return agent_pb2.ListEntriesResponse.FromString(data), len(data)


def _check_density(data: bytes) -> None:
    """Raise ValueError if a large message has more fields than an honest one."""
    place = fields = 0
    while place < len(data) and fields <= _MAX_DENSE:
        if data[place] & 7 != _LENGTH_DELIMITED:
            raise ValueError("not a listing")
        length = shift = 0
        while True:  # the length: seven bits in each byte, the lowest first
            place += 1
            length |= (data[place] & 0x7F) << shift
            shift += 7
            if data[place] < 0x80:
                break
        place += 1 + length
        fields += 1
    if fields > _MAX_DENSE:
        raise ValueError("too many entries in one message")
