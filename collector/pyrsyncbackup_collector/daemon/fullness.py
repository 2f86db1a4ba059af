"""A store that is full: told once, pulls wait as long as it is, and go on by themselves when there is room again.

The first pull that fails for it is recorded like any other failure; this keeps the others from failing after it, one
by one. Those that somebody asks for are tried.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.config import Space
from pyrsyncbackup_collector.daemon.work import described
from pyrsyncbackup_collector.errors import StoreError
from pyrsyncbackup_collector.schedule import Board
from pyrsyncbackup_collector.store import room

# Seconds between two looks: one system call each.
LOOK_EVERY: Final = 5.0


class Fullness:
    """Watches the room on the store's file system; used by one thread."""

    def __init__(self, store: Path, board: Board, clock: Clock) -> None:
        self._store, self._board, self._clock = store, board, clock
        self._full = False

    def look(self, space: Space) -> bool:
        """Let pulls wait while there is less room than has to stay free; whether they just stopped waiting."""
        try:
            there = room.look(self._store)
            room.check(there, room.floor(space, there))
        except StoreError as error:
            if self._board.hold_pulls(self._clock.now() + 2 * LOOK_EVERY) and not self._full:
                self._full = True
                logs.get().error("pulls wait for room in the store", **described(error))
            return False
        if not self._full:
            return False
        self._full = False
        self._board.release_pulls()
        logs.get().info("there is room in the store, pulls go on", free=there.free)
        return True
