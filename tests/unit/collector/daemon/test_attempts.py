"""Whether and when a pull that was cut off goes on."""

from __future__ import annotations

import pytest
from pyrsyncbackup_collector import errors
from pyrsyncbackup_collector.daemon.attempts import FIRST_PAUSE, FRUITLESS, MOST, Attempts

CUT = errors.ConnectionLost("cut")


def test_attempts_in_vain_wait_twice_as_long_each_time_and_end() -> None:
    attempts = Attempts()
    pauses = [attempts.pause_after(CUT, began=True, brought=False) for _ in range(FRUITLESS + 1)]
    assert pauses == [FIRST_PAUSE * 2**number for number in range(FRUITLESS)] + [None]
    assert attempts.made == FRUITLESS + 1


def test_what_brings_something_begins_the_pauses_anew_but_not_without_end() -> None:
    attempts = Attempts()
    for _ in range(5):
        assert attempts.pause_after(CUT, began=True, brought=False) is not None
    for _ in range(MOST - 8):
        assert attempts.pause_after(CUT, began=True, brought=True) == FIRST_PAUSE
    assert attempts.pause_after(CUT, began=True, brought=False) == FIRST_PAUSE
    assert attempts.pause_after(CUT, began=True, brought=False) == 2 * FIRST_PAUSE
    assert attempts.pause_after(CUT, began=True, brought=True) is None


def test_a_pull_that_never_began_does_not_go_on_and_one_that_did_may_fail_to_connect() -> None:
    attempts = Attempts()
    assert attempts.pause_after(CUT, began=False, brought=False) is None
    attempts = Attempts()
    assert attempts.pause_after(CUT, began=True, brought=True) is not None
    assert attempts.pause_after(errors.HostUnreachable("down"), began=False, brought=False) == FIRST_PAUSE


@pytest.mark.parametrize(
    ("error", "goes_on"),
    [
        (errors.ConnectionLost(""), True),
        (errors.PeerUnreachable(""), True),
        (errors.RelayBusy(""), True),
        (errors.AgentBusy(""), True),
        (errors.ModuleBusy(""), True),
        (errors.AgentKeyChanged(""), False),
        (errors.HostKeyChanged(""), False),
        (errors.RelayRefused(""), False),
        (errors.AgentRefused(""), False),
        (errors.ModuleError(""), False),
        (errors.TransferFailed(""), False),
        (errors.StoreFull(""), False),
        (errors.CatalogLocked(""), False),
        (errors.AgentMisbehaved(""), False),
        (errors.Cancelled(""), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_only_what_another_connection_may_mend_goes_on(error: errors.BackupError, goes_on: bool) -> None:
    assert (Attempts().pause_after(error, began=True, brought=True) is not None) is goes_on
