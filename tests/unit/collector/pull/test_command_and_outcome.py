"""The argument vector by value, and what the end of a run means."""

from pathlib import Path

import pytest
from pyrsyncbackup_collector.errors import Cancelled, ConnectionLost, TransferFailed
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.outcome import Ended, failure
from pyrsyncbackup_collector.pull.rsync_command import BRIDGE, Fetch, client, python
from pyrsyncbackup_collector.transport.offer import DaemonExit


def test_the_client_is_asked_for_contents_and_nothing_else():
    assert client(Fetch(Path("/i/list"), Path("/i/data"), timeout=60), 7) == [
        "rsync",
        "--files-from=/i/list",
        "--from0",
        "--no-implied-dirs",
        "-I",
        "--chmod=D700,F600",
        "--blocking-io",
        "--no-motd",
        "--trust-sender",
        "--timeout=60",
        "-e",
        f"{python()} -IS {BRIDGE} 7",
        "x::m/",
        "/i/data/",
    ]


def test_holes_and_compression_are_asked_for_where_they_help():
    argv = client(Fetch(Path("/l"), Path("/d"), sparse=True, compress=True), 3)
    assert {"-S", "-z", "--compress-choice=zstd"} <= set(argv)


@pytest.mark.parametrize(
    ("ended", "quote"),
    [
        (Ended(0, (), None, None), "rsync exit code 0: success"),
        (
            Ended(23, ("one", "last words"), None, None),
            "rsync exit code 23: some files could not be transferred; last words",
        ),
        (
            Ended(12, (), DaemonExit(4, "first\nrequested action not supported"), None),
            "rsync exit code 12: error in the protocol data stream; "
            "the agent's rsync (4): requested action not supported",
        ),
    ],
)
def test_an_end_is_quoted_in_one_line(ended, quote):
    assert ended.quote() == quote


def test_a_lost_connection_is_the_cause_whatever_rsync_said():
    lost = ConnectionLost("web1: the connection ended")
    assert failure(Ended(12, ("noise",), None, lost)) is lost


def test_an_end_without_a_file_can_be_tried_again():
    error = failure(Ended(10, ("refused",), None, None))
    assert isinstance(error, TransferFailed)
    assert error.retryable


def test_a_request_to_stop_reaches_who_waits_and_who_comes_late():
    cancel, told = Cancel(), []
    with cancel.ends(lambda: told.append("waiting")):
        cancel.set()
        assert told == ["waiting"]
    with cancel.ends(lambda: told.append("late")):
        pass
    assert told == ["waiting", "late"]
    with pytest.raises(Cancelled):
        cancel.check()


def test_who_has_ended_is_not_told():
    cancel, told = Cancel(), []
    with cancel.ends(lambda: told.append("never")):
        pass
    cancel.set()
    assert told == []
