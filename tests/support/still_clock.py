"""A clock that stands still until it is set."""

from __future__ import annotations

from pyrsyncbackup_collector.clock import Uptime


class StillClock:
    """Set `time` to move it."""

    def __init__(self) -> None:
        self.time = 1_790_000_000.0
        self.boot = "boot"
        # Uptime is the wall's time and this.
        self.slipped = 0.0

    def jump(self, seconds: float) -> None:
        """Move the wall clock alone."""
        self.time += seconds
        self.slipped -= seconds

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def uptime(self) -> Uptime:
        return Uptime(self.boot, self.time + self.slipped)
