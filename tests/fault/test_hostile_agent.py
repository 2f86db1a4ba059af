"""A host that was taken over: what it says and sends harms nobody but itself, and is named."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyrsyncbackup import identity
from pyrsyncbackup.v1 import agent_pb2 as pb
from pyrsyncbackup_collector.errors import (
    AgentMisbehaved,
    BackupError,
    Cancelled,
    ConnectionLost,
    StoreFull,
    TransferFailed,
)
from pyrsyncbackup_collector.pull.report import Outcome, PullReport
from pyrsyncbackup_collector.transport.agent_client import AgentClient
from pyrsyncbackup_collector.transport.listing import Limits
from pyrsyncbackup_collector.transport.stream import Timeouts

from tests.support.hostile_agent import TOP, HostileAgent, digest, directory, file
from tests.support.plain_agent import serving
from tests.support.puller import Puller
from tests.support.waiting import until

SECRET = b"the private key of another host, " * 20
GIB = 1 << 30


class Scene:
    """A collector and agents that lie to it; `host` makes one, `pull` pulls its module."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.puller = Puller(base / "collector", identity.load_or_create(base / "identity", "collector"))
        self.agents: dict[str, HostileAgent] = {}
        self.closing: list[Callable[[], object]] = [self.puller.close]

    def host(self, name: str, files: dict[bytes, bytes] | None = None) -> HostileAgent:
        agent = HostileAgent(self.base / name, files)
        served = serving(agent, [self.puller.identity.certificate_pem])
        served.__enter__()
        self.closing.append(lambda: served.__exit__(None, None, None))
        self.agents[name] = agent
        return agent

    def client(self, name: str, **options: object) -> AgentClient:
        agent = self.agents[name]
        client = self.puller.client(agent.address, agent.identity.certificate_pem, host=name, **options)
        self.closing.append(client.close)
        return client

    def pull(self, name: str, *, client: AgentClient | None = None, **task: object) -> PullReport:
        return self.puller.pull(client or self.client(name), "data", **task)

    def entries(self, name: str) -> dict[bytes, object]:
        prefix = TOP + b"/"
        found = self.puller.entries("data", host=name)
        return {path.removeprefix(prefix): entry for path, entry in found.items() if path.startswith(prefix)}

    def stored(self, content: bytes) -> bool:
        return self.puller.store.objects.place(hashlib.sha256(content).hexdigest()).exists()

    def close(self) -> None:
        for close in reversed(self.closing):
            close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    store = scene.puller.store.path
    assert list((store / "incoming").iterdir()) == []
    # Whatever was sent, nothing lies anywhere but where it belongs.
    expected = {"store", "catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm", "catalog.sqlite.lock"}
    assert {path.name for path in (tmp_path / "collector").iterdir()} <= expected
    assert not list(tmp_path.rglob("*escape*"))
    scene.close()


def refused(scene: Scene, name: str, match: str, kind: type[BackupError] = AgentMisbehaved, **more: object) -> None:
    with pytest.raises(kind, match=match) as raised:
        scene.pull(name, **more)
    assert "\x1b" not in str(raised.value)
    assert scene.puller.store.newest(name, "data") is None


def names_it(scene: Scene, path: bytes) -> bool:
    """Pull: `path` is all that is wrong (true), or nothing could be taken (false)."""
    try:
        report = scene.pull("evil")
    except TransferFailed:
        return False
    assert [problem.path for problem in report.problems] == [path]
    return True


# The agent that these tests bend


def test_left_alone_it_is_pulled_like_any_other(scene):
    scene.host("evil", {b"a": b"alpha", b"d/b": b"beta", b"z": b"omega"})
    report = scene.pull("evil")
    assert (report.outcome, report.problems, report.counts.sent_files) == (Outcome.COMPLETE, (), 3)
    assert {name: scene.puller.content(e) for name, e in scene.entries("evil").items() if e.sha256} == {
        b"a": b"alpha",
        b"d/b": b"beta",
        b"z": b"omega",
    }
    assert scene.agents["evil"].transfers == 1


