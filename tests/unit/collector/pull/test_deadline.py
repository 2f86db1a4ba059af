"""How long each phase of a pull may take."""

from __future__ import annotations

import threading

import pytest
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.errors import BackupError, Cancelled, CommitOverdue, PullOverdue
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.deadline import Deadline, PhaseLimits

LIMITS = PhaseLimits(list=10, transfer=100, commit=5)


@pytest.mark.parametrize(
    ("phase", "size", "bwlimit", "seconds"),
    [
        ("list", 0, None, 10),
        ("commit", 0, None, 5),
        ("transfer", 0, None, 100),
        ("transfer", 50 << 20, None, 150),
        ("transfer", 50 << 20, 100 << 20, 150),
        ("transfer", 50 << 20, 1 << 20, 200),
        ("connect", 0, None, None),
        ("reconnect", 0, None, None),
    ],
)
def test_a_phase_may_take_so_long(phase: str, size: int, bwlimit: int | None, seconds: float | None) -> None:
    assert PhaseLimits(10, 100, 5, bwlimit).allowed(phase, size) == seconds


class Watched:
    """A pull of one phase, with a limit that is over at once, in a clock that stands still but for `lasted`."""

    def __init__(self, grace: float) -> None:
        self.lasted = 0.0
        self.cancel, self.given_up = Cancel(), threading.Event()
        self.stopped = threading.Event()
        self.ends = self.cancel.ends(self.stopped.set)
        self.ends.__enter__()
        self.deadline = Deadline("web1/etc", LIMITS, self, self.cancel, self.told, grace)

    def told(self, error: BackupError) -> None:
        self.error = error
        self.given_up.set()

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return self.lasted


def test_a_pull_that_ends_when_it_is_told_to_is_not_given_up() -> None:
    watched = Watched(grace=3600)
    watched.deadline.enter("list")
    watched.lasted = 11
    watched.deadline.enter("list", 1)  # wakes it up
    assert watched.stopped.wait(60)
    watched.deadline.close()
    assert not watched.given_up.is_set()
    with pytest.raises(PullOverdue, match=r"web1/etc: listing did not end within 10 s \(`limits\.list`\)"):
        watched.cancel.check()


def test_a_pull_that_does_not_end_is_given_up_with_the_error() -> None:
    watched = Watched(grace=0.01)
    watched.deadline.enter("commit")
    watched.lasted = 6
    watched.deadline.enter("commit", 1)
    assert watched.given_up.wait(60)
    assert isinstance(watched.error, CommitOverdue)
    watched.deadline.close()


def test_the_look_at_the_room_in_the_store_has_the_limit_of_a_commit() -> None:
    watched = Watched(grace=0.01)
    watched.deadline.enter("room")
    watched.lasted = 6
    watched.deadline.enter("room", 1)
    assert watched.given_up.wait(60)
    assert isinstance(watched.error, CommitOverdue)
    assert "the look at the room in the store did not end within 5 s (`limits.commit`)" in watched.error.cause
    watched.deadline.close()


def test_transfers_of_all_attempts_count_together() -> None:
    watched = Watched(grace=3600)
    for _ in range(3):
        watched.deadline.enter("transfer")
        watched.lasted += 30
        watched.deadline.enter("reconnect")
        watched.lasted += 1000
    assert not watched.cancel.is_set
    watched.deadline.enter("transfer")
    watched.lasted += 11
    watched.deadline.enter("transfer", 1)
    assert watched.stopped.wait(60)
    watched.deadline.close()


def test_a_request_to_stop_that_came_first_stays_the_reason() -> None:
    cancel = Cancel()
    cancel.set()
    cancel.set(PullOverdue("late"))
    with pytest.raises(Cancelled):
        cancel.check()


def test_a_pull_in_time_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    deadline = Deadline("web1/etc", LIMITS, SystemClock(), Cancel(), lambda _: None)
    deadline.enter("list")
    deadline.enter("commit")
    deadline.close()
    assert set(threading.enumerate()) <= before
