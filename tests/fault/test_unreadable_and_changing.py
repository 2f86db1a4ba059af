"""What an agent that is not root cannot read, always or only now, and files that change while they are pulled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.pull.report import Outcome, Progress, PullReport
from pyrsyncbackup_collector.store.restore import restore

from tests.support.agent import RunningAgent
from tests.support.puller import Puller
from tests.support.waiting import until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="starts an agent as another user")
# Nobody's; 65534 may own files.
UID = 54321
PLAIN = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups")
# As the packaged unit does.
CAPABLE = (*PLAIN, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


class OtherUsersAgent(RunningAgent):
    """An agent that a prefix runs as another user."""

    prefix: tuple[str, ...] = ()

    def start(self) -> RunningAgent:
        for path in (self.base, *self.base.rglob("*")):
            os.chown(path, UID, UID)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "pyrsyncbackup_agent", "serve", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        until(lambda: self._ready(self.process), what=f"the agent to start, see {self.log}")
        return self


class Scene:
    """A tree of root's in a place that everybody may enter, an agent, and a collector."""

    def __init__(self, base: Path, prefix: tuple[str, ...]) -> None:
        self.top = base / "srv"
        self.top.mkdir(mode=0o755)
        self.agent = OtherUsersAgent(base / "agent")
        self.agent.prefix = prefix
        self.agent.module("srv", self.top)
        self.agent.start()
        self.puller = Puller(base / "collector", self.agent.collector)
        self.client = self.puller.client(self.agent.address, self.agent.certificate_pem)

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        path = self.top / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def pull(self, watch: Callable[[Progress], None] | None = None) -> PullReport:
        return self.puller.pull(self.client, "srv", watch=watch)

    def snapshot(self) -> dict[str, Entry]:
        """Entries below the tree by name."""
        prefix = os.fsencode(self.top)[1:] + b"/"
        entries = self.puller.entries("srv")
        return {os.fsdecode(p.removeprefix(prefix)): e for p, e in entries.items() if p.startswith(prefix)}

    def restore(self, target: Path) -> Path:
        """The newest snapshot, restored; where the tree is then."""
        store = self.puller.store
        entries = list(self.puller.entries("srv").values())
        assert restore(entries, store.objects, target).complete
        return target / self.top.relative_to("/")

    def texts(self) -> dict[str, str]:
        return {name: self.puller.content(e).decode() for name, e in self.snapshot().items() if e.sha256}

    def problems(self, report: PullReport) -> dict[str, tuple[str, str]]:
        prefix = os.fsencode(self.top)[1:] + b"/"
        return {os.fsdecode(p.path.removeprefix(prefix)): (p.kind, p.message) for p in report.problems}

    def close(self) -> None:
        self.client.close()
        self.puller.close()
        self.agent.stop()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users may enter, which pytest's own are not."""
    base = Path(tempfile.mkdtemp(prefix="pyrsyncbackup-test-"))
    base.chmod(0o755)
    yield base
    shutil.rmtree(base)


@pytest.fixture
def plain(place: Path) -> Iterator[Scene]:
    scene = Scene(place, PLAIN)
    yield scene
    scene.close()


@needs_root
def test_the_capability_of_the_packaged_unit_reads_roots_files(place: Path) -> None:
    scene = Scene(place, CAPABLE)
    try:
        scene.write("secret", "of root", 0o600)
        scene.write("closed/inside", "too", 0o600).parent.chmod(0o700)
        report = scene.pull()
        assert (report.outcome, report.problems) == (Outcome.COMPLETE, ())
        assert scene.texts() == {"secret": "of root", "closed/inside": "too"}
        secret = scene.snapshot()["secret"]
        assert (secret.mode, secret.uid) == (0o600, 0)
    finally:
        scene.close()


@needs_root
def test_what_never_could_be_read_is_listed_with_its_reason_and_the_rest_is_complete(plain: Scene) -> None:
    plain.write("open", "for all")
    plain.write("secret", "of root", 0o600)
    plain.write("closed/inside", "too").parent.chmod(0o700)
    report = plain.pull()
    assert report.outcome is Outcome.COMPLETE
    assert plain.texts() == {"open": "for all"}
    problems = plain.problems(report)
    assert set(problems) == {"secret", "closed"}
    assert all(kind == "unreadable" and "ermission denied" in words for kind, words in problems.values()), problems
    assert plain.pull().outcome is Outcome.UNCHANGED


@needs_root
def test_what_cannot_be_read_only_now_is_stale_and_comes_back(plain: Scene) -> None:
    file = plain.write("file", "one")
    inside = plain.write("directory/inside", "two")
    plain.write("directory/deeper", "three")
    plain.write("other", "four")
    assert plain.pull().outcome is Outcome.COMPLETE
    all_texts = plain.texts()
    file.write_text("one, changed")
    file.chmod(0o600)
    inside.parent.chmod(0o700)
    plain.write("other", "four, changed")
    report = plain.pull()
    assert report.outcome is Outcome.PARTIAL
    assert report.counts.removed == 0
    assert plain.texts() == all_texts | {"other": "four, changed"}
    stale = {name for name, entry in plain.snapshot().items() if entry.stale}
    assert stale >= {"file", "directory/inside", "directory/deeper"}
    assert "other" not in stale
    assert "ermission denied" in plain.problems(report)["file"][1]
    assert plain.pull().outcome is Outcome.PARTIAL
    assert len(plain.puller.store.snapshots("web1", "srv")) == 2
    file.chmod(0o644)
    inside.parent.chmod(0o755)
    inside.unlink()
    report = plain.pull()
    assert (report.outcome, report.problems) == (Outcome.COMPLETE, ())
    assert plain.texts() == {"file": "one, changed", "directory/deeper": "three", "other": "four, changed"}


