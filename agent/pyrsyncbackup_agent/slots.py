"""Who may call, and how many streams at a time: checked for every RPC before it is served.

A stream holds a worker thread for as long as it lasts. So streams are counted and refused before all workers are taken,
and some workers are always left for unary calls. Calls of a relay are counted apart: however many they are, they take
no worker from the agent's own sessions.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc

from pyrsyncbackup_agent.trusted import TrustedCollectors

# Streams of one session: the lease, a listing, digests, transfers, watching; and some to spare for other clients.
STREAMS_PER_SESSION: Final = 8
SPARE_STREAMS: Final = 8
UNARY_WORKERS: Final = 6


@dataclass(frozen=True)
class Limit:
    """At most `most` calls of a kind run at a time; the next one is told their number and `refusal`."""

    most: int
    refusal: str


@dataclass(frozen=True)
class _Call:
    client: bytes
    context: grpc.ServicerContext
    limit: Limit


class Gate(grpc.ServerInterceptor):
    """Refuses certificates that are not trusted now, and calls beyond a limit; ends streams of removed ones.

    `streams` holds for all streams but those with a limit in `apart`, by method ("/package.Service/Method").
    """

    def __init__(self, trusted: TrustedCollectors, streams: Limit, apart: Mapping[str, Limit]) -> None:
        self._trusted = trusted
        self._limit = streams
        self._apart = apart
        self._lock = threading.Lock()
        self._calls: dict[int, _Call] = {}
        self._open: Counter[Limit] = Counter()
        self._next = 0
        self.occupied = threading.Event()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of any service of this server."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        limit = self._apart.get(handler_call_details.method)
        if not handler.request_streaming and not handler.response_streaming:
            serve_one: Any = handler.unary_unary
            return grpc.unary_unary_rpc_method_handler(
                self._unary(serve_one, limit), handler.request_deserializer, handler.response_serializer
            )
        if handler.response_streaming:
            kind: Any = grpc.stream_stream_rpc_method_handler
            serve: Any = handler.stream_stream
            if not handler.request_streaming:
                kind, serve = grpc.unary_stream_rpc_method_handler, handler.unary_stream
            wrapped: grpc.RpcMethodHandler[Any, Any] = kind(
                self._stream(serve, limit or self._limit), handler.request_deserializer, handler.response_serializer
            )
            return wrapped
        return None  # no service here takes a stream and answers once

    def end_removed(self) -> None:
        """End the running streams of certificates that are not trusted any more."""
        with self._lock:
            calls = list(self._calls.values())
        for call in calls:
            if not self._trusted.trusts(call.client):
                call.context.cancel()

    def _unary(
        self, serve: Callable[[Any, grpc.ServicerContext], Any], limit: Limit | None
    ) -> Callable[[Any, grpc.ServicerContext], Any]:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            client = self._client(context)
            if limit is None:
                return serve(request, context)
            with self._counted(_Call(client, context, limit)):
                return serve(request, context)

        return call

    def _stream(
        self, serve: Callable[[Any, grpc.ServicerContext], Iterator[Any]], limit: Limit
    ) -> Callable[[Any, grpc.ServicerContext], Iterator[Any]]:
        def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with self._counted(_Call(self._client(context), context, limit)):
                yield from serve(request, context)

        return call

    def _client(self, context: grpc.ServicerContext) -> bytes:
        der = peer_certificate(context)
        if not self._trusted.trusts(der):
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "certificate is not trusted by this agent")
        return der

    @contextlib.contextmanager
    def _counted(self, call: _Call) -> Iterator[None]:
        """Count it for as long as it has its worker, which can be longer than its client waits."""
        limit = call.limit
        with self._lock:
            full = self._open[limit] >= limit.most
            if not full:
                number = self._next = self._next + 1
                self._calls[number] = call
                self._open[limit] += 1
                self.occupied.set()
        if full:
            call.context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{limit.most} {limit.refusal}")
        try:
            yield
        finally:
            with self._lock:
                del self._calls[number]
                self._open[limit] -= 1
                if not self._calls:
                    self.occupied.clear()


def peer_certificate(context: grpc.ServicerContext) -> bytes:
    """Return the client's certificate (DER); empty if it sent none."""
    values: Any = context.auth_context().get("x509_pem_cert") or [b""]
    try:
        return ssl.PEM_cert_to_DER_cert(next(iter(values)).decode())
    except ValueError:
        return b""