# Listings

LISTINGS = {
    "a path with ..": (lambda e: [*e, file(TOP + b"/../../etc/shadow", b"x")], "impossible path|without the directory"),
    "a name ..": (lambda e: [*e, file(TOP + b"/..", b"x")], "impossible path"),
    "an absolute path": (lambda e: [file(b"/etc/shadow", b"x"), *e], "impossible path|without the directory|out of"),
    "an empty path": (lambda e: [file(b"", b"x"), *e], "impossible path|out of order"),
    "a path with a zero byte": (lambda e: [*e, file(TOP + b"/x\0y", b"x")], "impossible path"),
    "unsorted paths": (lambda e: [*e, file(TOP + b"/0", b"x")], "out of order"),
    "a path twice": (lambda e: [*e, e[-1]], "out of order"),
    "an entry below a link": (
        lambda e: [
            *e,
            pb.Entry(path=TOP + b"/l", type=pb.ENTRY_TYPE_SYMLINK, root=1, target=b"/etc"),
            file(TOP + b"/l/shadow", b"x"),
        ],
        "without the directory",
    ),
    "an entry below a file": (lambda e: [*e, file(TOP + b"/a/b", b"x")], "without the directory"),
    "an entry without its directory": (lambda e: [*e, file(TOP + b"/no/b", b"x")], "without the directory"),
    "an entry outside the roots": (lambda e: [*e, file(b"zzz", b"x")], "not in the root"),
    "an entry above the roots": (lambda e: [*e, directory(b"zzz", root=0)], "belongs to no root"),
    "a root that is not there": (lambda e: [*e, pb.Entry(path=TOP + b"/b", type=1, root=9)], "a root that is not"),
    "a link to itself": (lambda e: [*e, file(TOP + b"/b", b"x", link_to=TOP + b"/b")], "impossible hard link"),
    "a link upwards": (lambda e: [*e, file(TOP + b"/b", b"x", link_to=b"../../etc/shadow")], "impossible path"),
    "a link to a later name": (lambda e: [*e, file(TOP + b"/b", b"x", link_to=TOP + b"/c")], "impossible hard link"),
    "an impossible mode": (lambda e: [*e, file(TOP + b"/b", b"x", mode=0o100644)], "impossible mode"),
    "an impossible time": (lambda e: [*e, file(TOP + b"/b", b"x", mtime_ns=10**9)], "impossible mode|time"),
    "an impossible size": (lambda e: [*e, file(TOP + b"/b", b"x", size=1 << 63)], "impossible mode|size"),
    "a name of 300 bytes": (lambda e: [*e, file(TOP + b"/" + b"n" * 300, b"x")], "impossible path"),
}


@pytest.mark.parametrize("what", LISTINGS)
def test_a_listing_that_no_honest_agent_sends_ends_the_pull(scene, what):
    agent = scene.host("evil", {b"a": b"alpha"})
    agent.bend, match = LISTINGS[what]
    refused(scene, "evil", match)
    assert agent.transfers == 0


def test_more_entries_than_allowed_end_the_listing(scene):
    agent = scene.host("evil")
    agent.bend = lambda e: (
        entry for part in (e, (file(TOP + b"/%09d" % number, b"x") for number in range(10**7))) for entry in part
    )
    refused(scene, "evil", "more than 5000 entries", client=scene.client("evil", limits=Limits(entries=5000)))


def test_a_message_beyond_the_limit_of_grpc_is_refused(scene):
    agent = scene.host("evil")
    agent.listing = [pb.ListEntriesResponse(entries=[file(TOP + b"/a", b"x", target=b"x" * (5 << 20))])]
    refused(scene, "evil", "too large")


