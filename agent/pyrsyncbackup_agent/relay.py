"""The relay service. This version passes no connections on, and says so."""

# ruff: noqa: N802, ARG002 - the names and arguments are those of the generated base class

from __future__ import annotations

from collections.abc import Iterator

import grpc
from pyrsyncbackup.v1 import relay_pb2 as pb
from pyrsyncbackup.v1 import relay_pb2_grpc as stubs

_MESSAGE = "this agent has no relay mode"


class RelayService(stubs.RelayServiceServicer):  # type: ignore[misc]
    """Answers every call with UNIMPLEMENTED."""

    def ListPeers(self, request: pb.ListPeersRequest, context: grpc.ServicerContext) -> pb.ListPeersResponse:
        """No peers."""
        context.abort(grpc.StatusCode.UNIMPLEMENTED, _MESSAGE)

    def Connect(
        self, request_iterator: Iterator[pb.ConnectRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ConnectResponse]:
        """No connections."""
        context.abort(grpc.StatusCode.UNIMPLEMENTED, _MESSAGE)
