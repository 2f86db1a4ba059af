"""Hosts that only a bastion reaches, or a host behind one, in networks where there is no other way to them."""

from __future__ import annotations

import os
import re
import socket

import pytest

from tests.support import firewall
from tests.support.network import needs_network
from tests.support.routes_world import AGENT_PORT, SSH_PORT, routes_world
from tests.support.topologies import BASTION, NEAR_DEEP, with_peers
from tests.support.waiting import until
from tests.support.wire import APPLICATION_DATA, record, tls_records

pytestmark = [needs_network, pytest.mark.root]


@pytest.fixture
def world():
    with routes_world() as world:
        yield world


def test_hosts_behind_one_and_two_relays_are_pulled_and_nothing_there_can_call_out(world):
    with_peers(world, deep=True, introduced=False)
    bastion, db1, mid, deep = (world.sites[name] for name in ("bastion", "db1", "mid", "deep"))
    bastion.agent.accept(world.run("invitation", "bastion", "--name", "backup1"))
    for_all_inside = world.run("invitation", "--via", "bastion", "--name", "backup1")
    db1.agent.accept(for_all_inside)
    mid.agent.accept(for_all_inside)
    deep.agent.accept(world.run("invitation", "deep", "--name", "backup1"))
    db1.fill(50, 3000)
    deep.fill(50, 3000)

    calls = firewall.refuse_calls_to(world.node)
    assert world.pull("db1", "deep") == {"db1": ("complete", None), "deep": ("complete", None)}
    assert world.restored_alike("db1")
    assert world.restored_alike("deep")
    assert calls.packets == 0

    with world.node.inside():
        listening = socket.create_server(("10.1.0.1", 0))
    with listening:
        port = listening.getsockname()[1]
        for site in (db1, mid, deep):
            assert not site.node.reaches("10.1.0.1", port, timeout=0.3)
        # Not even their packets arrive. The bastion's do, and are refused.
        assert calls.packets == 0
        assert not bastion.node.reaches("10.1.0.1", port, timeout=0.3)
        assert calls.packets > 0
    assert not world.node.reaches("10.20.0.5", AGENT_PORT, timeout=0.3)


def test_the_invitation_for_the_whole_fleet_proves_nothing_behind_a_relay(world):
    with_peers(world, introduced=False)
    for_the_fleet = world.run("invitation", "--name", "backup1")
    for site in world.sites.values():
        site.agent.accept(for_the_fleet)
    done = world.command("pull", "db1")
    assert done.returncode == 5
    assert "is not trusted yet" in done.stdout
    fingerprint = re.search(r"pyrsyncbackup host trust db1 --fingerprint (SHA256:[\w+/]+)", done.stdout)
    assert fingerprint, done.stdout
    world.run("host", "trust", "db1", "--fingerprint", fingerprint[1])
    assert world.pull("db1") == {"db1": ("complete", None)}


def test_a_bastion_sees_neither_contents_nor_names_of_what_it_passes(world):
    with_peers(world)
    bastion, db1 = world.sites["bastion"].node, world.sites["db1"]
    for number in range(64):
        file = db1.data / f"name-nobody-sees-{number:04}"
        # What cannot be compressed, or the marker would only be seen once.
        file.write_bytes(b"".join(os.urandom(1000) + b"content-nobody-sees" for _ in range(32)))
    secrets = (b"name-nobody-sees", b"content-nobody-sees")
    assert world.pull("db1") == {"db1": ("complete", None)}
    (db1.data / "name-nobody-sees-0000").unlink()
    for number in range(64, 128):
        (db1.data / f"name-nobody-sees-{number:04}").write_bytes(os.urandom(32_000) + b"content-nobody-sees")

    with record(bastion, "inside") as passed, record(bastion, "lo") as before, record(world.node, "bastion") as wire:
        assert world.pull("db1") == {"db1": ("complete", None)}
    size = 64 * 32_000
    ports = {"what the relay passes": (passed, AGENT_PORT), "what it gets": (before, AGENT_PORT)}
    for what, (seen, port) in {**ports, "the wire": (wire, SSH_PORT)}.items():
        streams = seen.streams(port)
        assert sum(map(len, streams)) > size, f"{what} was not recorded"
        for secret in secrets:
            assert not any(secret in stream for stream in streams), f"{what}: {secret!r}"
            assert not seen.shows(secret), f"{what}: {secret!r}"
    for stream in passed.streams(AGENT_PORT):
        # Every byte belongs to TLS, and nearly all of them to what TLS has encrypted.
        records = tls_records(stream)
        assert sum(length for kind, length in records if kind == APPLICATION_DATA) > 0.8 * len(stream) - 1000
    assert world.restored_alike("db1")