def test_a_message_full_of_tiny_entries_is_refused_before_it_takes_memory(scene):
    agent = scene.host("evil")
    agent.listing = [pb.ListEntriesResponse(entries=[pb.Entry()] * 1_900_000)]
    assert agent.listing[0].ByteSize() < 4 << 20
    refused(scene, "evil", "cannot be read")


def test_set_id_and_device_entries_are_data_and_never_files_here(scene):
    agent = scene.host("evil", {b"a": b"alpha"})
    agent.bend = lambda e: [
        *e[:-1],
        file(TOP + b"/a", b"alpha", mode=0o6755),
        pb.Entry(path=TOP + b"/b", type=pb.ENTRY_TYPE_BLOCK_DEVICE, root=1, mode=0o666, device_major=8),
        pb.Entry(path=TOP + b"/c", type=pb.ENTRY_TYPE_CHARACTER_DEVICE, root=1, mode=0o666, device_major=1),
    ]
    agent.plant = lambda served: os.chmod(served / "a", 0o6755)  # noqa: S103
    scene.pull("evil")
    found = scene.entries("evil")
    assert {name: entry.type for name, entry in found.items()} == {b"a": "file", b"b": "block", b"c": "char"}
    for path in scene.puller.store.path.rglob("*"):
        assert path.is_dir() or (path.is_file() and not path.is_symlink())
        assert not path.stat().st_mode & 0o6000


def test_sizes_that_add_up_beyond_all_integers_stop_nothing(scene):
    agent = scene.host("evil", {b"a": b"alpha"})
    unread = pb.EntryError(kind=pb.ENTRY_ERROR_KIND_DENIED, message="no")
    huge = (1 << 63) - 1
    agent.bend = lambda e: [
        *e,
        *(file(TOP + b"/b%d" % number, b"", size=huge, error=unread) for number in range(3)),
        *(file(TOP + b"/c%d" % number, b"", size=huge) for number in range(3)),
    ]
    report = scene.pull("evil")
    assert (report.problems_total, report.counts.unreadable) == (6, 6)
    assert scene.puller.content(scene.entries("evil")[b"a"]) == b"alpha"
    assert scene.pull("evil").outcome is Outcome.UNCHANGED


def test_sizes_that_nothing_can_hold_do_not_reach_rsync(scene):
    agent = scene.host("evil", {b"a": b"alpha"})
    agent.bend = lambda e: [*e, file(TOP + b"/b", b"", size=(1 << 63) - 1, allocated=0)]
    report = scene.pull("evil")
    assert [(problem.path, problem.message) for problem in report.problems] == [
        (TOP + b"/b", "it is larger than max_file_size")
    ]
    assert scene.puller.content(scene.entries("evil")[b"a"]) == b"alpha"


def test_more_problems_than_a_record_holds_are_counted_and_the_next_pull_works(scene):
    agent = scene.host("evil", {b"a": b"alpha"})
    deep = b"/".join([b"\x01" * 250] * 100)
    parts = deep.split(b"/")
    above = [directory(TOP + b"/" + b"/".join(parts[:depth])) for depth in range(1, len(parts) + 1)]
    error = pb.EntryError(kind=pb.ENTRY_ERROR_KIND_DENIED, message="\x1b" * 500)
    agent.bend = lambda e: [
        *e[:2],
        *above,
        *(file(TOP + b"/" + deep + b"/%05d" % number, b"", error=error) for number in range(3000)),
        *e[2:],
    ]
    report = scene.pull("evil")
    assert report.problems_total == 3000
    assert 0 < len(report.problems) <= 1000
    assert scene.pull("evil").outcome is Outcome.UNCHANGED
    assert scene.puller.content(scene.entries("evil")[b"a"]) == b"alpha"


