"""What goes wrong while a copy is made: kills, full disks, what is lost, a source that changes meanwhile."""

import fcntl
import os
import subprocess
import sys

import pytest
from pyrsyncbackup_collector.copies.reading import opened
from pyrsyncbackup_collector.copies.recovery import Recovery
from pyrsyncbackup_collector.errors import (
    Cancelled,
    CopyFull,
    CopyMissing,
    StoreFull,
    StoreMissing,
)
from pyrsyncbackup_collector.store.signature import KeySigner
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.transport.invitations import own_identity

from tests.support import copies
from tests.support.estate import Content

pytest_plugins = ["tests.support.copy_scene"]


def test_killed_at_any_point_a_copy_is_whole_and_the_next_round_goes_on(estate, tmp_path):
    copies.fill(estate)
    point, calls = 0, None
    while calls is None:
        point += 1
        target = copies.directory(tmp_path / f"copy{point}")
        copies.make(target, estate.store)
        argv = [sys.executable, "-m", "tests.support.copy_child", estate.store.path, target.path, str(point)]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode in (0, -9), done.stderr
        if done.returncode == 0:
            calls = int(done.stdout)
        with Store.open(target.path) as copy:
            copies.prove_whole(copy)
        report = copies.replicate(estate.store, target)
        assert (report.held, report.left_out, report.lost) == (4, [], [])
        with Store.open(target.path) as copy:
            assert copies.prove_whole(copy) == 4
            assert [copy.verify_log(host, "etc") for host in ("web1", "web2")] == [[], []]
        target.close()
    assert point == calls + 1 > 4


def test_killed_while_it_is_thinned_out_a_copy_loses_only_what_was_to_go(estate, target):
    copies.fill(estate)
    for host in ("web1", "web2"):
        estate.pull(host, "etc", {b"etc/f%d" % number: Content(b"new %d" % number) for number in range(8)})
    copies.replicate(estate.store, target)

    def newest(host, module, held):
        return {held[-1].sequence}

    class Killed(Exception):
        pass

    # First manifests go, then objects, then the lists of them.
    for survivors in range(1, 4):
        calls = []

        def delete(names, survivors=survivors, calls=calls):
            calls.append(names)
            if len(calls) == survivors:
                raise Killed
            type(target).delete(target, names)

        target.delete = delete
        with pytest.raises(Killed):
            copies.replicate(estate.store, target, keep=newest, keep_text="1")
        del target.delete
        with opened(target) as copy:
            assert copies.prove_whole(copy) == 2
    report = copies.replicate(estate.store, target, keep=newest, keep_text="1", full=True)
    assert (report.held, report.lost, report.left_out) == (2, [], [])
    assert len(list(target.walk("copy/refs"))) == 2
    assert len([item for item in target.walk("manifests") if item.name.endswith(".zst")]) == 2
    assert len(list(target.walk("objects"))) == 8


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_target_is_told_and_what_was_brought_stays_for_the_next_round(estate, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=True)
    try:
        target = copies.directory(place)
        copies.make(target, estate.store)
        estate.pull("web1", "etc", {b"small": Content(b"s")})
        copies.replicate(estate.store, target)
        estate.pull("web1", "etc", {b"large": Content(os.urandom(900_000))})
        for number in range(5):
            estate.pull("web2", "etc", {b"large%d" % number: Content(os.urandom(900_000))})
        with pytest.raises(CopyFull, match="No space left"):
            copies.replicate(estate.store, target)
        with Store.open(place) as copy:
            assert copies.prove_whole(copy) == 1
        assert not [file for file in place.rglob("*") if file.name.startswith(".tmp-")]
        subprocess.run(["mount", "-o", "remount,size=40m", place], check=True)
        assert copies.replicate(estate.store, target).held == 7
        with Store.open(place) as copy:
            assert copies.prove_whole(copy) == 7
        target.close()
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_what_was_removed_in_the_copy_is_found_and_brought_again(estate, target, tmp_path):
    copies.fill(estate)
    copies.replicate(estate.store, target)
    first, second, *_ = sorted((tmp_path / "copy/objects").glob("*/*"))
    first.unlink()
    second.chmod(0o600)
    second.write_bytes(second.read_bytes()[:5])
    next((tmp_path / "copy/manifests/web2/etc").glob("000001*")).unlink()
    (tmp_path / "copy/manifests/web1/etc/log.jsonl").unlink()
    report = copies.replicate(estate.store, target, full=True)
    assert (report.lost, report.left_out, report.held, report.objects, report.repaired) == ([], [], 4, 2, 1)
    with Store.open(tmp_path / "copy") as copy:
        assert copies.prove_whole(copy) == 4


