"""One pull after the other, with a real agent, real rsync in the sandbox, a real store and catalog."""

import os
from contextlib import closing
from pathlib import Path

import pytest
from pyrsyncbackup_collector.errors import Cancelled, CatalogLocked, ModuleNotReady, ModuleUnknown
from pyrsyncbackup_collector.pull.report import Outcome

from tests.support.agent import RunningAgent
from tests.support.anybody import let_through
from tests.support.puller import Puller


class World:
    """A directory on the host, its agent, and a collector."""

    def __init__(self, base: Path) -> None:
        self.top = base / "host" / "srv"
        self.top.mkdir(parents=True)
        self.agent = RunningAgent(base / "agent")
        self.agent.module("srv", self.top)
        self.agent.start()
        self.puller = Puller(base / "collector", self.agent.collector)
        self.client = self.puller.client(self.agent.address, self.agent.certificate_pem)

    def pull(self, module: str = "srv", **task):
        return self.puller.pull(self.client, module, **task)

    def snapshot(self, module: str = "srv"):
        """Entries of the newest snapshot by their path below the directory."""
        prefix = os.fsencode(self.top)[1:] + b"/"
        entries = self.puller.entries(module)
        return {path.removeprefix(prefix): entry for path, entry in entries.items() if path.startswith(prefix)}

    def contents(self):
        return {p: self.puller.content(e) for p, e in self.snapshot().items() if e.sha256}

    def close(self) -> None:
        self.client.close()
        self.puller.close()
        self.agent.stop()


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def test_the_first_pull_brings_everything(world):
    (world.top / "a").write_text("alpha")
    (world.top / "d").mkdir()
    (world.top / "d" / "b").write_text("beta")
    (world.top / "l").symlink_to("a")
    report = world.pull()
    assert (report.outcome, report.counts.sent_files, report.problems) == (Outcome.COMPLETE, 2, ())
    assert world.contents() == {b"a": b"alpha", b"d/b": b"beta"}
    assert world.snapshot()[b"l"].target == b"a"


def test_a_pull_without_a_change_makes_no_snapshot(world):
    (world.top / "a").write_text("alpha")
    first = world.pull()
    second = world.pull()
    assert (second.outcome, second.snapshot, second.counts.sent_files) == (Outcome.UNCHANGED, None, 0)
    assert [s.name for s in world.puller.store.snapshots("web1", "srv")] == [first.snapshot.name]


def test_only_what_changed_travels(world):
    for name in "abc":
        (world.top / name).write_text(name * 100)
    world.pull()
    (world.top / "b").write_text("B" * 100)
    (world.top / "c").unlink()
    report = world.pull()
    counts = report.counts
    assert (counts.sent_files, counts.modified, counts.removed) == (1, 1, 1)
    assert world.contents() == {b"a": b"a" * 100, b"b": b"B" * 100}


def test_a_touch_is_recorded_without_a_transfer(world):
    (world.top / "a").write_text("alpha")
    world.pull()
    os.utime(world.top / "a", ns=(1, 1_234_567_890_123_456_789))
    report = world.pull()
    assert (report.outcome, report.counts.metadata, report.counts.sent_files) == (Outcome.COMPLETE, 1, 0)
    entry = world.snapshot()[b"a"]
    assert (entry.mtime_s, entry.mtime_ns) == (1_234_567_890, 123_456_789)


def test_a_same_size_edit_with_the_old_time_is_found(world):
    path = world.top / "a"
    path.write_text("one")
    before = path.stat().st_mtime_ns
    world.pull()
    path.write_text("two")
    os.utime(path, ns=(before, before))
    world.pull()
    assert world.contents() == {b"a": b"two"}


def test_content_that_the_host_sent_before_does_not_travel_again(world):
    (world.top / "a").write_text("the same content")
    world.pull()
    (world.top / "a").rename(world.top / "moved")
    report = world.pull()
    assert (report.counts.sent_files, report.counts.claimed_files) == (0, 1)
    assert world.contents() == {b"moved": b"the same content"}


