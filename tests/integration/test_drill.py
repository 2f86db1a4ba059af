"""Drills over a real store: what is sound comes back, what is not is named, and the record says so."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.clock import Clock, SystemClock
from pyrsyncbackup_collector.daemon import chore_drill, chores
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.drill import sample
from pyrsyncbackup_collector.entry import DIRECTORY
from pyrsyncbackup_collector.errors import NotFound, RestoreError
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.ledger import ModuleMemory
from pyrsyncbackup_collector.store import restore
from pyrsyncbackup_collector.store.restore_report import RestoreReport
from pyrsyncbackup_collector.store.snapshot import Change
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.transport.offer import ModuleOffer, ModuleState, Root, Validator

from tests.support import tree
from tests.support.anybody import open_directory
from tests.support.estate import Content, Estate
from tests.support.fleet import make_config


@dataclass(frozen=True)
class Desk:
    """What the chore works with."""

    store: Store
    catalog: Catalog
    clock: Clock
    sandbox_kind: str = "bubblewrap"


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    made = Estate(tmp_path)
    (tmp_path / "state").mkdir()
    yield made
    made.close()


def hold(estate: Estate, folder: Path, *, kind: str = "bubblewrap", **options: Any) -> chores.Finished:
    desk = cast(Parts, Desk(estate.store, estate.catalog, SystemClock(), kind))
    return chores.do("drill", desk, make_config(folder), options, Cancel(), trigger="command")


def test_what_is_sound_comes_back(estate: Estate, tmp_path: Path) -> None:
    estate.pull("web1", "etc", {b"etc/a": Content(b"one"), b"etc/b/c": Content(b"two"), b"etc/none": Content(b"")})
    done = hold(estate, tmp_path)
    assert (done.outcome, done.error) == ("complete", None)
    (held,) = done.document["drills"]
    assert (held["entries"], held["bytes"], held["differences"], held["whole"]) == (5, 6, 0, True)
    assert held["validation"] is None
    (view,) = estate.catalog.drills()
    assert (view.host, view.module, view.sequence, view.differences, view.validation) == ("web1", "etc", 1, 0, "")
    assert list((tmp_path / "state").iterdir()) == []


@pytest.mark.parametrize("damage", ["missing", "rotten", "truncated"])
def test_a_content_that_is_not_sound_is_named_by_its_path(estate: Estate, tmp_path: Path, damage: str) -> None:
    estate.pull("web1", "etc", {b"etc/a": Content(b"one"), b"etc/b": Content(b"two" * 100)})
    (entry,) = [one for one in estate.store.entries(estate.store.newest("web1", "etc")) if one.path == b"etc/b"]
    place = estate.store.objects.place(entry.sha256)
    place.chmod(0o600)
    if damage == "missing":
        place.unlink()
    elif damage == "rotten":
        place.write_bytes(estate.store.objects.place(entry.sha256).read_bytes()[:-1] + b"x")
    else:
        place.write_bytes(place.read_bytes()[:-3])
    done = hold(estate, tmp_path)
    assert done.outcome == "partial"
    (held,) = done.document["drills"]
    assert (held["differences"], held["examples"]) == (1, ["/etc/b: it is missing"])
    (view,) = estate.catalog.drills()
    assert view.examples == ("/etc/b: it is missing",)


def test_files_that_their_owner_may_not_read_are_compared_too(estate: Estate, tmp_path: Path) -> None:
    """As a user who is not root: the way of a collector."""
    estate.pull("web1", "etc", {b"etc/shadow": Content(b"secret")})
    code = """
import os, sys
from pathlib import Path
from tests.support import tree
from tests.support.anybody import open_directory
from pyrsyncbackup_collector.drill.drill import drill, scratch
from pyrsyncbackup_collector.drill.sample import Bounds, Sample
from pyrsyncbackup_collector.entry import DIRECTORY
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.store.manifest import Count
from pyrsyncbackup_collector.transport.offer import Validator
import contextlib

