"""The RPCs of an agent as a relay: the peers it offers, and connections with them, as plain values and bytes.

With `agent_client` and `rpc_errors` the only user of gRPC. A connection stands when the relay says so in its initial
metadata; from then on its two directions are bytes, which are somebody else's TLS.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
from pyrsyncbackup import valid_name
from pyrsyncbackup.v1 import relay_pb2, relay_pb2_grpc

from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import (
    BackupError,
    ConnectError,
    ConnectionLost,
    PeerUnreachable,
    RelayBusy,
    RelayRefused,
)
from pyrsyncbackup_collector.transport.offer import Peer
from pyrsyncbackup_collector.transport.rpc_errors import translate
from pyrsyncbackup_collector.transport.watchdog import Watchdog

_MAX_PEERS = 10_000
_MAX_TEXT = 200
# One line, with the names of the peers that a relay knows.
_MAX_DETAILS = 2000


class RelayClient:
    """One agent as a relay, on its open channel, which its AgentClient closes."""

    def __init__(self, channel: grpc.Channel, host: str, watchdog: Watchdog, timeout: float) -> None:
        self.host = host
        self._stub = relay_pb2_grpc.RelayServiceStub(channel)
        self._watchdog = watchdog
        self._timeout = timeout

    def peers(self, timeout: float) -> tuple[Peer, ...]:
        """The peers it offers, by name, without those of impossible names. Raises RelayRefused if it is no relay."""
        with _told(self.host):
            answer = self._stub.ListPeers(relay_pb2.ListPeersRequest(), timeout=timeout)
        found = {peer.name: _peer(peer) for peer in answer.peers[:_MAX_PEERS] if valid_name(peer.name)}
        return tuple(found[name] for name in sorted(found))

    def connect(self, peer: str) -> PeerConnection:
        """A connection with that peer's agent, which stands. Raises RelayRefused, RelayBusy, PeerUnreachable."""
        connection = PeerConnection(self._stub, self.host, peer)
        guard = self._watchdog.watch(self._timeout, self._timeout, connection.close)
        try:
            guard.waiting()
            connection.await_open()
        except BackupError as error:
            connection.close()
            if isinstance(error, ConnectionLost) and guard.why:
                raise PeerUnreachable(
                    f"relay {self.host} said nothing of {peer} for {self._timeout:.0f} s", "look at its agent's log"
                ) from error
            raise
        finally:
            guard.heard()
            self._watchdog.forget(guard)
        return connection


class PeerConnection:
    """A connection passed on by a relay. `receive` and what is sent are read by one thread each; `close` by any."""

    def __init__(self, stub: Any, relay: str, peer: str) -> None:
        self._relay, self._peer = relay, peer
        self._source: Iterable[bytes] | None = None
        # gRPC asks for the second request as soon as the first is sent: it waits there for `send`.
        self._ready = threading.Event()
        self._closed = False
        with _told(relay):
            self._call = stub.Connect(self._requests())

    def await_open(self) -> None:
        """Return when the relay says that the connection stands; raise what it says instead."""
        with _told(self._relay):
            # Those of a failure say nothing; its status may come a moment later, and `code` waits for it.
            connected = any(key == "connected" for key, _ in self._call.initial_metadata() or ())
            if not connected and self._call.code() is not grpc.StatusCode.OK:
                raise self._call

    def send(self, source: Iterable[bytes]) -> None:
        """Send what `source` yields, in a thread of gRPC's, then end our direction. Returns at once."""
        self._source = source
        self._ready.set()

    def receive(self) -> Iterator[bytes]:
        """What the peer sends, until one of the two ends the connection. Raises ConnectError."""
        try:
            with _told(self._relay):
                for message in self._call:
                    yield message.data
        except ConnectionLost:
            if not self._closed:
                raise

    def close(self) -> None:
        """End both directions, and gRPC's thread that waits for what is to be sent."""
        self._closed = True
        self._ready.set()
        self._call.cancel()

    def _requests(self) -> Iterator[Any]:
        yield relay_pb2.ConnectRequest(peer=self._peer)
        self._ready.wait()
        for data in self._source or ():
            yield relay_pb2.ConnectRequest(data=data)


@contextlib.contextmanager
def _told(relay: str) -> Iterator[None]:
    """What gRPC raises, as what it means for the way through this relay."""
    try:
        yield
    except grpc.RpcError as error:
        raise _meaning(error, relay) from error
    except ValueError as error:  # gRPC's word for a closed channel
        raise ConnectionLost(f"{relay}: the connection to the relay was closed", "it is made anew") from error


def _meaning(error: grpc.RpcError, relay: str) -> BackupError:
    code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
    details = (error.details() if isinstance(error, grpc.Call) else "") or ""
    # gRPC's own words have the same codes as the relay's: for messages that are too large, and for such as are none.
    own = "larger than max" in details or "serializ" in details or "parsing" in details.lower()
    if code in _MEANINGS and not own:
        return _MEANINGS[code](relay, printable(details[:_MAX_DETAILS]))
    meaning = translate(error, relay)
    if isinstance(meaning, ConnectError):
        return meaning
    what = meaning.cause.removeprefix(f"{relay}: ")
    return RelayRefused(f"relay {relay} misbehaves: {what}", "look at its agent's log")


# Said by the relay itself; all else is about the connection with it.
_MEANINGS: dict[grpc.StatusCode, Callable[[str, str], ConnectError]] = {
    grpc.StatusCode.NOT_FOUND: lambda relay, details: RelayRefused(
        f"relay {relay}: {details}", "name it in the relay's agent.toml, or correct `peer`"
    ),
    grpc.StatusCode.UNIMPLEMENTED: lambda relay, details: RelayRefused(
        f"{relay} is no relay: {details}", "set `enabled = true` below `[relay]` in its agent.toml, and restart it"
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: lambda relay, details: RelayBusy(
        f"relay {relay} is full: {details}", "raise `max_connections` below `[relay]` in its agent.toml, or wait"
    ),
    # It failed with one connection; the one with it stands.
    grpc.StatusCode.INTERNAL: lambda relay, details: PeerUnreachable(
        f"relay {relay} failed: {details}", "look at its agent's log"
    ),
    grpc.StatusCode.FAILED_PRECONDITION: lambda relay, details: PeerUnreachable(
        f"relay {relay} {details}", "is the agent running there, and does it listen on that address?"
    ),
}


def _peer(peer: Any) -> Peer:
    return Peer(
        name=peer.name,
        title=printable(peer.title[:_MAX_TEXT]),
        answers=peer.answers,
        reason=printable(peer.reason[:_MAX_TEXT]),
        seconds=peer.connect_us / 1e6,
    )
