"""Verification and copies while pulls, prunes and garbage collection go on, and where a crash cut one of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.store import aside, verify_module
from pyrsyncbackup_collector.store.findings import Finding
from pyrsyncbackup_collector.store.log import ModuleLog
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.store.verify import Scope, verify

from tests.support import copies
from tests.support.estate import Content, Estate

SOURCE = "source"


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    (tmp_path / SOURCE).mkdir()
    made = Estate(tmp_path / SOURCE)
    yield made
    made.close()


def findings(path: Path, estate: Estate | None = None) -> list[Finding]:
    """What `verify` says of the store or the copy there; with what the catalog knew before, if it is given."""
    known: dict[tuple[str, str], dict[int, tuple[str, str]]] = {}
    for row in estate.catalog.snapshots() if estate else ():
        known.setdefault((row.host, row.module), {})[row.sequence] = (row.name, row.digest)
    with Store.open(path) as store:
        return list(verify(store, Scope(), signed=False, known=known, watch=copies.nothing).findings)


def keep_pulling(estate: Estate, host: str) -> None:
    """New modules, new contents, old ones again, and prunes of all but the newest."""
    for number in range(48):
        module = f"m{number // 8}"
        estate.pull(host, module, {b"etc/f%d" % (number % 3): Content(b"%d" % (number % 11))})
        if number % 8 == 7:
            estate.prune(host, module, *range(1, 8))


def test_nothing_is_found_while_others_write(estate: Estate, tmp_path: Path) -> None:
    target = copies.directory(tmp_path / "copy")
    copies.make(target, estate.store)
    failed: list[Exception] = []
    ended = threading.Event()

    def begin(work, *arguments) -> threading.Thread:
        def run() -> None:
            try:
                work(*arguments)
            except Exception as error:  # noqa: BLE001 - told by the test
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def keep_collecting() -> None:
        while not ended.is_set():
            estate.collect(grace=0.0)

    pulling = [begin(keep_pulling, estate, host) for host in ("web1", "web2")]
    collecting = begin(keep_collecting)
    try:
        while any(thread.is_alive() for thread in pulling):
            assert findings(estate.store.path, estate) == []
            report = copies.replicate(estate.store, target)
            assert (report.left_out, report.lost) == ([], [])
            assert findings(target.path) == []
    finally:
        for thread in pulling:
            thread.join()
        ended.set()
        collecting.join()
    assert failed == []
    copies.replicate(estate.store, target)
    assert findings(estate.store.path, estate) == findings(target.path) == []
    target.close()


@pytest.mark.parametrize("step", ["announce", "lines", "head", "unlink", "done"])
def test_a_prune_that_was_cut_is_no_finding_and_a_copy_of_it_neither(estate: Estate, tmp_path: Path, step: str) -> None:
    for number in range(10):
        estate.pull("web1", "etc", {b"etc/a": Content(b"%d" % number)})
    old = copies.directory(tmp_path / "old")
    copies.make(old, estate.store)
    copies.replicate(estate.store, old)
    cut = tmp_path / "cut"

    def crash(name: str) -> None:
        if name == step and not cut.exists():
            shutil.copytree(estate.store.path, cut)

    estate.store._step = crash
    estate.prune("web1", "etc", *range(1, 9))
    assert findings(cut) == []
    new = copies.directory(tmp_path / "new")
    with Store.open(cut) as store:
        copies.make(new, store)
        for target in (old, new):
            report = copies.replicate(store, target)
            assert (report.left_out, report.lost) == ([], [])
            assert findings(target.path) == []
    with Store.open(cut, lock=True) as store:
        assert store.reconcile().faults == []
        assert findings(cut) == []
        for target, least in ((old, 10), (new, 2)):
            report = copies.replicate(store, target, full=True)
            assert (report.left_out, report.lost, report.held >= least) == ([], [], True)
            assert findings(target.path) == []
    old.close()
    new.close()


def test_a_copy_whose_round_was_killed_is_sound_before_the_next(estate: Estate, tmp_path: Path) -> None:
    for number in range(6):
        estate.pull("web1", "etc", {b"etc/a": Content(b"%d" % number)})
    before = copies.directory(tmp_path / "before")
    copies.make(before, estate.store)
    copies.replicate(estate.store, before)
    estate.pull("web1", "etc", {b"etc/a": Content(b"new")})
    estate.pull("web2", "etc", {b"etc/a": Content(b"newer")})
    estate.prune("web1", "etc", 1, 2, 3)
    point, code = 0, -9
    while code:
        point += 1
        copy = tmp_path / f"copy{point}"
        shutil.copytree(before.path, copy)
        argv = [sys.executable, "-m", "tests.support.copy_child", estate.store.path, copy, str(point)]
        code = subprocess.run(argv, capture_output=True, check=False).returncode
        assert code in (0, -9)
        assert findings(copy) == [], point
    assert point > 6
    before.close()


def test_a_copy_that_lost_a_log_has_a_finding(estate: Estate, tmp_path: Path) -> None:
    estate.pull("web1", "etc", {b"etc/a": Content(b"a")})
    target = copies.directory(tmp_path / "copy")
    copies.make(target, estate.store)
    copies.replicate(estate.store, target)
    log = target.path / "manifests/web1/etc/log.jsonl"
    lines = log.read_bytes()
    log.unlink()
    assert [(found.kind, found.what) for found in findings(target.path)] == [("missing", "log")]
    log.write_bytes(lines * 2)
    assert [(found.kind, found.what) for found in findings(target.path)] == [("tampered", "log")]
    target.close()


@pytest.mark.parametrize("step", ["sync directory", "log"])
def test_a_first_commit_between_manifest_and_log_is_waited_for(
    estate: Estate, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The manifest is there before the log that names it: for seconds, where the disk is busy."""
    seen: list[list[Finding]] = []
    looking: list[threading.Thread] = []
    waits = threading.Semaphore(0)
    pause = verify_module._pause

    def waited() -> None:
        waits.release()
        pause()

    def look(name: str) -> None:
        if name == step and not looking:
            looking.append(threading.Thread(target=lambda: seen.append(findings(estate.store.path))))
            looking[0].start()
            for _ in range(10):
                assert waits.acquire(timeout=60)

    monkeypatch.setattr(verify_module, "_pause", waited)
    estate.store._step = look
    estate.pull("web1", "etc", {b"etc/a": Content(b"a")})
    looking[0].join()
    assert seen == [[]]


