"""What goes wrong in an RPC becomes its status, with a message that an administrator can act on.

What nobody expected is logged and told in one short line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import grpc
import structlog

from pyrsyncbackup_agent import errors

# A status travels in HTTP/2 headers, of which clients take 8 kB.
MESSAGE_LIMIT: Final = 4000

log = structlog.get_logger(__name__)

_CODES: Final[dict[type[errors.AgentError], grpc.StatusCode]] = {
    errors.ModuleUnknown: grpc.StatusCode.NOT_FOUND,
    errors.ModuleNotReady: grpc.StatusCode.FAILED_PRECONDITION,
    errors.HookFailed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RsyncFailed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ModuleBusy: grpc.StatusCode.ABORTED,
    errors.TooManySessions: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.SessionUnknown: grpc.StatusCode.PERMISSION_DENIED,
    errors.ShuttingDown: grpc.StatusCode.UNAVAILABLE,
    errors.BadRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.RestoreRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RelayDisabled: grpc.StatusCode.UNIMPLEMENTED,
    errors.PeerUnknown: grpc.StatusCode.NOT_FOUND,
    errors.PeerUnreachable: grpc.StatusCode.FAILED_PRECONDITION,
}


@contextlib.contextmanager
def statuses(context: grpc.ServicerContext) -> Iterator[None]:
    """Turn what goes wrong in the block into the status of the RPC."""
    try:
        yield
    except errors.AgentError as error:
        _abort(context, _CODES.get(type(error), grpc.StatusCode.INTERNAL), str(error))
    except Exception as error:
        # grpc raises a bare Exception itself, in `abort` and when the client is gone.
        if not context.is_active() or type(error) is Exception:
            raise
        log.exception("unexpected failure")
        _abort(context, grpc.StatusCode.INTERNAL, f"the agent failed: {type(error).__name__}; its log says more")


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, text: str) -> None:
    context.abort(code, text.encode("utf-8", "backslashreplace").decode()[:MESSAGE_LIMIT])
