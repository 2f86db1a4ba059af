"""What a pull is asked to do, as one value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Task:
    """One pull of one module, with its limits; sizes in bytes, times in seconds.

    `run` names it in catalog, logs and the incoming directory. `share` allows skipping transfers of public contents
    that other hosts sent, and lets these claim the public ones of this host. A window is what is transferred, taken in
    and recorded before the next one.
    """

    run: str
    host: str
    module: str
    share: bool = True
    rsync: str = "rsync"
    timeout: int = 600
    # The largest content that is taken.
    max_file: int = 1 << 44
    # How much one pull may transfer.
    max_total: int = 10 << 40
    # Kept free on the store's file system.
    reserve: int = 64 << 20
    window_files: int = 5000
    window_bytes: int = 1 << 30
