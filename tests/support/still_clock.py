"""A clock that stands still until it is set."""

from __future__ import annotations


class StillClock:
    """Set `time` to move it."""

    def __init__(self) -> None:
        self.time = 1_790_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time