def _replace(first: Path) -> None:
    first.unlink()
    first.write_text("another content")


def _replace_by_link(first: Path) -> None:
    first.unlink()
    first.symlink_to("elsewhere")


def _remove(first: Path) -> None:
    first.unlink()


def _give_an_earlier_name(first: Path) -> None:
    os.link(first, first.with_name("earlier"))


def _nothing(_: Path) -> None:
    pass


@needs_root
@pytest.mark.parametrize("happens", [_replace, _replace_by_link, _remove, _give_an_earlier_name, _nothing])
def test_another_name_that_cannot_be_read_now_keeps_its_content_whatever_becomes_of_the_first(
    plain: Scene, tmp_path: Path, happens: Callable[[Path], None]
) -> None:
    first = plain.write("a/first", "content of both")
    second = plain.write("z/unused", "-").with_name("second")
    os.link(first, second)
    assert plain.pull().outcome is Outcome.COMPLETE
    assert plain.snapshot()["z/second"].link_to
    happens(first)
    second.parent.chmod(0o700)
    report = plain.pull()
    assert report.outcome is Outcome.PARTIAL, report
    kept = plain.snapshot()["z/second"]
    assert (plain.texts()["z/second"], kept.stale) == ("content of both", True)
    restored = plain.restore(tmp_path / "out")
    assert (restored / "z" / "second").read_text() == "content of both"
    second.parent.chmod(0o755)
    assert plain.pull().outcome is Outcome.COMPLETE
    assert (plain.texts()["z/second"], plain.snapshot()["z/second"].stale) == ("content of both", False)


@needs_root
def test_what_becomes_unreadable_between_the_listing_and_the_transfer_is_stale(plain: Scene) -> None:
    file = plain.write("file", "one")
    plain.write("other", "two")
    plain.pull()
    file.write_text("one, changed")
    plain.write("other", "two, changed")
    new = plain.write("new", "three")

    def close(progress: Progress) -> None:
        if progress.phase == "transfer" and new.stat().st_mode & 0o777 != 0o600:
            file.chmod(0o600)
            new.chmod(0o600)

    report = plain.pull(close)
    assert report.outcome is Outcome.PARTIAL
    assert plain.texts() == {"file": "one", "other": "two, changed"}
    assert {name for name, entry in plain.snapshot().items() if entry.stale} == {"file"}
    assert set(plain.problems(report)) == {"file", "new"}


@needs_root
def test_what_vanishes_or_appears_after_the_listing_fails_nothing(plain: Scene) -> None:
    for number in range(20):
        plain.write(f"{number:02}", f"file {number}")
    plain.write("gone/inside", "a whole directory")

    def act(progress: Progress) -> None:
        if progress.phase == "transfer" and (plain.top / "03").exists():
            (plain.top / "03").unlink()
            shutil.rmtree(plain.top / "gone")
            plain.write("appeared", "late")

    report = plain.pull(act)
    assert report.outcome is Outcome.COMPLETE
    assert {f"{number:02}" for number in range(20) if number != 3} <= set(plain.texts())
    assert report.counts.vanished >= 2
    assert plain.pull().outcome is Outcome.COMPLETE
    assert "appeared" in plain.texts()
    assert not {"03", "gone", "gone/inside"} & set(plain.snapshot())
    assert plain.pull().outcome is Outcome.UNCHANGED


@needs_root
def test_files_that_a_writer_changes_all_the_time_are_marked_and_the_pull_ends(plain: Scene) -> None:
    for number in range(8):
        plain.write(f"busy{number}", "0" * 1000)
        plain.write(f"quiet{number}", f"quiet {number}")
    end = threading.Event()
    begun = threading.Event()
    rounds = 0

    def writer() -> None:
        nonlocal rounds
        while not end.is_set() and rounds < 200_000:
            rounds += 1
            for number in range(8):
                with (plain.top / f"busy{number}").open("r+b") as file:
                    file.write(b"%d" % (rounds % 10) * 1000)
            begun.set()
            end.wait(0.001)

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        assert begun.wait(60)
        report = plain.pull()
    finally:
        end.set()
        thread.join()
    assert report.outcome in (Outcome.COMPLETE, Outcome.PARTIAL)
    texts = plain.texts()
    for number in range(8):
        assert texts[f"quiet{number}"] == f"quiet {number}"
        busy = plain.snapshot()[f"busy{number}"]
        if busy.sha256:
            assert len(texts[f"busy{number}"]) == 1000
        else:
            assert busy.changing
    kinds = {kind for kind, _ in plain.problems(report).values()}
    assert kinds <= {"changing"}
    # Quiet again: everything settles.
    report = plain.pull()
    assert (report.outcome, report.problems) == (Outcome.COMPLETE, ())
    for number in range(8):
        assert plain.texts()[f"busy{number}"] == (plain.top / f"busy{number}").read_text()