def test_rules_and_aliases_without_measure_make_the_module_invalid(scene):
    for field in ("excludes", "includes"):
        agent = scene.host(f"evil-{field}", {b"a": b"alpha"})
        getattr(agent.module, field).extend(["\x01" * 380] * 9000)
        assert "too many rules" in scene.client(f"evil-{field}").modules()[0].reason
    agent = scene.host("evil", {b"a": b"alpha"})
    agent.module.roots[0].aliases.extend([b"\x01" * 30_000] * 100)
    assert "too many roots" in scene.client("evil").modules()[0].reason


# What other hosts have


def with_private_content_of_another_host(scene: Scene, size: int = len(SECRET)) -> HostileAgent:
    scene.host("good", {b"key": SECRET})
    scene.pull("good")
    assert scene.stored(SECRET)
    return scene.host("evil", {b"mine": b"m" * size})


@pytest.mark.parametrize("public", [False, True])
def test_the_digest_of_another_hosts_private_content_grants_nothing(scene, public):
    agent = with_private_content_of_another_host(scene)
    path = TOP + b"/mine"
    told = digest(path, SECRET)
    told.token = file(path, agent.files[b"mine"]).token
    agent.digest = lambda path: told
    agent.bend = lambda e: [*e[:2], file(path, agent.files[b"mine"], public=public, mode=0o644)]
    report = scene.pull("evil")
    entry = scene.entries("evil")[b"mine"]
    assert (entry.sha256, report.counts.claimed_files, report.counts.sent_files) == ("", 0, 0)
    assert [problem.path for problem in report.problems] == [path]
    # Nor at the next pull, when it is its own old file.
    scene.pull("evil")
    assert scene.entries("evil")[b"mine"].sha256 == ""


def test_calling_private_content_public_opens_it_to_nobody_but_those_that_have_it(scene):
    agent = with_private_content_of_another_host(scene)
    agent.files = {b"own": b"own content"}
    agent.bend = lambda e: [*e[:2], file(TOP + b"/own", b"own content", public=True)]
    scene.pull("evil")
    digests = [(hashlib.sha256(SECRET).hexdigest(), True), (hashlib.sha256(b"own content").hexdigest(), True)]
    granted = scene.puller.catalog.pin_claimable("other-run", "third", digests, share=True)
    assert granted == {digests[1][0]}


def test_what_was_written_into_a_public_file_after_the_listing_is_not_taken_for_public(scene):
    """On an honest host too: the file was readable when listed, and closed before the secret was put in."""
    agent = scene.host("busy", {b"a": b"secret"})
    public = file(TOP + b"/a", b"before", public=True, mode=0o644)
    agent.bend = lambda e: [*e[:2], public, file(TOP + b"/b", b"before", link_to=TOP + b"/a", public=True)]
    scene.pull("busy")
    entry, link = scene.entries("busy")[b"a"], scene.entries("busy")[b"b"]
    assert (entry.changing, entry.public, link.public) == (True, False, False)
    assert link.sha256 == entry.sha256 == hashlib.sha256(b"secret").hexdigest()
    claim = (entry.sha256, True)
    assert scene.puller.catalog.pin_claimable("other-run", "third", [claim], share=True) == set()
    assert scene.puller.catalog.pin_claimable("other-run", "busy", [claim], share=True) == {entry.sha256}


def test_a_hard_link_reaches_nothing_but_the_same_snapshot(scene):
    agent = with_private_content_of_another_host(scene)
    agent.bend = lambda e: [*e[:2], file(TOP + b"/l", SECRET, link_to=TOP + b"/key"), *e[2:]]
    report = scene.pull("evil")
    assert scene.entries("evil")[b"l"].sha256 == ""
    assert [problem.path for problem in report.problems] == [TOP + b"/l"]


def test_a_digest_of_content_that_was_never_sent_is_not_recorded(scene):
    agent = scene.host("evil", {b"a": b"alpha"})
    path = TOP + b"/a"
    agent.digest = lambda path: pb.FileHash(path=path, sha256=b"\x07" * 32, size=5, token=file(path, b"alpha").token)
    report = scene.pull("evil")
    entry = scene.entries("evil")[b"a"]
    assert (entry.sha256, entry.changing) == ("", True)
    assert "never" in report.problems[0].message
    assert report.problems[0].path == path