def test_public_content_of_another_host_does_not_travel(world):
    (world.top / "a").write_text("public")
    (world.top / "p").write_text("private")
    (world.top / "p").chmod(0o600)
    let_through(world.top)
    world.pull()
    other = world.puller.client(world.agent.address, world.agent.certificate_pem, host="web2")
    report = world.puller.pull(other, "srv")
    other.close()
    assert (report.counts.sent_files, report.counts.claimed_files) == (1, 1)
    entries = world.puller.entries("srv", host="web2")
    claimed = {path.rpartition(b"/")[2]: entry.claimed for path, entry in entries.items() if entry.sha256}
    assert claimed == {b"a": True, b"p": False}


def test_with_share_off_everything_is_sent_by_the_host_itself(world):
    (world.top / "a").write_text("public")
    world.pull()
    other = world.puller.client(world.agent.address, world.agent.certificate_pem, host="web2")
    report = world.puller.pull(other, "srv", share=False)
    other.close()
    assert (report.counts.sent_files, report.counts.claimed_files) == (1, 0)


def test_hard_links_share_content_and_name_their_first(world):
    (world.top / "a").write_text("linked")
    (world.top / "b").hardlink_to(world.top / "a")
    report = world.pull()
    a, b = world.snapshot()[b"a"], world.snapshot()[b"b"]
    assert report.counts.sent_files == 1
    assert b.link_to.endswith(b"/a")
    assert a.sha256 == b.sha256


def test_links_and_special_files_with_two_names_keep_both(world):
    (world.top / "a").symlink_to("nowhere")
    os.link(world.top / "a", world.top / "b", follow_symlinks=False)
    os.mkfifo(world.top / "c")
    os.link(world.top / "c", world.top / "d")
    report = world.pull()
    assert (report.outcome, report.problems) == (Outcome.COMPLETE, ())
    firsts = {path: entry.link_to.rpartition(b"/")[2] for path, entry in world.snapshot().items()}
    assert firsts == {b"a": b"", b"b": b"a", b"c": b"", b"d": b"c"}
    assert world.pull().outcome is Outcome.UNCHANGED


def test_a_new_name_of_an_old_file_gets_its_content(world):
    (world.top / "a").write_text("linked")
    world.pull()
    (world.top / "b").hardlink_to(world.top / "a")
    report = world.pull()
    assert report.counts.sent_files == 0
    assert world.contents() == {b"a": b"linked", b"b": b"linked"}