def test_a_recording_would_show_contents_that_are_not_encrypted(world):
    with_peers(world)
    bastion, db1 = world.sites["bastion"].node, world.sites["db1"].node
    with record(bastion, "inside") as seen:
        with bastion.inside():
            server = socket.create_server(("10.20.0.1", 7))
        with server, db1.connect("10.20.0.1", 7) as connection:
            connection.sendall(b"content-nobody-sees")
            server.accept()[0].close()
    assert seen.shows(b"content-nobody-sees")


def test_host_test_names_the_hop_that_fails_and_status_says_the_same(world):
    with_peers(world, deep=True)
    world.sites["deep"].fill(3, 100)
    assert world.pull("deep") == {"deep": ("complete", None)}
    walked = world.run("host", "test", "deep")
    for hop in ("bastion", "mid", "deep"):
        assert hop in walked

    world.sites["deep"].agent.stop()
    tested = world.command("host", "test", "deep")
    assert tested.returncode == 5
    cause = f"hop 3 of 3: relay mid could not connect to {NEAR_DEEP}:{AGENT_PORT}: connection refused"
    assert cause in tested.stdout + tested.stderr
    pulled = world.command("pull", "deep")
    assert pulled.returncode == 5
    assert cause in pulled.stdout
    told = world.problems()
    assert [(each["host"], each["state"]) for each in told] == [("deep", "unreachable")]
    assert told[0]["cause"] == f"deep: {cause}"
    assert cause in world.run("status", codes=(14,)).replace("\n", " ").replace("  ", " ")


def test_every_hop_of_a_route_can_be_the_one_that_fails(world):
    with_peers(world, deep=True)
    world.sites["mid"].agent.stop()
    assert f"hop 2 of 3: relay bastion could not connect to 10.20.0.6:{AGENT_PORT}" in _refusal(world)
    world.sites["bastion"].agent.stop()
    assert "hop 1 of 3: " in _refusal(world)
    world.sshds["bastion"].kill()
    assert re.search(rf"hop 1 of 3: .*{BASTION}:{SSH_PORT} refuses connections", _refusal(world))


def _refusal(world):
    done = world.command("pull", "deep")
    assert done.returncode == 5
    return done.stdout


def test_peers_are_offered_and_taken_in_by_hand(world):
    with_peers(world)
    forget(world, "db1")
    world.sites["db1"].fill(5, 100)
    world.start_daemon()
    offered = until(lambda: world.ask("host", "list")["offered"], what="the first check of the bastion")
    assert [(offer["name"], offer["relay"], offer["answers"]) for offer in offered] == [("db1", "bastion", True)]
    assert re.search(r"^db1 +relay bastion +offered", world.run("host", "list"), re.MULTILINE)
    refused = world.command("host", "accept", "db1")
    assert refused.returncode == 5
    assert "pyrsyncbackup host accept db1 --fingerprint SHA256:" in refused.stderr

    world.sites["db1"].agent.accept(world.run("invitation", "db1", "--name", "backup1"))
    world.run("host", "accept", "db1")
    until(lambda: world.ask("snapshots", "db1")["snapshots"], what="the first pull of db1")
    assert world.restored_alike("db1")
    listed = world.ask("host", "list")
    assert listed["offered"] == []
    assert [(host["host"], host["via"]) for host in listed["hosts"] if host["host"] == "db1"] == [("db1", ["bastion"])]
    assert world.stop_daemon() == 0


def test_a_daemon_takes_in_the_peers_that_accepted_an_invitation_of_their_own(world):
    with_peers(world, deep=True, accept="auto")
    forget(world, "db1", "mid", "deep")
    world.sites["db1"].fill(5, 100)
    # Mid accepted the invitation of the whole fleet: that is no proof behind a relay.
    world.sites["mid"].agent.accept(world.run("invitation", "--name", "backup1"))
    world.sites["db1"].agent.accept(world.run("invitation", "db1", "--via", "bastion", "--name", "backup1"))
    world.start_daemon()
    until(lambda: [e for e in world.ask("snapshots")["snapshots"] if e["host"] == "db1"], what="a pull of db1")
    until(lambda: world.ask("host", "list")["offered"], what="the one that was refused")
    listed = world.ask("host", "list")
    assert [host["host"] for host in listed["hosts"]] == ["bastion", "db1"]
    offered = {offer["name"]: offer["refused"] for offer in listed["offered"]}
    # What is behind a host that was not taken in is not known.
    assert list(offered) == ["mid"]
    assert "invitation" in offered["mid"]
    assert world.stop_daemon() == 0


def forget(world, *names):
    for name in names:
        (world.collector / "hosts.d" / f"{name}.toml").unlink()
        (world.collector / "pins" / f"{name}.pem").unlink()
