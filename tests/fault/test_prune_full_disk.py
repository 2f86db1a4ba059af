"""A store on a full disk can still be pruned, and has room again afterwards."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pyrsyncbackup_collector.config.model import Keep, PolicySettings
from pyrsyncbackup_collector.daemon import chores
from pyrsyncbackup_collector.daemon.composition import opened
from pyrsyncbackup_collector.errors import StoreFull
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.store.reserve import SIZE

from tests.support.commands import say
from tests.support.estate import Content, Estate
from tests.support.fleet import make_config

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")

# Many enough that the log grows by several blocks while it is pruned.
COUNT = 120


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if request.param == "tmpfs":
        _run("mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", place)
    else:
        image = tmp_path / "image"
        with image.open("wb") as file:
            file.truncate(48 << 20)
        # No blocks that only root may use: root is who runs this.
        _run("mkfs.ext4", "-q", "-m", "0", image)
        _run("mount", "-o", "loop", image, place)
    yield place
    _run("umount", "-l", place)


@pytest.fixture
def estate(disk: Path) -> Iterator[Estate]:
    (disk / "backup").mkdir()
    made = Estate(disk / "backup")
    made.store.reserve.fill()
    for number in range(COUNT):
        made.pull("web1", "etc", {b"etc/a": Content(b"%d" % number)})
    yield made
    made.close()


def fill(disk: Path) -> None:
    """Take every block that there is, also those that the kernel only set aside until it writes."""
    for turn in range(3):
        with (disk / "filler").open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 16, 1 << 12, 1 << 9, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)
        with contextlib.suppress(OSError):
            for number in range(1000):
                (disk / f"filler{turn}-{number}").write_bytes(b"x" * 4096)
        _run("sync", "--file-system", disk)
    free = os.statvfs(disk)
    assert free.f_bavail * free.f_frsize < 8192


def pull_on(estate: Estate) -> None:
    """A few may fit into blocks that are there already."""
    for number in range(50):
        estate.pull("web1", "etc", {b"etc/b": Content(os.urandom(5000 + number))})


def test_a_full_store_is_pruned_with_the_room_that_was_set_aside(disk: Path, estate: Estate) -> None:
    fill(disk)
    with pytest.raises(StoreFull):
        pull_on(estate)
    going = {one.sequence: "no rule keeps it" for one in estate.store.recorded("web1", "etc")[:-1]}
    done = estate.store.prune("web1", "etc", going)
    assert len(done.removed) == len(going)
    assert 0 < estate.store.reserve.path.stat().st_size < SIZE
    estate.catalog.drop_snapshots("web1", "etc", list(going))
    assert estate.catalog.lacking(estate.store) == []
    assert len(estate.catalog.snapshots()) == 1
    assert estate.store.verify_log("web1", "etc") == []
    for filler in disk.glob("filler*"):
        filler.unlink()
    estate.store.reserve.fill()
    assert estate.store.reserve.path.stat().st_size == SIZE
    estate.pull("web1", "etc", {b"etc/b": Content(b"there is room")})


def test_without_a_reserve_a_full_store_says_so_and_nothing_is_half_gone(disk: Path, estate: Estate) -> None:
    estate.store.reserve.path.unlink()
    fill(disk)
    going = {one.sequence: "no rule keeps it" for one in estate.store.recorded("web1", "etc")[:-1]}
    with pytest.raises(StoreFull):
        estate.store.prune("web1", "etc", going)
    for snapshot in estate.store.snapshots("web1", "etc"):
        assert list(estate.store.entries(snapshot, verify=True))
    for filler in disk.glob("filler*"):
        filler.unlink()
    estate.store.prune("web1", "etc", going)
    assert len(estate.store.recorded("web1", "etc")) == 1
    assert estate.store.verify_log("web1", "etc") == []


def test_a_command_prunes_a_store_that_was_found_full(disk: Path, estate: Estate, tmp_path: Path) -> None:
    """Nothing is open, and the catalog lies on the same disk."""
    estate.close()
    file = tmp_path / "collector.toml"
    place = disk / "backup"
    file.write_text(
        f'store = "{place / "store"}"\ncatalog = "{place / "catalog.sqlite"}"\npolicy.keep = {{ last = 2 }}\n'
    )
    fill(disk)
    said = say(file, "prune", "--json")
    assert said.code == 0, said
    assert (said.answer["removed"], said.answer["kept"]) == (COUNT - 2, 2)
    for filler in disk.glob("filler*"):
        filler.unlink()
    assert say(file, "check").code == 0
    assert len(say(file, "snapshots", "--json").answer["snapshots"]) == 2
    assert say(file, "prune").code == 0
    assert (place / "store" / "reserve").stat().st_size == SIZE


def test_the_daemon_prunes_a_store_that_became_full_while_it_ran(disk: Path, estate: Estate) -> None:
    estate.close()
    place = disk / "backup"
    config = replace(
        make_config(place), catalog=place / "catalog.sqlite", policy=PolicySettings(keep=Keep(last=2), freeze="off")
    )
    with opened(config) as parts:
        fill(disk)
        done = chores.do("prune", parts, config, {}, Cancel(), trigger="schedule")
        assert done.error is None, done.error
        assert (done.outcome, done.document["removed"]) == ("complete", COUNT - 2)
        assert len(parts.catalog.snapshots()) == 2
        assert parts.catalog.lacking(parts.store) == []


def _run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, capture_output=True)
