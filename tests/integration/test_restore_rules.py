"""Restores onto what is there: rules, plans, and going on where one was killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pyrsyncbackup_collector import entry
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import Cancelled, RestoreError
from pyrsyncbackup_collector.store import attributes, unfinished
from pyrsyncbackup_collector.store.overwrite import Action, Overwrite
from pyrsyncbackup_collector.store.restore import restore
from pyrsyncbackup_collector.store.restore_plan import plan
from pyrsyncbackup_collector.store.restore_report import Reason, RestoreReport
from pyrsyncbackup_collector.store.survey import Rules

from tests.support.tree import Contents, comparable, make, read

ME = {"uid": os.geteuid(), "gid": os.getegid()}
SNAPSHOT_TIME = 1_700_000_000


@pytest.fixture
def contents() -> Contents:
    return Contents()


def directory(path: bytes, mode: int = 0o755, **fields: object) -> Entry:
    return make(path, entry.DIRECTORY, mode=mode, mtime_s=SNAPSHOT_TIME, **{**ME, **fields})


def file(contents: Contents, path: bytes, content: bytes = b"content", **fields: object) -> Entry:
    facts = {"sha256": contents.add(content), "size": len(content), "allocated": 4096, "mode": 0o644, **ME}
    return make(path, **{**facts, "mtime_s": SNAPSHOT_TIME, **fields})


def reasons(report: RestoreReport) -> dict[bytes, Reason]:
    return {path: each.reason for each in report.shortfalls for path, _ in each.examples}


def planned(entries: list[Entry], target: Path, rule: Overwrite) -> dict[bytes, Action]:
    rights = attributes.Rights.of_this_process(owner=os.geteuid() == 0, special=False)
    return {each.entry.path: each.decision.action for each in plan(entries, target, Rules(rights, rule))}


def there(path: Path, text: str, time: int) -> None:
    path.write_text(text)
    os.utime(path, (time, time))


@pytest.mark.parametrize(
    ("rule", "older", "newer"),
    [(Overwrite.NEVER, "mine", "mine"), (Overwrite.OLDER, "content", "mine"), (Overwrite.ALWAYS, "content", "content")],
)
def test_the_rule_says_what_is_replaced(
    tmp_path: Path, contents: Contents, rule: Overwrite, older: str, newer: str
) -> None:
    entries = [directory(b"d"), file(contents, b"d/newer"), file(contents, b"d/older")]
    (tmp_path / "d").mkdir()
    there(tmp_path / "d" / "older", "mine", SNAPSHOT_TIME - 1)
    there(tmp_path / "d" / "newer", "mine", SNAPSHOT_TIME)
    expected = planned(entries, tmp_path, rule)

    report = restore(entries, contents, tmp_path, overwrite=rule)

    assert (tmp_path / "d" / "older").read_text() == older
    assert (tmp_path / "d" / "newer").read_text() == newer
    for name, text in (("older", older), ("newer", newer)):
        path = f"d/{name}".encode()
        assert reasons(report)[path] is (Reason.EXISTS if text == "mine" else Reason.REPLACED)
        assert expected[path] is (Action.KEEP if text == "mine" else Action.REPLACE)
    assert report.complete is ("mine" not in (older, newer))


def test_a_plan_touches_nothing_and_is_what_a_restore_does(tmp_path: Path, contents: Contents) -> None:
    entries = [
        directory(b"a"),
        file(contents, b"a/1"),
        file(contents, b"a/2"),
        make(b"a/device", entry.CHARACTER_DEVICE, rdev=(1, 3), **ME),
        file(contents, b"a/linked", link_to=b"a/1"),
        directory(b"b"),
        file(contents, b"b/new"),
        directory(b"c"),
        file(contents, b"c/below"),
    ]
    target = tmp_path / "target"
    assert set(planned(entries, target, Overwrite.NEVER).values()) == {Action.MAKE, Action.LEAVE_OUT}
    assert not target.exists()

    restore(entries[:3], contents, target)
    (target / "a" / "2").write_text("mine")
    (target / "c").write_text("in the way")
    before = comparable(read(target, Contents()))
    found = planned(entries, target, Overwrite.NEVER)
    assert comparable(read(target, Contents())) == before
    assert found == {
        b"a": Action.SAME,
        b"a/1": Action.SAME,
        b"a/2": Action.KEEP,
        b"a/device": Action.LEAVE_OUT,
        b"a/linked": Action.MAKE,
        b"b": Action.MAKE,
        b"b/new": Action.MAKE,
        b"c": Action.KEEP,
        b"c/below": Action.LEAVE_OUT,
    }
    report = restore(entries, contents, target)
    assert {path: reason for path, reason in reasons(report).items() if reason is not Reason.SAME} == {
        b"a/2": Reason.EXISTS,
        b"a/device": Reason.SPECIAL,
        b"c": Reason.EXISTS,
        b"c/below": Reason.BELOW,
    }
    assert (target / "a" / "linked").samefile(target / "a" / "1")


@pytest.mark.parametrize("rule", Overwrite)
def test_links_planted_in_the_target_lead_nowhere_under_any_rule(
    tmp_path: Path, contents: Contents, rule: Overwrite
) -> None:
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    there(outside / "victim", "untouched", 1)
    (target / "d").mkdir(parents=True)
    (target / "d" / "file").symlink_to(outside / "victim")
    (target / "e").symlink_to(outside)
    entries = [directory(b"d"), file(contents, b"d/file"), directory(b"e"), file(contents, b"e/new")]

    restore(entries, contents, target, overwrite=rule)

    assert sorted(os.listdir(outside)) == ["victim"]
    assert (outside / "victim").read_text() == "untouched"
    if rule is Overwrite.ALWAYS:
        assert (target / "e" / "new").read_text() == (target / "d" / "file").read_text() == "content"
        assert not (target / "e").is_symlink()
    else:
        assert (target / "e").is_symlink()


def test_only_an_empty_directory_gives_way_to_a_file(tmp_path: Path, contents: Contents) -> None:
    entries = [file(contents, b"empty"), file(contents, b"full"), make(b"link", entry.SYMLINK, target=b"x", **ME)]
    for name in ("empty", "full", "link"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "mine").touch()

    report = restore(entries, contents, tmp_path, overwrite=Overwrite.ALWAYS)

    assert (tmp_path / "empty").read_text() == "content"
    assert os.readlink(tmp_path / "link") == "x"
    assert (tmp_path / "full" / "mine").exists()
    assert reasons(report)[b"full"] is Reason.EXISTS
    assert not report.complete


def test_a_file_with_another_name_elsewhere_is_replaced_and_that_one_stays(tmp_path: Path, contents: Contents) -> None:
    (tmp_path / "target").mkdir()
    there(tmp_path / "elsewhere", "mine", 1)
    os.link(tmp_path / "elsewhere", tmp_path / "target" / "f")
    restore([file(contents, b"f")], contents, tmp_path / "target", overwrite=Overwrite.ALWAYS)
    assert (tmp_path / "elsewhere").read_text() == "mine"
    assert (tmp_path / "target" / "f").read_text() == "content"


def test_what_was_stopped_goes_on_and_becomes_what_it_would_have_been(tmp_path: Path, contents: Contents) -> None:
    entries = [
        directory(b"d", 0o755),
        directory(b"d/e", 0o500),
        file(contents, b"d/e/1", b"1" * 1000),
        file(contents, b"d/e/2", b"2" * 1_000_000),
        make(b"d/link", entry.SYMLINK, target=b"e", mode=0o777, mtime_s=1, **ME),
    ]
    target = tmp_path / "target"
    (target / "mine").mkdir(parents=True)

    def stop(_entries: int, size: int) -> None:
        if size > 1000:
            raise Cancelled("now")

    with pytest.raises(Cancelled):
        restore([*entries, directory(b"mine")], contents, target, progress=stop)
    assert stat.S_IMODE((target / "d" / "e").stat().st_mode) == 0o700

    found = planned([*entries, directory(b"mine")], target, Overwrite.NEVER)
    assert [path for path, action in found.items() if action is not Action.MAKE] == [b"d/e/1", b"mine"]
    report = restore([*entries, directory(b"mine")], contents, target)

    assert reasons(report) == {b"d/e/1": Reason.SAME, b"mine": Reason.DIRECTORY_KEPT}
    assert report.complete
    restored = [each for each in read(target, Contents()) if each.path != b"mine"]
    assert comparable(restored) == comparable(entries)
    assert not list(target.rglob(".pyrsyncbackup*"))


_CHILD = """
import os, signal, sys
from pathlib import Path
from pyrsyncbackup_collector.store.restore import restore
from pyrsyncbackup_collector.store.store import Store

