"""The only place that reads a clock, so that tests can bring their own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

# A new one at each start of the kernel. A container has that of its machine, whose clock it shares.
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Uptime:
    """Seconds since the machine's start, and which start that was: two of one `boot` can be compared."""

    boot: str
    seconds: float


def iso(moment: float | None) -> str | None:
    """UTC as ISO 8601, for JSON and logs: 2026-11-22T21:49:03.120Z; None stays None."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Clock(Protocol):
    """Wall time for what is recorded, monotonic time for how long things take."""

    def now(self) -> float:
        """Seconds since 1970, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never runs backwards."""
        ...

    def uptime(self) -> Uptime:
        """How long this machine has been running, sleep included."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Seconds since 1970, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never runs backwards."""
        return time.monotonic()

    def uptime(self) -> Uptime:
        """How long this machine has been running, sleep included."""
        try:
            boot = _BOOT_ID.read_text().strip()
        except OSError:
            boot = ""
        return Uptime(boot, time.clock_gettime(time.CLOCK_BOOTTIME))