def test_content_changed_through_one_name_is_changed_under_all(world):
    (world.top / "a").write_text("old")
    (world.top / "b").hardlink_to(world.top / "a")
    stat = (world.top / "a").stat()
    world.pull()
    (world.top / "b").write_text("new")
    os.utime(world.top / "b", ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    world.pull()
    assert world.contents() == {b"a": b"new", b"b": b"new"}


def test_an_empty_directory_and_an_empty_file_arrive(world):
    (world.top / "d").mkdir()
    (world.top / "e").touch()
    world.pull()
    assert world.contents() == {b"e": b""}
    assert world.snapshot()[b"d"].type == "dir"


def test_many_windows_make_one_snapshot(world):
    for number in range(60):
        (world.top / f"{number:03d}").write_text(str(number) * 10)
    report = world.pull(window_files=7)
    assert report.counts.sent_files == 60
    assert world.contents() == {f"{n:03d}".encode(): (str(n) * 10).encode() for n in range(60)}


def test_a_stopped_pull_leaves_nothing_and_the_next_goes_on(world):
    for number in range(200):
        (world.top / f"{number:03d}").write_text(str(number) * 10)
    windows = []

    def stop(progress):
        windows.append(progress.phase)
        if progress.files_done >= 50:
            world.puller.cancel.set()

    world.puller.progress = type("Stopping", (), {"append": staticmethod(stop)})()
    with pytest.raises(Cancelled):
        world.pull(window_files=25)
    store = world.puller.store
    assert store.newest("web1", "srv") is None
    assert list((store.path / "incoming").iterdir()) == []
    world.puller.cancel = type(world.puller.cancel)()
    world.puller.progress = []
    report = world.pull()
    assert report.counts.claimed_files >= 50
    assert report.counts.sent_files + report.counts.claimed_files == 200


def test_a_large_file_that_changed_a_little_travels_a_little(world):
    data = os.urandom(12 << 20)
    (world.top / "big").write_bytes(data)
    world.pull()
    (world.top / "big").write_bytes(data[: 6 << 20] + b"inserted" + data[6 << 20 :])
    report = world.pull()
    assert report.counts.wire_bytes < 2 << 20
    assert world.contents()[b"big"] == (world.top / "big").read_bytes()


def test_a_dry_run_says_what_would_travel_and_records_nothing(world):
    (world.top / "a").write_text("alpha")
    (world.top / "b").write_text("beta")
    world.pull()
    (world.top / "a").write_text("longer alpha")
    (world.top / "b").unlink()
    plan = world.puller.plan(world.client, "srv")
    by_name = {change.path.rpartition(b"/")[2]: (change.kind, change.transfer) for change in plan}
    assert by_name[b"a"] == ("content", True)
    assert by_name[b"b"] == ("removed", False)
    assert len(world.puller.store.snapshots("web1", "srv")) == 1


def test_an_unknown_and_an_absent_module_are_told_apart(world):
    world.agent.module("gone", "/nonexistent/path")
    with pytest.raises(ModuleUnknown):
        world.pull("nothing")
    with pytest.raises(ModuleNotReady):
        world.pull("gone")


def test_progress_ends_with_all_files_done(world):
    for number in range(10):
        (world.top / str(number)).write_text("x" * number)
    world.pull()
    last = world.puller.progress[-1]
    assert (last.files_done, last.files_total, last.bytes_done, last.bytes_total) == (10, 10, 45, 45)


def test_a_commit_that_did_not_reach_the_catalog_is_made_up_for_by_the_next_pull(world, monkeypatch):
    (world.top / "a").write_text("one")
    world.pull()
    (world.top / "a").write_text("two!")
    with monkeypatch.context() as patch:

        def locked(*_, **__):
            raise CatalogLocked("the catalog is locked by another process")

        patch.setattr(world.puller.catalog, "commit", locked)
        with pytest.raises(CatalogLocked):
            world.pull()
    (world.top / "a").write_text("three")
    assert world.pull().outcome is Outcome.COMPLETE
    assert world.contents() == {b"a": b"three"}
    in_store = world.puller.store.snapshots("web1", "srv")
    assert world.puller.catalog.snapshots() == in_store
    assert len(in_store) == 3


def test_what_a_host_does_not_share_is_sent_by_the_next_host_itself(world):
    (world.top / "a").write_text("public, but not for others")
    let_through(world.top)
    world.pull(share=False)
    assert world.snapshot()[b"a"].public
    with closing(world.puller.client(world.agent.address, world.agent.certificate_pem, "web2")) as other:
        report = world.puller.pull(other, "srv")
        assert (report.counts.sent_files, report.counts.claimed_files) == (1, 0)
    with closing(world.puller.client(world.agent.address, world.agent.certificate_pem, "web3")) as other:
        report = world.puller.pull(other, "srv")  # web2 shares it
        assert (report.counts.sent_files, report.counts.claimed_files) == (0, 1)


def test_an_object_that_was_lost_is_fetched_again(world):
    (world.top / "a").write_text("alpha")
    (world.top / "big").write_bytes(os.urandom(5 << 20))
    world.pull()
    for entry in world.snapshot().values():
        world.puller.store.objects.place(entry.sha256).unlink()
    with world.puller.catalog._database.writing() as raw:
        raw.execute("DELETE FROM objects")  # as a rebuilt catalog says
    os.utime(world.top / "a", (1, 1))
    with (world.top / "big").open("ab") as file:
        file.write(b"more")
    report = world.pull()
    assert (report.outcome, report.counts.sent_files) == (Outcome.COMPLETE, 2)
    assert world.contents() == {b"a": b"alpha", b"big": (world.top / "big").read_bytes()}
