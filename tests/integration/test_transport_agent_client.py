"""The RPCs of one agent, over real gRPC with mutual TLS."""

from __future__ import annotations

import os
import socket
import threading

import pytest
from pyrsyncbackup import identity
from pyrsyncbackup.v1 import agent_pb2 as pb
from pyrsyncbackup_collector import errors
from pyrsyncbackup_collector.transport.agent_client import AgentClient
from pyrsyncbackup_collector.transport.listing import Limits
from pyrsyncbackup_collector.transport.offer import DaemonExit, ErrorKind, Fingerprint, ModuleState
from pyrsyncbackup_collector.transport.stream import Timeouts

from tests.support.plain_agent import PlainAgent, serving


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    return identity.load_or_create(tmp_path_factory.mktemp("collector"))


@pytest.fixture
def agent(tmp_path, collector):
    with serving(PlainAgent(identity.load_or_create(tmp_path / "agent")), [collector.certificate_pem]) as agent:
        yield agent


@pytest.fixture
def connect(agent, collector):
    clients = []

    def connect(**options) -> AgentClient:
        clients.append(
            AgentClient(
                f"ipv4:{agent.address}",
                host="web1",
                identity=collector,
                agent_certificate=options.pop("pin", agent.identity.certificate_pem),
                **options,
            )
        )
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def entry(path: bytes, kind: int = pb.ENTRY_TYPE_FILE, root: int = 1, **more) -> pb.Entry:
    return pb.Entry(path=path, type=kind, mode=0o644, root=root, **more)


TREE = [
    entry(b"etc", pb.ENTRY_TYPE_DIRECTORY, 0),
    entry(b"etc/nginx", pb.ENTRY_TYPE_DIRECTORY),
    entry(b"etc/nginx/a", size=5, user=b"root", token=9, mtime_s=-5, mtime_ns=7),
    entry(b"etc/nginx/b\xff", pb.ENTRY_TYPE_SYMLINK, target=b"../../x"),
]


def test_info_and_modules_come_as_values(connect, agent):
    client = connect()
    assert client.checked_info().name == "plain"
    (offer,) = client.modules()
    assert (offer.name, offer.state, offer.roots[0].path) == ("etc", ModuleState.READY, b"etc/nginx")


def test_protocol_ranges_that_do_not_meet_are_named_with_the_side_to_update(connect, agent):
    agent.protocol = (2, 3)
    with pytest.raises(errors.ProtocolMismatch, match=r"2 to 3.*update the collector"):
        connect().checked_info()


def test_a_listing_comes_as_entries_with_its_fingerprint(connect, agent):
    agent.listing = [
        pb.ListEntriesResponse(entries=TREE[:2]),
        pb.ListEntriesResponse(entries=TREE[2:], fingerprint=pb.Fingerprint(digest=b"d", settled=True, entries=4)),
    ]
    with connect().open("etc") as session:
        listed = list(session.list())
        assert session.fingerprint == Fingerprint(b"d", True, 4)
    assert [item.entry.path for item in listed] == [e.path for e in TREE]
    assert (listed[2].entry.mtime_s, listed[2].entry.mtime_ns, listed[2].entry.user, listed[2].token) == (
        -5,
        7,
        "root",
        9,
    )
    assert listed[3].entry.target == b"../../x"
    assert agent.lease_ended.wait(60)


def test_a_listing_beyond_the_limits_ends(connect, agent):
    agent.listing = [pb.ListEntriesResponse(entries=TREE)]
    for limits in (Limits(entries=3), Limits(bytes=20)):
        with (
            connect(limits=limits).open("etc") as session,
            pytest.raises(errors.AgentMisbehaved, match=r"more than|larger than"),
        ):
            list(session.list())


def test_an_endless_listing_of_nothing_ends(connect, agent):
    agent.listing = iter(pb.ListEntriesResponse() for _ in range(10**9))
    with connect().open("etc") as session, pytest.raises(errors.AgentMisbehaved, match="without content"):
        list(session.list())


def test_lookup_and_hash_answer_one_by_one_in_order(connect, agent):
    paths = [b"etc/nginx/%06d-%s" % (number, b"x" * 200) for number in range(3000)]
    with connect().open("etc") as session:
        assert [item.entry.path for item in session.lookup(paths)] == paths
        assert [item.path for item in session.hash(paths)] == paths
        assert list(session.lookup([])) == []
        assert list(session.hash([])) == []


def test_answers_to_other_questions_are_refused(connect, agent):
    agent.entry = lambda path: pb.Entry(path=path + b"x", type=1, root=1)
    with connect().open("etc") as session, pytest.raises(errors.AgentMisbehaved, match="not asked"):
        list(session.lookup([b"etc/nginx/a"]))


