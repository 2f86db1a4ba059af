"""How much room there is, as statvfs says it, and when it is too little."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pyrsyncbackup_collector.config import Space
from pyrsyncbackup_collector.errors import StoreFull
from pyrsyncbackup_collector.store import room

# f_bsize, f_frsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree, f_favail, f_flag, f_namemax
BTRFS = os.statvfs_result((4096, 4096, 1 << 20, 1 << 19, 1 << 19, 0, 0, 0, 0, 255))
EXT4 = os.statvfs_result((4096, 4096, 1 << 20, 1 << 19, 1 << 19, 1000, 20, 9, 0, 255))


@pytest.mark.parametrize("wanted", ["1%", "50%", 1_000_000])
def test_a_file_system_that_counts_no_inodes_never_has_too_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str | int
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: BTRFS)
    there = room.look(tmp_path)
    assert (there.inodes, there.inodes_total) == (0, 0)
    room.check(there, room.floor(Space.model_validate({"min_free_inodes": wanted}), there))


def test_its_bytes_count_as_of_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: BTRFS)
    there = room.look(tmp_path)
    with pytest.raises(StoreFull, match="2,048 MiB free, and 3,072 MiB stay free"):
        room.check(there, room.floor(Space.model_validate({"min_free": "3GiB"}), there))


def test_where_inodes_are_counted_those_that_are_not_kept_for_root_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: EXT4)
    there = room.look(tmp_path)
    with pytest.raises(StoreFull, match="9 inodes free, and 10 stay free"):
        room.check(there, room.floor(Space(), there))
