"""Who may call, and how many streams at a time: checked for every RPC before it is served.

A stream holds a worker thread for as long as it lasts. So streams are counted and refused before all workers are taken,
and some workers are always left for unary calls.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc

from pyrsyncbackup_agent.trusted import TrustedCollectors

# Streams of one session: the lease, a listing, digests, transfers, watching; and some to spare for other clients.
STREAMS_PER_SESSION: Final = 8
SPARE_STREAMS: Final = 8
UNARY_WORKERS: Final = 6


class Gate(grpc.ServerInterceptor):
    """Refuses certificates that are not trusted now, and streams beyond the limit; ends those of removed ones."""

    def __init__(self, trusted: TrustedCollectors, streams: int) -> None:
        self._trusted = trusted
        self._limit = streams
        self._lock = threading.Lock()
        self._streams: dict[int, tuple[bytes, grpc.ServicerContext]] = {}
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
        if not handler.request_streaming and not handler.response_streaming:
            serve_one: Any = handler.unary_unary
            return grpc.unary_unary_rpc_method_handler(
                self._unary(serve_one), handler.request_deserializer, handler.response_serializer
            )
        if handler.response_streaming:
            kind: Any = grpc.stream_stream_rpc_method_handler
            serve: Any = handler.stream_stream
            if not handler.request_streaming:
                kind, serve = grpc.unary_stream_rpc_method_handler, handler.unary_stream
            wrapped: grpc.RpcMethodHandler[Any, Any] = kind(
                self._stream(serve), handler.request_deserializer, handler.response_serializer
            )
            return wrapped
        return None  # no service here takes a stream and answers once

    def end_removed(self) -> None:
        """End the running streams of certificates that are not trusted any more."""
        with self._lock:
            streams = list(self._streams.values())
        for der, context in streams:
            if not self._trusted.trusts(der):
                context.cancel()

    def _unary(self, serve: Callable[[Any, grpc.ServicerContext], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            self._client(context)
            return serve(request, context)

        return call

    def _stream(
        self, serve: Callable[[Any, grpc.ServicerContext], Iterator[Any]]
    ) -> Callable[[Any, grpc.ServicerContext], Iterator[Any]]:
        def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            number = self._enter(self._client(context), context)
            if not context.add_callback(lambda: self._leave(number)):
                self._leave(number)
            yield from serve(request, context)

        return call

    def _client(self, context: grpc.ServicerContext) -> bytes:
        der = peer_certificate(context)
        if not self._trusted.trusts(der):
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "certificate is not trusted by this agent")
        return der

    def _enter(self, der: bytes, context: grpc.ServicerContext) -> int:
        with self._lock:
            full = len(self._streams) >= self._limit
            if not full:
                number = self._next = self._next + 1
                self._streams[number] = (der, context)
                self.occupied.set()
        if full:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._limit} streams are open, no more are allowed")
        return number

    def _leave(self, number: int) -> None:
        with self._lock:
            self._streams.pop(number, None)
            if not self._streams:
                self.occupied.clear()


def peer_certificate(context: grpc.ServicerContext) -> bytes:
    """Return the client's certificate (DER); empty if it sent none."""
    values: Any = context.auth_context().get("x509_pem_cert") or [b""]
    try:
        return ssl.PEM_cert_to_DER_cert(next(iter(values)).decode())
    except ValueError:
        return b""