def test_what_is_gone_here_and_there_is_told_as_lost(estate, target, tmp_path):
    copies.fill(estate)
    copies.replicate(estate.store, target)
    old = estate.store.snapshots("web1", "etc")[0]
    prune(estate, old)
    for file in (tmp_path / "copy/manifests/web1/etc").glob("000001*"):
        file.unlink()
    report = copies.replicate(estate.store, target, full=True)
    assert [what for what, _ in report.lost] == [f"web1/etc@{old.name}"]
    assert "the source does not have it any more" in report.lost[0][1]


def test_a_copy_whose_state_was_lost_finds_out_what_it_holds(estate, target, tmp_path):
    copies.fill(estate)
    copies.replicate(estate.store, target)
    prune(estate, estate.store.snapshots("web1", "etc")[0])
    (tmp_path / "copy/copy/state.json.gz").write_bytes(b"nonsense")
    report = copies.replicate(estate.store, target, full=True)
    assert (report.held, report.lost, report.objects) == (4, [], 0)
    with Store.open(tmp_path / "copy") as copy:
        assert copies.prove_whole(copy) == 4


def prune(estate, snapshot):
    """As the store does: line, head, file."""
    log = estate.store.log(snapshot.host, snapshot.module)
    file = f"{snapshot.name}.{'delta' if snapshot.base else 'full'}.zst"
    log.seal(log.append(log.read(), "prune", snapshot.sequence, file=file, manifest=snapshot.digest))
    (estate.store.path / "manifests" / snapshot.host / snapshot.module / file).unlink()


def test_what_is_pruned_before_it_is_locked_is_no_news(estate, target):
    estate.pull("web1", "etc", {b"a": Content(b"a")})
    estate.pull("web2", "etc", {b"a": Content(b"a")})

    def tell(phase, done, total):
        if phase == "snapshots":
            prune(estate, estate.store.newest("web1", "etc"))

    report = copies.replicate(estate.store, target, tell=tell)
    assert (report.held, report.left_out) == (1, [])


def test_what_is_being_copied_is_locked_against_pruning(estate, target):
    copies.fill(estate)
    free = []

    def tell(phase, done, total):
        if phase == "objects":
            for file in estate.store.path.glob("manifests/*/*/*.zst"):
                with open(file, "rb") as opened_file:
                    try:
                        fcntl.flock(opened_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        free.append(file.name)
                    except BlockingIOError:
                        continue

    assert copies.replicate(estate.store, target, tell=tell).held == 4
    assert free == []


def test_a_disk_that_goes_away_is_missing_and_its_mount_point_stays_empty(estate, tmp_path):
    target = copies.directory(tmp_path / "copy")
    copies.make(target, estate.store)
    copies.fill(estate)
    (tmp_path / "copy").rename(tmp_path / "elsewhere")
    (tmp_path / "copy").mkdir()
    with pytest.raises(CopyMissing):
        copies.replicate(estate.store, target)
    assert list((tmp_path / "copy").iterdir()) == []
    (tmp_path / "copy").rmdir()
    with pytest.raises(CopyMissing):
        copies.replicate(estate.store, target)
    assert not (tmp_path / "copy").exists()


def test_a_round_that_is_stopped_ends_soon_and_the_next_goes_on(estate, target):
    copies.fill(estate)
    count = []

    def check():
        count.append(1)
        if len(count) == 3:
            raise Cancelled("stopped on request")

    with pytest.raises(Cancelled):
        copies.replicate(estate.store, target, check=check)
    assert copies.replicate(estate.store, target).held == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_store_that_is_made_anew_on_a_disk_that_is_too_small_goes_on_on_a_larger_one(estate, target, tmp_path):
    for number in range(6):
        estate.pull("web1", "etc", {b"large%d" % number: Content(os.urandom(900_000))})
    copies.replicate(estate.store, target)
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=True)
    try:
        signer = KeySigner(own_identity(tmp_path).key_pem)

        def recover():
            with opened(target) as copy, Recovery(copy, place, signer, check=copies.nothing, tell=print) as recovery:
                return recovery.run(1_790_000_000.0)

        with pytest.raises(StoreFull, match="No space left"):
            recover()
        assert not list(place.rglob(".tmp-[0-9a-f]*"))
        with pytest.raises(StoreMissing), Store.open(place):
            pass
        subprocess.run(["mount", "-o", "remount,size=40m", place], check=True)
        assert recover().snapshots == 6
        with Store.open(place) as store:
            assert copies.prove_whole(store) == 6
    finally:
        subprocess.run(["umount", "-l", place], check=True)