def test_a_size_that_is_not_that_of_the_content_is_not_recorded(scene):
    agent = scene.host("evil", {b"a": b"alpha", b"b": b"other"})
    scene.pull("evil")

    def lie(path: bytes) -> pb.FileHash:
        told = digest(path, b"alpha")
        told.size, told.token = 500, file(path, b"x" * 500).token
        return told

    # The same digest with another size: as own content that is known, and as content that is sent.
    agent.files = {b"a": b"alpha", b"c": b"x" * 500}
    agent.digest = lambda path: lie(path) if path.endswith(b"/c") else None
    agent.plant = lambda served: (served / "c").write_bytes(b"alpha")
    scene.pull("evil")
    assert scene.entries("evil")[b"c"].sha256 == ""


# Transfers


def planted(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def plant(served: Path) -> None:
        for path in served.iterdir():
            path.unlink()
        change(served / "a")

    return plant


@pytest.mark.parametrize(
    "kind",
    [
        lambda path: path.symlink_to("/etc/passwd"),
        lambda path: path.symlink_to("../../escape"),
        lambda path: path.mkdir(),
        lambda path: os.mkfifo(path),
        lambda path: path.write_bytes(b"other"),
        lambda path: path.write_bytes(b"much more than the five bytes that were told " * 100),
        lambda path: None,
    ],
    ids=["absolute link", "relative link", "directory", "fifo", "other content", "larger", "nothing"],
)
def test_something_else_in_the_place_of_a_file_at_transfer_is_not_taken(scene, kind):
    agent = scene.host("evil", {b"a": b"alpha"})
    agent.plant = planted(kind)
    if names_it(scene, TOP + b"/a"):
        assert scene.entries("evil")[b"a"].sha256 == ""
    assert not scene.stored(b"other")


@pytest.mark.parametrize("name", [b"../../escaped!", b"/tmp/escaped!!", b"../data/list!!", b"sub/../escape!"])
def test_a_sender_that_names_other_files_writes_nowhere(scene, name):
    asked = b"name-of-14-byt"
    assert len(name) == len(asked)
    agent = scene.host("evil", {asked: b"alpha"})
    agent.passing = lambda data: data.replace(asked, name)
    names_it(scene, TOP + b"/" + asked)
    assert not Path("/tmp/escaped!!").exists()


def answering(data: bytes, end: bool = True) -> Callable[..., Iterator[pb.TransferResponse]]:
    def send(requests: Iterator[pb.TransferRequest]) -> Iterator[pb.TransferResponse]:
        next(requests, None)
        yield pb.TransferResponse(data=data)
        if end:
            yield pb.TransferResponse(exit=pb.DaemonExit(code=0, messages="\x1b[2Jdone"))

    return send


@pytest.mark.parametrize(
    "data",
    [
        b"",
        os.urandom(100_000),
        b"@RSYNCD: 31.0 sha512 sha256 sha1 md5 md4\n@ERROR: \x1b[2J\x1b]0;owned\x07\n",
        b"\n" * 9,
    ],
    ids=["nothing", "noise", "an error", "lines"],
)
def test_garbage_in_place_of_rsync_fails_in_words(scene, data):
    scene.host("evil", {b"a": b"alpha"}).sender = answering(data)
    refused(scene, "evil", "nothing arrived: rsync exit code", BackupError)


def test_a_transfer_that_ends_without_a_word_fails_in_words(scene):
    scene.host("evil", {b"a": b"alpha"}).sender = answering(b"", end=False)
    refused(scene, "evil", "did not say how its rsync ended")


def test_an_endless_stream_is_cut_off(scene):
    words = b"\x1b[31mowned\r\n" * 4000
    message = ((7 + 3) << 24 | len(words)).to_bytes(4, "little") + words  # multiplexed, of rsync's kind MSG_ERROR_XFER

    def endless(requests: Iterator[pb.TransferRequest]) -> Iterator[pb.TransferResponse]:
        # Greeting, consent, flags and seed: from there on messages are legal.
        yield pb.TransferResponse(data=b"@RSYNCD: 31.0 sha512 sha256 sha1 md5 md4\n@RSYNCD: OK\n\0seed")
        while True:
            yield pb.TransferResponse(data=message * 4)

    scene.host("evil", {b"a": b"alpha"}).sender = endless
    refused(scene, "evil", "far more than it listed|ended in the middle", BackupError)


def test_a_file_that_never_ends_fills_neither_disk_nor_store(scene):
    agent = scene.host("evil", {b"a": b"alpha"})
    agent.plant = lambda served: os.truncate(served / "a", 8 * GIB)
    refused(scene, "evil", "nothing arrived|far more than it listed", BackupError)


def test_a_transfer_that_would_leave_the_store_without_room_is_cut_off(scene, monkeypatch):
    scene.host("evil", {b"a": b"alpha"})
    real, calls = os.statvfs, []

    def shrinking(path: object) -> os.statvfs_result:
        calls.append(path)
        found = list(real(path))
        if len(calls) > 1:
            found[4] = 0  # f_bavail, after the first look
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", shrinking)
    refused(scene, "evil", "free", StoreFull)


# Time


def silent(agent: HostileAgent) -> None:
    def send(_: Iterator[pb.TransferRequest]) -> Iterator[pb.TransferResponse]:
        agent.lease_ended.wait(60)
        yield pb.TransferResponse()

    agent.sender = send


def test_a_silent_transfer_ends_by_its_limit(scene):
    silent(scene.host("evil", {b"a": b"alpha"}))
    client = scene.client("evil", timeouts=Timeouts(transfer_idle=0.5))
    refused(scene, "evil", "silent", ConnectionLost, client=client)


def test_a_dripping_transfer_ends_by_its_limit(scene):
    def drip(_: Iterator[pb.TransferRequest]) -> Iterator[pb.TransferResponse]:
        pause = threading.Event()
        while not pause.wait(0.05):
            yield pb.TransferResponse(data=b"@")

    scene.host("evil", {b"a": b"alpha"}).sender = drip
    client = scene.client("evil", timeouts=Timeouts(transfer_idle=5, transfer_total=1))
    refused(scene, "evil", "longer than allowed|ended in the middle|nothing arrived", BackupError, client=client)


def test_one_session_has_a_limit_over_all_that_it_waits_for(scene):
    agent = scene.host("evil", {b"%02d" % number: b"%d" % number for number in range(40)})
    pause = threading.Event()

    def slow(path: bytes) -> None:
        pause.wait(0.2)

    agent.digest = slow
    client = scene.client("evil", timeouts=Timeouts(hash_idle=5, hash_total=5, session=1.5))
    refused(scene, "evil", "in all", ConnectionLost, client=client, window_files=2)


def test_a_hostile_host_does_not_hold_up_another(scene):
    silent(scene.host("evil", {b"a": b"alpha"}))
    scene.host("good", {b"a": b"alpha", b"b": b"beta"})
    slow = scene.client("evil", timeouts=Timeouts(transfer_idle=600))
    failed: list[BackupError] = []

    def hang() -> None:
        try:
            scene.puller.pull(slow, "data")
        except BackupError as error:
            failed.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    until(lambda: scene.agents["evil"].transfers)
    report = scene.pull("good")
    assert thread.is_alive()
    assert report.outcome is Outcome.COMPLETE
    scene.puller.cancel.set()
    thread.join(60)
    assert [type(error) for error in failed] == [Cancelled]