contents = tree.Contents()
entries = [
    tree.make(b"etc", DIRECTORY, mode=0o755),
    tree.make(b"etc/closed", DIRECTORY, mode=0o000),
    tree.make(b"etc/closed/file", mode=0o000, size=1, sha256=contents.add(b"y")),
    tree.make(b"etc/shadow", mode=0o000, size=6, sha256=contents.add(b"secret")),
]
count = Count()
list(count.through(entries))

class Fake:
    objects = contents
    def entries(self, _):
        return iter(entries)
    def reading(self, _):
        return contextlib.nullcontext()

class Snapshot:
    host, module, name, sequence, totals = "web1", "etc", "x", 1, count.totals()

if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
with scratch(Path(sys.argv[1])) as folder:
    sample = Sample(Snapshot.totals, Bounds(), 1)
    found = drill(Fake(), Snapshot(), sample, folder / "0", Cancel(), program=Validator(), confined=True)
    print(found.entries, found.differences, found.examples)
assert not (Path(sys.argv[1]) / "drill").exists()
"""
    open_directory(tmp_path / "open")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "open")], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("4 0 ()\n", 0), done.stderr


def test_a_directory_that_everybody_may_write_to_is_no_difference(estate: Estate, tmp_path: Path) -> None:
    estate.pull("web2", "etc", {b"etc/a": Content(b"x")})
    digest = hashlib.sha256(b"x").hexdigest()
    entries = [
        tree.make(b"var", DIRECTORY, mode=0o755),
        tree.make(b"var/group", DIRECTORY, mode=0o2775),
        tree.make(b"var/group/a", mode=0o644, size=1, sha256=digest),
        tree.make(b"var/tmp", DIRECTORY, mode=0o1777),
        tree.make(b"var/tmp/a", mode=0o4755, size=1, sha256=digest),
        tree.make(b"var/tmp/b", DIRECTORY, mode=0o777),
        tree.make(b"var/tmp/b/c", mode=0o644, size=1, sha256=digest),
    ]
    changes = [Change(each.path, each) for each in entries]
    run = estate.catalog.run_begin("web1", "var")
    snapshot = estate.store.commit(
        "web1", "var", time=1_790_000_000.0, state="complete", changes=changes, previous=None
    )
    estate.catalog.commit(run, snapshot, changes, ModuleMemory(snapshot.sequence, b"", b""), share=False)
    (held,) = hold(estate, tmp_path, host="web1").document["drills"]
    assert (held["entries"], held["differences"], held["examples"]) == (7, 0, [])


def test_of_a_large_module_a_part_is_restored(estate: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chore_drill, "Bounds", lambda: sample.Bounds(10, 50))
    estate.pull("web1", "etc", {b"etc/%02d" % number: Content(b"12345") for number in range(60)})
    (held,) = hold(estate, tmp_path).document["drills"]
    assert not held["whole"]
    assert held["differences"] == 0
    assert held["bytes"] <= 50


def test_each_module_has_its_turn(estate: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("a", "b", "c"):
        estate.pull("web1", module, {b"etc/" + module.encode(): Content(b"12345")})
    monkeypatch.setattr(chore_drill, "BUDGET", 6)
    turns = [[held["module"] for held in hold(estate, tmp_path).document["drills"]] for _ in range(3)]
    assert turns == [["a", "b"], ["c", "a"], ["b", "c"]]
    named = [held["module"] for held in hold(estate, tmp_path, host="web1").document["drills"]]
    assert sorted(named) == ["a", "b", "c"]


def test_older_snapshots_are_tried_too(estate: Estate, tmp_path: Path) -> None:
    for number in range(4):
        estate.pull("web1", "etc", {b"etc/a": Content(b"%d" % number)})
    for _ in range(60):
        hold(estate, tmp_path)
    with estate.catalog._database.reading() as raw:
        tried = {row[0] for row in raw.execute("SELECT sequence FROM drills")}
    assert 4 in tried
    assert len(tried) > 1


def test_a_module_without_snapshots_is_told(estate: Estate, tmp_path: Path) -> None:
    done = hold(estate, tmp_path, host="web1", module="etc")
    assert isinstance(done.error, NotFound)
    assert hold(estate, tmp_path).document == {"drills": [], "failed": [], "held": 0, "not_held": 0, "problems": 0}


def test_an_unreadable_manifest_stops_no_other_drill(estate: Estate, tmp_path: Path) -> None:
    estate.pull("web1", "a", {b"etc/a": Content(b"1")})
    estate.pull("web1", "b", {b"etc/b": Content(b"2")})
    (manifest,) = (tmp_path / "store" / "manifests" / "web1" / "a").glob("*.zst")
    manifest.write_bytes(b"no manifest")
    done = hold(estate, tmp_path)
    assert (done.outcome, [held["module"] for held in done.document["drills"]]) == ("partial", ["b"])
    (failed,) = done.document["failed"]
    assert (failed["host"], failed["module"]) == ("web1", "a")
    assert "no valid header" in failed["cause"] or "not sound" in failed["cause"]


def test_what_a_killed_drill_left_is_cleared_by_the_next(estate: Estate, tmp_path: Path) -> None:
    left = tmp_path / "state" / "drill" / "0" / "etc"
    left.mkdir(parents=True)
    (left / "secret").write_text("x")
    left.chmod(0)
    estate.pull("web1", "etc", {b"etc/a": Content(b"one")})
    assert hold(estate, tmp_path).outcome == "complete"
    assert not (tmp_path / "state" / "drill").exists()


def test_a_tree_deeper_than_any_path_is_drilled_and_removed(estate: Estate, tmp_path: Path) -> None:
    path = b"/".join([b"n" * 9] * 1200)
    estate.pull("web1", "deep", {path + b"/a": Content(b"one")})
    estate.pull("web2", "etc", {b"etc/a": Content(b"one")})
    for _ in range(2):
        done = hold(estate, tmp_path)
        assert (done.outcome, done.error, done.document["problems"]) == ("complete", None, 0)
        assert not (tmp_path / "state" / "drill").exists()


def test_one_that_is_stopped_is_no_failed_drill(
    estate: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is the last: nothing after it would notice."""
    estate.pull("web1", "etc", {b"etc/a": Content(b"one")})
    cancel = Cancel()

    def restored(*arguments: Any, **options: Any) -> RestoreReport:
        cancel.set()
        return restore.restore(*arguments, **options)

    monkeypatch.setattr("pyrsyncbackup_collector.drill.drill.restore", restored)
    desk = cast(Parts, Desk(estate.store, estate.catalog, SystemClock()))
    done = chores.do("drill", desk, make_config(tmp_path), {}, cancel, trigger="command")
    assert (done.outcome, type(done.error).__name__) == ("cancelled", "Cancelled")
    assert estate.catalog.drills() == []
    assert list((tmp_path / "state").iterdir()) == []