def test_unanswered_paths_are_noticed(connect, agent, monkeypatch):
    monkeypatch.setattr(agent, "entry", lambda path: pb.Entry(path=path, type=0, error=pb.EntryError(kind=2)))
    with connect().open("etc") as session:
        (gone,) = session.lookup([b"etc/nginx/a"])
        assert (gone.error, gone.entry.error, gone.entry.type) == (ErrorKind.VANISHED, "vanished", "unknown")


def pumped(session, descriptor, box):
    try:
        box.append(session.transfer(1).run(lambda: (descriptor, descriptor)))
    except errors.BackupError as error:
        box.append(error)


def test_a_transfer_passes_bytes_both_ways_and_the_end(connect, agent):
    near, far = socket.socketpair()
    data, box = os.urandom(3_000_000), []
    with near, connect().open("etc") as session:
        pump = threading.Thread(target=pumped, args=(session, near.detach(), box))
        pump.start()

        def send():
            far.sendall(data)
            far.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = b""
        while piece := far.recv(1 << 20):
            got += piece
        sender.join()
        far.close()
        pump.join()
    assert got == data
    assert box == [DaemonExit(0, "done")]


def test_a_transfer_can_be_cancelled_from_another_thread(connect, agent):
    near, far = socket.socketpair()
    box = []
    with near, far, connect().open("etc") as session:
        transfer = session.transfer(1)

        def run():
            with pytest.raises(errors.Cancelled):
                transfer.run(lambda: tuple([near.detach()] * 2))
            box.append(True)

        pump = threading.Thread(target=run)
        pump.start()
        far.sendall(b"x")
        assert far.recv(1) == b"x"
        transfer.cancel()
        pump.join(60)
        assert far.recv(1) == b""
    assert box == [True]


def test_a_silent_agent_is_given_up(connect, agent):
    stuck = threading.Event()

    def silent():
        yield pb.ListEntriesResponse(entries=TREE[:1])
        stuck.wait()

    agent.listing = silent()
    with (
        connect(timeouts=Timeouts(list_idle=0.2)).open("etc") as session,
        pytest.raises(errors.ConnectionLost, match="silent"),
    ):
        list(session.list())
    stuck.set()


def test_an_agent_that_drips_is_given_up(connect, agent):
    stuck = threading.Event()

    def drip():
        for number in range(10**6):
            if stuck.wait(0.05):
                return
            yield pb.ListEntriesResponse(entries=[entry(b"etc%07d" % number, pb.ENTRY_TYPE_DIRECTORY)])

    agent.module.roots[0].path = b""
    agent.listing = drip()
    with (
        connect(timeouts=Timeouts(list_idle=10, list_total=0.5)).open("etc") as session,
        pytest.raises(errors.ConnectionLost, match="longer than allowed"),
    ):
        list(session.list())
    stuck.set()


def test_cancelling_a_session_ends_what_waits_in_it(connect, agent):
    stuck = threading.Event()

    def silent():
        stuck.wait()
        yield pb.ListEntriesResponse()

    agent.listing = silent()
    with connect().open("etc") as session:
        threading.Timer(0.1, session.cancel).start()
        with pytest.raises(errors.Cancelled):
            list(session.list())
    stuck.set()


def test_an_agent_with_another_key_is_not_talked_to(connect, agent):
    with pytest.raises(errors.ConnectError):
        connect(pin=identity.create()[1]).info(5)


def test_a_closed_client_says_so(connect, agent):
    client = connect()
    client.close()
    with pytest.raises(errors.ConnectionLost):
        client.info()
    with pytest.raises(errors.ConnectionLost):
        client.open("etc")


def test_an_agent_that_goes_on_after_the_client_is_stopped(connect, agent, monkeypatch):
    def flood(requests, context):
        next(requests)
        while True:
            yield pb.TransferResponse(data=bytes(1 << 18))

    monkeypatch.setattr(agent, "flood", flood, raising=False)
    near, far = socket.socketpair()
    far.close()
    descriptor = near.detach()
    with connect().open("etc") as session, pytest.raises(errors.TransferFailed, match="ended in the middle"):
        session.transfer(1).run(lambda: (descriptor, descriptor))


def test_what_begins_while_the_session_is_closed_ends_too(connect, agent):
    """The thread that fetches begins its transfer while a request to stop closes the session."""
    stuck = threading.Event()

    def silent():
        stuck.wait()
        yield pb.ListEntriesResponse()

    # An answer that is there before the end would be given.
    agent.listing = silent()
    session = connect().open("etc")
    session.close()
    with pytest.raises(errors.BackupError):
        next(session.list())
    stuck.set()
    ours, theirs = socket.socketpair()
    with ours, pytest.raises(errors.BackupError):
        session.transfer(1).run(lambda: (theirs.detach(), os.dup(ours.fileno())))
