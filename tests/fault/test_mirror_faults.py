"""Mirrors on a disk that is full, beside a store that needs its room, and beside a prune."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.clock import Clock, SystemClock
from pyrsyncbackup_collector.config import Space
from pyrsyncbackup_collector.daemon import mirroring
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.errors import RestoreError
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.store import mirror
from pyrsyncbackup_collector.store.store import Store

from tests.support.estate import Content, Estate

MIB = 1 << 20


@dataclass(frozen=True)
class Desk:
    """What a mirror is made with."""

    store: Store
    catalog: Catalog
    clock: Clock = field(default_factory=SystemClock)


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    made = Estate(tmp_path)
    yield made
    made.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounts a file system")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def random_content(size: int) -> Content:
    return Content(os.urandom(size))


def test_a_mirror_on_a_full_disk_is_told_and_goes_on_when_there_is_room(estate: Estate, disk: Path) -> None:
    tree = disk / "web1" / "etc"
    first = {b"etc/a": random_content(MIB), b"etc/b": random_content(MIB)}
    mirror.update(estate.store, estate.pull("web1", "etc", first), disk)
    second = {b"etc/a": random_content(2 * MIB), b"etc/c": random_content(2 * MIB)}
    snapshot = estate.pull("web1", "etc", second)
    (disk / "filler").write_bytes(bytes(3 * MIB))

    with pytest.raises(RestoreError, match="No space left"):
        mirror.update(estate.store, snapshot, disk)

    assert not mirror.shown(disk, "web1", "etc").is_whole(snapshot.digest)
    whole = {first[b"etc/a"].data, first[b"etc/b"].data, second[b"etc/a"].data}
    assert {data for name, data in files(tree).items() if len(name) == 1} <= whole, "old or new, nothing half"
    (disk / "filler").unlink()
    assert mirror.lacking(mirror.update(estate.store, snapshot, disk)) == []  # type: ignore[arg-type]
    wanted = {"a": second[b"etc/a"].data, "b": first[b"etc/b"].data, "c": second[b"etc/c"].data}
    assert files(tree) == wanted


def test_where_not_a_byte_is_left_the_old_mirror_stays(estate: Estate, disk: Path) -> None:
    old = {b"etc/a": Content(b"old")}
    stamped = estate.pull("web1", "etc", old)
    mirror.update(estate.store, stamped, disk)
    snapshot = estate.pull("web1", "etc", {b"etc/a": Content(b"new")})
    filler = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
    free = os.statvfs(disk)
    os.posix_fallocate(filler, 0, free.f_bavail * free.f_frsize)
    os.close(filler)
    with pytest.raises(RestoreError, match="No space left") as told:
        mirror.update(estate.store, snapshot, disk)
    assert told.value.hint == "make room"
    assert files(disk / "web1" / "etc") == {"a": b"old"}
    assert mirror.shown(disk, "web1", "etc").is_whole(stamped.digest)


def test_a_mirror_takes_nothing_of_what_stays_free_for_the_store(estate: Estate, tmp_path: Path) -> None:
    estate.pull("web1", "etc", {b"etc/a": Content(b"1")})
    desk = cast(Parts, Desk(estate.store, estate.catalog))
    mirroring.follow(desk, "web1", "etc", tmp_path / "mirror", Space(min_free=1 << 60), Cancel())
    (behind,) = estate.catalog.mirrors_behind()
    assert "stay free by `space.min_free`" in behind.cause
    assert not (tmp_path / "mirror" / "web1").exists()
    mirroring.follow(desk, "web1", "etc", tmp_path / "mirror", Space(), Cancel())
    assert estate.catalog.mirrors_behind() == []


def test_what_a_mirror_is_made_of_is_kept_from_being_pruned(estate: Estate, tmp_path: Path) -> None:
    many = {b"etc/%03d" % number: Content(b"old %d" % number) for number in range(50)}
    where = tmp_path / "mirror"
    mirror.update(estate.store, estate.pull("web1", "etc", many), where)
    second = estate.pull("web1", "etc", {path: Content(b"new" + many[path].data[3:]) for path in list(many)[:5]})
    third = estate.pull("web1", "etc", {b"etc/last": Content(b"last")})
    locked: list[int] = []

    def prune(_entries: int, _bytes: int) -> None:
        if not locked:
            done = estate.store.prune("web1", "etc", {1: "by a test", second.sequence: "by a test"})
            locked.extend(each.sequence for each in done.locked)
            estate.catalog.drop_snapshots("web1", "etc", [each.sequence for each in done.removed])
            estate.collect(0)

    mirror.update(estate.store, third, where, told=prune)
    assert 1 in locked, "the snapshot that it was compared with"
    assert len(files(where / "web1" / "etc")) == 51
    assert mirror.shown(where, "web1", "etc").is_whole(third.digest)
