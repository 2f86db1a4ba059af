"""The one place where a gRPC failure becomes one of ours."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import (
    AgentBusy,
    AgentMisbehaved,
    AgentRefused,
    AnswerOverdue,
    BackupError,
    ConnectionLost,
    HookFailed,
    ModuleBusy,
    ModuleNotReady,
    ModuleUnknown,
    ProtocolMismatch,
    RestoreError,
)

# A failed hook sends the tail of its output.
_MAX_DETAILS = 8000

_ACCEPT_US = "on the host, run `pyrsyncbackup-agent accept` with the output of `pyrsyncbackup invitation`"
_LOOK_THERE = "look at the agent's log on the host"


def translate(error: grpc.RpcError, host: str, allowed: str = "") -> BackupError:
    """What `error`, from an RPC to the agent of `host`, means. Every status code has a meaning.

    `allowed` is the time that the call had, with the key that sets it.
    """
    code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and allowed:
        return AnswerOverdue(f"{host}: the agent did not answer within {allowed}", _LOOK_THERE)
    details = ((error.details() if isinstance(error, grpc.Call) else str(error)) or "")[:_MAX_DETAILS]
    return _MEANINGS[code](details, f"{host}: ")


def shown(details: str) -> str:
    """What an agent said, fit for a terminal."""
    return "\n".join(printable(line) for line in details[:_MAX_DETAILS].splitlines())


def _misbehaved(details: str, host: str) -> BackupError:
    return AgentMisbehaved(f"{host}the agent failed: {shown(details)}", _LOOK_THERE)


def _unknown(details: str, host: str) -> BackupError:
    if details.startswith("Exception "):  # what a Python server says of an unexpected exception
        return _misbehaved(details, host)
    return _lost(details, host)


def _internal(details: str, host: str) -> BackupError:
    if "serializ" in details or "parsing" in details.lower():
        return AgentMisbehaved(f"{host}the agent sent an answer that cannot be read", _LOOK_THERE)
    return _lost(details, host)


def _lost(details: str, host: str) -> BackupError:
    why = shown(details) or "no reason given"
    return ConnectionLost(f"{host}the connection to the agent was lost: {why}", "it is made anew at the next try")


def _late(_: str, host: str) -> BackupError:
    return ConnectionLost(f"{host}the agent did not answer in time", _LOOK_THERE)


def _exhausted(details: str, host: str) -> BackupError:
    if "message larger than max" in details:  # said by our own side
        return AgentMisbehaved(f"{host}the agent sent a message that is too large", _LOOK_THERE)
    return AgentBusy(f"{host}{shown(details)}", "it is tried again; `max_sessions` in agent.toml is the limit")


def _denied(details: str, host: str) -> BackupError:
    if details.startswith("session"):
        return ConnectionLost(f"{host}{shown(details)}", "the pull is tried again")
    return AgentRefused(f"{host}the agent does not trust this collector: {shown(details)}", _ACCEPT_US)


def _precondition(details: str, host: str) -> BackupError:
    if details.startswith("restore: "):
        # "cause (next step)", as agents say it.
        cause, _, hint = details.removesuffix(")").rpartition(" (") if details.endswith(")") else (details, "", "")
        return RestoreError(f"{host}{shown(cause)}", shown(hint) or "look at the agent's log on the host")
    if details.startswith("hook failed"):
        return HookFailed(f"{host}{shown(details)}", "run the hook by hand on the host")
    return ModuleNotReady(f"{host}{shown(details)}", "`pyrsyncbackup-agent modules` on the host shows the reason")


def _unavailable(details: str, host: str) -> BackupError:
    if "shutting down" in details.lower() and "socket" not in details.lower():
        return ConnectionLost(f"{host}the agent is shutting down", "it is tried again")
    return _lost(details, host)


def _too_new(_: str, host: str) -> BackupError:
    return ProtocolMismatch(f"{host}the agent does not know this call", "update the agent")


_MEANINGS: dict[grpc.StatusCode, Callable[[str, str], BackupError]] = {
    grpc.StatusCode.OK: _misbehaved,  # never raised by gRPC
    grpc.StatusCode.CANCELLED: _lost,
    grpc.StatusCode.UNKNOWN: _unknown,
    grpc.StatusCode.INVALID_ARGUMENT: _misbehaved,
    grpc.StatusCode.DEADLINE_EXCEEDED: _late,
    grpc.StatusCode.NOT_FOUND: lambda details, host: ModuleUnknown(
        f"{host}{shown(details)}", f"`pyrsyncbackup modules {host[:-2]}` lists what there is"
    ),
    grpc.StatusCode.ALREADY_EXISTS: _misbehaved,
    grpc.StatusCode.PERMISSION_DENIED: _denied,
    grpc.StatusCode.UNAUTHENTICATED: _denied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: _exhausted,
    grpc.StatusCode.FAILED_PRECONDITION: _precondition,
    grpc.StatusCode.ABORTED: lambda details, host: ModuleBusy(f"{host}{shown(details)}", "it is tried again"),
    grpc.StatusCode.OUT_OF_RANGE: _misbehaved,
    grpc.StatusCode.UNIMPLEMENTED: _too_new,
    grpc.StatusCode.INTERNAL: _internal,
    grpc.StatusCode.UNAVAILABLE: _unavailable,
    grpc.StatusCode.DATA_LOSS: _misbehaved,
}