def test_one_that_cannot_be_restored_stops_no_other_drill(
    estate: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estate.pull("web1", "a", {b"etc/a": Content(b"1")})
    estate.pull("web1", "b", {b"etc/b": Content(b"2")})

    def restored(entries: Any, objects: Any, target: Path, **options: Any) -> RestoreReport:
        if target.name == "0":
            raise RestoreError("cannot restore etc/a: Input/output error", "look at the disk")
        return restore.restore(entries, objects, target, **options)

    monkeypatch.setattr("pyrsyncbackup_collector.drill.drill.restore", restored)
    done = hold(estate, tmp_path)
    assert (done.outcome, [held["module"] for held in done.document["drills"]]) == ("partial", ["b"])
    assert [failed["cause"] for failed in done.document["failed"]] == ["cannot restore etc/a: Input/output error"]


def test_a_scratch_directory_that_cannot_be_made_is_told(estate: Estate, tmp_path: Path) -> None:
    (tmp_path / "state").rmdir()
    (tmp_path / "state").write_text("no directory")
    done = hold(estate, tmp_path)
    assert isinstance(done.error, RestoreError)
    assert "Not a directory" in done.error.cause


def offer(estate: Estate, *command: str) -> None:
    validator = Validator(tuple(command), ("etc", "not-there"), ("/run",))
    offers = [
        ModuleOffer("site", "", ModuleState.READY, "", (Root(1, b"etc/site"),), validator=validator),
        ModuleOffer("etc", "", ModuleState.READY, "", (Root(1, b"etc"),)),
    ]
    estate.catalog.seen("web1", offers)


def test_the_validator_sees_its_module_and_those_beside_it(estate: Estate, tmp_path: Path) -> None:
    estate.pull("web1", "etc", {b"etc/passwd": Content(b"www:x:33:33::/:\n")}, roots=(b"etc",))
    estate.pull("web1", "site", {b"etc/site/conf": Content(b"right\n")}, roots=(b"etc/site",))
    offer(estate, "sh", "-c", "grep -q right {root}/etc/site/conf && grep -q right /etc/site/conf && cat /etc/passwd")
    done = hold(estate, tmp_path, host="web1", module="site")
    (held,) = done.document["drills"]
    assert (done.outcome, held["validation"], held["said"]) == ("complete", "passed", ["www:x:33:33::/:"])


def test_a_host_that_names_a_huge_module_beside_its_own_fills_no_disk(
    estate: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chore_drill, "Bounds", lambda: sample.Bounds(100, 1000))
    estate.pull("web1", "etc", {b"etc/huge": Content(b"x" * 990)}, roots=(b"etc",))
    estate.pull("web1", "site", {b"etc/site/conf": Content(b"right one!\n")}, roots=(b"etc/site",))
    offer(estate, "sh", "-c", "true")
    (held,) = hold(estate, tmp_path, host="web1", module="site").document["drills"]
    assert (held["entries"], held["differences"], held["validation"]) == (3, 0, "not run")
    assert held["said"] == ["the modules that it needs beside are too large to be restored for a drill"]


@pytest.mark.parametrize(
    ("command", "kind", "outcome", "said"),
    [
        (("sh", "-c", "echo wrong in line 3; exit 1"), "bubblewrap", "failed", "wrong in line 3"),
        (("no-such-program",), "bubblewrap", "absent", "no-such-program is not installed on this machine"),
        (("sh", "-c", "true"), "landlock", "not run", "it runs in bubblewrap alone, which does not work here"),
        (("sh", "-c", "true"), "off", "not run", "it runs in bubblewrap alone, which does not work here"),
    ],
)
def test_what_the_validator_says_is_recorded(
    estate: Estate, tmp_path: Path, command: tuple[str, ...], kind: str, outcome: str, said: str
) -> None:
    estate.pull("web1", "site", {b"etc/site/conf": Content(b"x")})
    offer(estate, *command)
    done = hold(estate, tmp_path, kind=kind)
    (held,) = done.document["drills"]
    assert (held["validation"], held["said"], held["differences"]) == (outcome, [said], 0)
    assert done.outcome == ("partial" if outcome == "failed" else "complete")
    (view,) = estate.catalog.drills()
    assert (view.validation, view.said) == (outcome, (said,))


def test_only_the_last_drills_are_remembered(estate: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrsyncbackup_collector.catalog.drills.KEPT", 3)
    estate.pull("web1", "etc", {b"etc/a": Content(b"one")})
    for _ in range(6):
        hold(estate, tmp_path)
    with estate.catalog._database.reading() as raw:
        assert raw.execute("SELECT count(*) FROM drills").fetchone() == (3,)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a file system")
def test_a_state_directory_without_room_is_told_before_anything_is_restored(estate: Estate, tmp_path: Path) -> None:
    estate.pull("web1", "etc", {b"etc/a": Content(b"one")})
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path / "state")], check=True)
    try:
        done = hold(estate, tmp_path)
    finally:
        subprocess.run(["umount", str(tmp_path / "state")], check=True)
    assert type(done.error).__name__ == "StoreFull"
    assert "has no room for a restore" in str(done.error)


def test_a_module_that_is_forgotten_takes_its_drills_with_it(estate: Estate, tmp_path: Path) -> None:
    estate.pull("web1", "etc", {b"etc/a": Content(b"one")})
    estate.pull("web2", "etc", {b"etc/a": Content(b"one")})
    hold(estate, tmp_path)
    newest = estate.store.newest("web1", "etc")
    assert newest is not None
    estate.prune("web1", "etc", newest.sequence)
    estate.catalog.forget_module("web1", "etc")
    assert [view.host for view in estate.catalog.drills()] == ["web2"]
