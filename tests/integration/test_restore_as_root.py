"""A tree with everything in it, restored, and compared by programs that know nothing of us."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from pyrsyncbackup_collector.store.restore import restore
from pyrsyncbackup_collector.store.restore_report import Reason

from tests.support import tree, zoo
from tests.support.comparison import as_mtree, as_rsync_sees

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and capabilities need root")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the zoo in it."""
    root = tmp_path_factory.mktemp("source")
    zoo.build(root / "zoo")
    return root


def test_a_zoo_is_restored_as_it_was(source: Path, tmp_path: Path) -> None:
    contents = tree.Contents()
    entries = list(tree.read(source, contents))

    report = restore(entries, contents, tmp_path / "restored", special=True)

    assert report.lines() == []
    assert report.complete
    assert report.entries == len(entries)
    assert as_rsync_sees(source / "zoo", tmp_path / "restored/zoo") == ""
    assert as_mtree(source / "zoo") == as_mtree(tmp_path / "restored/zoo")
    for name in ("hole-at-both-ends", "only-hole"):
        assert os.stat(tmp_path / "restored/zoo/sparse" / name).st_blocks * 512 < 1_000_000
    assert tree.comparable(tree.read(tmp_path / "restored", tree.Contents())) == tree.comparable(entries)


def test_paths_longer_than_a_system_call_takes_are_restored(tmp_path: Path) -> None:
    zoo.build_too_deep(tmp_path / "deep")
    contents = tree.Contents()
    entries = list(tree.read(tmp_path / "deep", contents))
    assert max(len(each.path) for each in entries) > 15_000

    report = restore(entries, contents, tmp_path / "restored")

    assert report.lines() == []
    restored = list(tree.read(tmp_path / "restored", tree.Contents()))
    shutil.rmtree(tmp_path / "deep")
    shutil.rmtree(tmp_path / "restored")
    assert tree.comparable(restored) == tree.comparable(entries)


def test_without_special_nothing_gains_rights(source: Path, tmp_path: Path) -> None:
    contents = tree.Contents()

    report = restore(tree.read(source, contents), contents, tmp_path / "restored")

    assert report.complete
    assert {(each.reason, each.what): each.count for each in report.shortfalls} == {
        (Reason.SPECIAL, "devices"): 2,
        (Reason.SPECIAL, "set-id bits"): 5,
        (Reason.SPECIAL, "file capabilities"): 1,
    }
    for entry in tree.read(tmp_path / "restored", tree.Contents()):
        assert not entry.mode & 0o6000
        assert "security.capability" not in entry.xattrs
        assert entry.type not in ("char", "block")


def test_a_second_restore_finds_all_of_it_there_whoever_owns_it(source: Path, tmp_path: Path) -> None:
    contents = tree.Contents()
    entries = list(tree.read(source, contents))
    restore(entries, contents, tmp_path / "restored", special=True)
    again = restore(entries, contents, tmp_path / "restored", special=True)
    assert (again.same, dict(again.counts)) == (len(entries), {})


def test_acls_of_the_target_do_not_get_into_what_is_restored(source: Path, tmp_path: Path) -> None:
    contents = tree.Contents()
    entries = list(tree.read(source, contents))
    target = tmp_path / "restored"
    target.mkdir()
    subprocess.run(["setfacl", "-d", "-m", "u:4711:rwx", str(target)], check=True)

    restore(entries, contents, target, special=True)

    assert tree.comparable(tree.read(target, tree.Contents())) == tree.comparable(entries)


def test_another_user_gets_what_is_possible_and_is_told_the_rest(source: Path) -> None:
    contents = tree.Contents()
    entries = list(tree.read(source, contents))
    # Not below pytest's directory, which only its user can enter.
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, 65534, 65534)
        target = Path(home, "restored")
        lines = _as_nobody(lambda: restore(entries, contents, target, special=True).lines())
        restored = {each.path: each for each in tree.read(target, tree.Contents())}

    text = "\n".join(lines)
    assert "which only root can give" in text
    assert "could not be made (Operation not permitted): zoo/special/loop, zoo/special/null" in text
    assert "set-id bits: not without the right owner" in text
    assert {each.path for each in entries} - set(restored) == {b"zoo/special/loop", b"zoo/special/null"}
    for entry in entries:
        if entry.path in restored:
            mine = restored[entry.path]
            assert (mine.sha256, mine.target, mine.link_to) == (entry.sha256, entry.target, entry.link_to)
            assert (mine.mtime_s, mine.mtime_ns) == (entry.mtime_s, entry.mtime_ns)
            assert mine.mode == entry.mode & ~0o6000


def _as_nobody(call: Callable[[], list[str]]) -> list[str]:
    """Run in a child process that is another user; return its list of lines."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # The runner's other threads hold nothing that the child needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.write(writing, "\n".join(call()).encode())
        except BaseException as error:  # noqa: BLE001 (told to the parent)
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as file:
        text = file.read()
    os.waitpid(child, 0)
    return text.splitlines()