count = 0
def progress(entries, size):
    global count
    count += 1
    if count == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

with Store.open(Path(sys.argv[1])) as store:
    snapshot = store.newest("web1", "etc")
    restore(store.entries(snapshot), store.objects, Path(sys.argv[2]), progress=progress)
"""


@pytest.mark.parametrize("after", [1, 7, 20, 33])
def test_a_restore_that_was_killed_goes_on(tmp_path: Path, after: int) -> None:
    from tests.support.estate import Content, Estate

    estate = Estate(tmp_path)
    try:
        files = {b"etc/d%d/f%d" % (n % 3, n): Content(b"%d" % n * (1 + 60_000 * (n % 5))) for n in range(20)}
        snapshot = estate.pull("web1", "etc", files)
        run = [sys.executable, "-c", _CHILD, tmp_path / "store", tmp_path / "out", str(after)]
        assert subprocess.run(run).returncode == -signal.SIGKILL
        # Another one, where enough is left to do.
        assert subprocess.run(run).returncode in (-signal.SIGKILL, 0)
        entries = list(estate.store.entries(snapshot))
        report = restore(entries, estate.store.objects, tmp_path / "out", owner=False)
    finally:
        estate.close()

    assert report.complete
    assert {each.reason for each in report.shortfalls} <= {Reason.SAME, Reason.OWNER}
    assert report.same + report.entries == len(entries)
    assert not list((tmp_path / "out").rglob(".pyrsyncbackup*"))
    for path, content in files.items():
        assert (tmp_path / "out" / os.fsdecode(path)).read_bytes() == content.data
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out" / "etc").rglob("d*")} == {0o755}


def test_two_restores_into_one_directory_do_not_take_each_others_drafts_away(
    tmp_path: Path, contents: Contents
) -> None:
    entries = [file(contents, b"a"), file(contents, b"b")]

    def another(_entries: int, _size: int) -> None:
        with pytest.raises(RestoreError, match="another restore into this directory is running"):
            restore(entries, contents, tmp_path)

    assert restore(entries, contents, tmp_path, progress=another).lines() == []
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_drafts_are_removed_only_where_a_restore_left_them(tmp_path: Path, contents: Contents) -> None:
    (tmp_path / "d").mkdir()
    for name in ("keep", ".pyrsyncbackup-0123456789abcdef"):
        (tmp_path / "d" / name).write_text("x")
    journal = tmp_path / os.fsdecode(unfinished.NAME)
    journal.write_bytes(b"draft keep\ndraft ../d/keep\nnonsense\ndraft .pyrsyncbackup-0123456789abcdef\n")
    journal.chmod(0o600)
    restore([directory(b"d")], contents, tmp_path)
    assert os.listdir(tmp_path / "d") == ["keep"]
    assert not journal.exists()


@pytest.mark.parametrize("planted", ["link", "fifo", "loose"])
def test_a_planted_note_of_an_unfinished_restore_is_not_believed(
    tmp_path: Path, contents: Contents, planted: str
) -> None:
    target, victim = tmp_path / "target", tmp_path / "victim"
    target.mkdir()
    victim.write_text("draft .pyrsyncbackup-0123456789abcdef\n")
    note = target / os.fsdecode(unfinished.NAME)
    if planted == "link":
        note.symlink_to(victim)
    elif planted == "fifo":
        os.mkfifo(note)
    else:
        note.write_text(victim.read_text())
        note.chmod(0o666)
    (target / ".pyrsyncbackup-0123456789abcdef").write_text("mine")
    restore([file(contents, b"x")], contents, target)
    assert (target / ".pyrsyncbackup-0123456789abcdef").read_text() == "mine"
    assert victim.read_text() == "draft .pyrsyncbackup-0123456789abcdef\n"
    assert (target / "x").read_text() == "content"


def test_what_was_written_can_be_read_back_and_compared(tmp_path: Path, contents: Contents) -> None:
    entries = [directory(b"d"), file(contents, b"d/1", b"1" * 1_000_000), file(contents, b"d/2")]

    def check() -> list[Entry]:
        # As a disk that lies would have it.
        (tmp_path / "t" / "d" / "2").write_text("CONTENT")
        return entries

    report = restore(entries, contents, tmp_path / "t", check=check)

    assert (report.checked, report.complete) == (2, False)
    assert reasons(report) == {b"d/2": Reason.UNSOUND}
    assert restore(entries[:2], contents, tmp_path / "u", check=lambda: entries[:2]).lines() == []


@pytest.mark.parametrize("kind", [entry.FILE, entry.DIRECTORY, entry.SYMLINK])
@pytest.mark.parametrize("rule", [Overwrite.NEVER, Overwrite.ALWAYS])
def test_what_a_host_calls_like_our_note_does_not_become_it(
    tmp_path: Path, contents: Contents, kind: str, rule: Overwrite
) -> None:
    forged = file(contents, unfinished.NAME, b"draft .pyrsyncbackup-0123456789abcdef\n")
    if kind == entry.DIRECTORY:
        forged = directory(unfinished.NAME)
    elif kind == entry.SYMLINK:
        forged = make(unfinished.NAME, kind, target=b"/etc/passwd", mode=0o777, **ME)
    below = [file(contents, unfinished.NAME + b"/x")] if kind == entry.DIRECTORY else []
    entries = [forged, *below, directory(b"d"), file(contents, b"d/x")]
    for _ in "first", "second":
        plan_says = planned(entries, tmp_path / "out", rule)
        report = restore(entries, contents, tmp_path / "out", overwrite=rule)
        assert plan_says[unfinished.NAME] is Action.KEEP
        assert reasons(report)[unfinished.NAME] is Reason.EXISTS
        assert os.listdir(tmp_path / "out") == ["d"]
