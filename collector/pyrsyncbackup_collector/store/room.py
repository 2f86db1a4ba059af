"""Room on the store's file system: how much there is, and whether it is more than what has to stay free."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyrsyncbackup_collector.config import Space
from pyrsyncbackup_collector.config.quantities import Share
from pyrsyncbackup_collector.errors import StoreFull
from pyrsyncbackup_collector.store.faults import translated

HINT: Final = (
    "`pyrsyncbackup space` shows what takes it, `pyrsyncbackup prune` and `pyrsyncbackup gc` free some, or make room "
    "on its file system; pulls go on by themselves"
)


@dataclass(frozen=True, slots=True)
class Room:
    """What a file system has for an ordinary user, in bytes and inodes; one without a number of inodes says 0 of 0."""

    free: int
    total: int
    inodes: int
    inodes_total: int


@dataclass(frozen=True, slots=True)
class Floor:
    """What has to stay free, in bytes and inodes."""

    free: int
    inodes: int


def look(path: Path) -> Room:
    """The room on the file system of `path`; StoreMissing if it is not there."""
    with translated(path):
        found = os.statvfs(path)
    block = found.f_frsize
    return Room(found.f_bavail * block, found.f_blocks * block, found.f_favail, found.f_files)


def floor(space: Space, room: Room) -> Floor:
    """What has to stay free of such a file system by the configuration."""
    return Floor(_part(space.min_free, room.total), _part(space.min_free_inodes, room.inodes_total))


def _part(wanted: Share | int | None, whole: int) -> int:
    return wanted.of(whole) if isinstance(wanted, Share) else wanted or 0


def check(room: Room, floor: Floor) -> None:
    """Raise StoreFull, with both figures, if `room` is less than `floor`."""
    if room.free < floor.free:
        raise StoreFull(
            f"the store has {mebibytes(room.free)} free, and {mebibytes(floor.free)} stay free by `space.min_free`",
            HINT,
        )
    if room.inodes_total and room.inodes < floor.inodes:
        raise StoreFull(
            f"the store's file system has {room.inodes:,} inodes free, "
            f"and {floor.inodes:,} stay free by `space.min_free_inodes`",
            HINT,
        )


def mebibytes(size: int) -> str:
    """`size` bytes for a sentence."""
    return f"{size >> 20:,} MiB"