def test_a_sound_object_that_comes_just_as_a_damaged_one_is_set_aside_stays(tmp_path: Path, monkeypatch) -> None:
    place = tmp_path / "objects" / "object"
    place.parent.mkdir()
    place.write_bytes(b"rotten")
    found = place.lstat()
    file = (found.st_dev, found.st_ino, found.st_mtime_ns)
    ask = aside.is_same

    def and_then_it_comes(where: Path, which: tuple[int, int, int]) -> bool:
        answer = ask(where, which)
        if where == place:
            (tmp_path / "draft").write_bytes(b"sound")
            (tmp_path / "draft").rename(place)
        return answer

    monkeypatch.setattr(aside, "is_same", and_then_it_comes)
    assert aside.set_aside(tmp_path, place, "object", file) is None
    assert place.read_bytes() == b"sound"
    assert list((tmp_path / "damaged").iterdir()) == []


def test_a_line_that_comes_between_a_look_at_the_log_and_one_at_its_head_is_no_fault(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    estate.pull("web1", "etc", {b"etc/a": Content(b"1")})
    look, written = ModuleLog._read_head, list[str]()

    def write_and_look(log: ModuleLog) -> object:
        if not written:
            written.append("a pin")
            estate.store.pin("web1", "etc", 1, "why")
        return look(log)

    monkeypatch.setattr(ModuleLog, "_read_head", write_and_look)
    assert estate.store.verify_log("web1", "etc") == []
    assert written
