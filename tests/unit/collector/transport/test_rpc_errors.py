"""Every status that gRPC knows becomes one of our errors."""

from __future__ import annotations

import grpc
import pytest
from pyrsyncbackup_collector import errors
from pyrsyncbackup_collector.transport.rpc_errors import translate


class Failure(grpc.RpcError, grpc.Call):
    def __init__(self, code, details):
        self._code, self._details = code, details

    def code(self):
        return self._code

    def details(self):
        return self._details

    def initial_metadata(self): ...
    def trailing_metadata(self): ...
    def is_active(self): ...
    def time_remaining(self): ...
    def cancel(self): ...
    def add_callback(self, callback): ...


@pytest.mark.parametrize("code", list(grpc.StatusCode))
@pytest.mark.parametrize("details", ["", "some\x1b[31m details\nmore", None])
def test_no_status_is_missed(code, details):
    error = translate(Failure(code, details), "web1")
    assert type(error) is not errors.BackupError
    assert error.cause.startswith("web1: ")
    assert "\x1b" not in str(error)


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("NOT_FOUND", "no module x; known: etc", errors.ModuleUnknown),
        ("FAILED_PRECONDITION", "module absent: no such path", errors.ModuleNotReady),
        ("FAILED_PRECONDITION", "hook failed: exit 1", errors.HookFailed),
        ("ABORTED", "busy", errors.ModuleBusy),
        ("RESOURCE_EXHAUSTED", "too many sessions", errors.AgentBusy),
        ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (5 vs. 4)", errors.AgentMisbehaved),
        ("PERMISSION_DENIED", "session ended", errors.ConnectionLost),
        ("PERMISSION_DENIED", "certificate unknown", errors.AgentRefused),
        ("UNAUTHENTICATED", "", errors.AgentRefused),
        ("UNAVAILABLE", "shutting down", errors.ConnectionLost),
        ("UNAVAILABLE", "Socket closed", errors.ConnectionLost),
        ("DEADLINE_EXCEEDED", "", errors.ConnectionLost),
        ("UNKNOWN", "Exception calling application: x", errors.AgentMisbehaved),
        ("UNKNOWN", "Stream removed", errors.ConnectionLost),
        ("INTERNAL", "Exception deserializing response!", errors.AgentMisbehaved),
        ("INTERNAL", "Received RST_STREAM with error code 2", errors.ConnectionLost),
        ("UNIMPLEMENTED", "", errors.ProtocolMismatch),
        ("INVALID_ARGUMENT", "bad path", errors.AgentMisbehaved),
    ],
)
def test_statuses_mean_what_the_agent_says_with_them(code, details, kind):
    assert type(translate(Failure(grpc.StatusCode[code], details), "web1")) is kind


def test_an_error_that_is_no_call_is_translated_too():
    assert isinstance(translate(grpc.RpcError("x"), "web1"), errors.BackupError)
