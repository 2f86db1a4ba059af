"""The relay service: passes TCP connections on to the peers, and says which of them answer.

What goes through is the TLS of the two ends, which this agent can neither read nor change.
"""

# ruff: noqa: N802, ARG002 - the names and arguments are those of the generated base class

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator

import grpc
import structlog
from pyrsyncbackup.v1 import relay_pb2 as pb
from pyrsyncbackup.v1 import relay_pb2_grpc as stubs

from pyrsyncbackup_agent import probing
from pyrsyncbackup_agent.connection import Connection, Reads
from pyrsyncbackup_agent.errors import BadRequest, RelayDisabled, ShuttingDown
from pyrsyncbackup_agent.peers import Peers
from pyrsyncbackup_agent.statuses import statuses

# Tells the initial metadata of a connection that stands from those before a failure.
CONNECTED = (("connected", "1"),)

log = structlog.get_logger(__name__)


class RelayService(stubs.RelayServiceServicer):  # type: ignore[misc] # generated, without types
    """Serves `peers`, which may be replaced at any time: connections that stand are not touched by it."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._stopping = False
        self._reads = Reads()
        self.peers = Peers()

    def stop(self) -> None:
        """Take no new connections."""
        self._stopping = True

    def ListPeers(self, request: pb.ListPeersRequest, context: grpc.ServicerContext) -> pb.ListPeersResponse:
        """Every peer, and whether its port takes a connection now."""
        with statuses(context):
            self._check()
            answers = probing.probe_all(self.peers.by_name.values())
            return pb.ListPeersResponse(
                peers=[
                    pb.Peer(
                        name=answer.peer.name,
                        title=answer.peer.title,
                        answers=answer.answers,
                        reason=answer.reason,
                        connect_us=answer.connect_us,
                    )
                    for answer in answers
                ]
            )
        raise AssertionError  # abort raises

    def Connect(
        self, request_iterator: Iterator[pb.ConnectRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ConnectResponse]:
        """Bytes both ways until one side ends.

        When the peer ends its side the RPC ends, and what the client still sends is dropped. TLS loses nothing by it:
        who has said that it ends takes no more either.
        """
        with statuses(context):
            self._check()
            first = next(request_iterator, None)
            if first is None:
                raise BadRequest("the stream ended before its first message, which names the peer")
            if not first.peer:
                raise BadRequest("the first message names no peer")
            peer = self.peers.get(first.peer)
            with contextlib.ExitStack() as at_end:
                at_end.enter_context(self._reads.shared())
                connection = Connection(peer, self._reads)
                at_end.callback(connection.release)
                at_end.callback(connection.cut)
                if not context.add_callback(connection.cut):
                    return
                connection.open()
                context.send_initial_metadata(CONNECTED)
                log.debug("connection opened", peer=peer.name)
                at_end.callback(log.debug, "connection closed", peer=peer.name)
                _start_feeder(connection, first.data, request_iterator)
                # No name holds a piece while its message waits for the client: with many slow ones that counts.
                yield from map(_response, iter(connection.receive, b""))

    def _check(self) -> None:
        if not self._enabled:
            raise RelayDisabled("this agent has no relay mode; set [relay] enabled = true in its agent.toml")
        if self._stopping:
            raise ShuttingDown("the agent is stopping")


def _response(data: bytes) -> pb.ConnectResponse:
    return pb.ConnectResponse(data=data)


def _data(request: pb.ConnectRequest) -> bytes:
    return request.data


def _start_feeder(connection: Connection, first: bytes, requests: Iterator[pb.ConnectRequest]) -> None:
    connection.share()
    feeder = threading.Thread(target=_feed, args=(connection, first, requests), name="relay input", daemon=True)
    try:
        feeder.start()
    except RuntimeError:  # no more threads
        connection.release()
        raise


def _feed(connection: Connection, first: bytes, requests: Iterator[pb.ConnectRequest]) -> None:
    """Pass what the client sends to the peer, until either has enough."""
    pieces = itertools.chain([first], map(_data, requests))
    try:
        if all(map(connection.send, pieces)):
            connection.end_of_input()
    except Exception:  # noqa: BLE001 - grpc raises a bare Exception when the client is gone
        connection.cut()
    finally:
        connection.release()
