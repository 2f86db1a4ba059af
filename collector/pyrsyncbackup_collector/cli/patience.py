"""Says that a store does not answer, where a command waits for its file system and nobody can end that."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pyrsyncbackup_collector.cli import screen

# Seconds; a store is opened in milliseconds, on a disk that has to spin up first in a few seconds.
PATIENCE: Final = 10.0


@contextmanager
def answering(store: Path) -> Iterator[None]:
    """While the block waits for the store; what takes longer than PATIENCE is told, once."""
    timer = threading.Timer(PATIENCE, _tell, (store,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tell(store: Path) -> None:
    screen.error(
        f"the store at {store} does not answer since {PATIENCE:.0f} s",
        f"look at its file system: `dmesg`, `findmnt -T {store}`; this goes on when it answers, "
        f"`kill -9 {os.getpid()}` ends it",
    )
