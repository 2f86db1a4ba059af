"""The whole way: invitation, accept, SSH, first contact, and a module listed, hashed and transferred."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import subprocess
import sys
import threading

import pytest
from pyrsyncbackup.identity import load_or_create
from pyrsyncbackup_collector import errors
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.transport.connections import Connections
from pyrsyncbackup_collector.transport.invitations import invite
from pyrsyncbackup_collector.transport.offer import ErrorKind

from tests.support.agent import RunningAgent
from tests.support.fleet import direct_host, make_config, ssh_host
from tests.support.sshd import running


@pytest.fixture
def config(tmp_path):
    return make_config(tmp_path / "c")


@pytest.fixture
def data(tmp_path):
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    for number in range(50):
        (data / "sub" / f"file {number}\n").write_text(f"content {number}")
    (data / "link").symlink_to("../../etc")
    return data


@pytest.fixture
def agent(tmp_path, config, data):
    agent = RunningAgent(tmp_path / "agent")
    agent.module("data", data)
    invitation = tmp_path / "invitation"
    invitation.write_text(invite(config.state).format())
    subprocess.run(
        [sys.executable, "-m", "pyrsyncbackup_agent", "--config", agent.config, "accept", invitation],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with agent:
        yield agent


@pytest.fixture
def connections(config):
    with contextlib.closing(Connections(config, SystemClock())) as connections:
        yield connections


def test_an_accepted_invitation_is_all_that_first_contact_needs(connections, agent, data, tmp_path):
    with running(tmp_path / "sshd") as sshd:
        host = ssh_host(sshd, agent.port)
        (sshd.folder / "user_known_hosts").write_text("")
        with pytest.raises(errors.HostKeyUnknown), connections.agent(host):
            pass
        seen = connections.inspect(host)
        connections.trust_ssh_key(host, seen.ssh_server, seen.ssh_key)
        with connections.agent(host) as client:
            assert client.checked_info().name == "testhost"
            assert [one.name for one in client.modules(fingerprints=True, names=["data"])] == ["data"]
            with client.open("data") as session:
                listed = list(session.list())
                assert session.fingerprint is not None
                paths = [item.entry.path for item in listed if item.entry.type == "file"]
                hashes = {item.path: item.sha256 for item in session.hash(paths)}
                assert [item.entry.path for item in session.lookup(paths)] == paths
                (outside,) = session.lookup([b"etc/shadow"])
        assert connections.inspect(host).agent_trusted
    assert outside.error is ErrorKind.OUTSIDE
    expected = {bytes(path)[1:]: hashlib.sha256(path.read_bytes()).hexdigest() for path in (data / "sub").iterdir()}
    assert hashes == expected


def test_unknown_modules_and_removed_trust_are_named(connections, agent, config):
    host = direct_host(agent.port)
    with connections.agent(host) as client:
        with pytest.raises(errors.ModuleUnknown), client.open("nothing"):
            pass
        with client.open("data"):
            pass
        with client.open("data"):  # the lease was given back
            pass
    (certificate,) = [file for file in agent.collectors_dir.glob("*.pem") if file.stem != "collector"]
    certificate.unlink()
    with pytest.raises(errors.AgentRefused) as caught, connections.agent(host) as client:
        client.modules()
    assert "accept" in caught.value.hint
    with pytest.raises(errors.AgentRefused), connections.agent(host, now=True) as client:
        client.modules()


def test_an_agent_that_is_killed_is_a_lost_connection_and_then_unreachable(connections, agent):
    host = direct_host(agent.port)
    with pytest.raises(errors.ConnectionLost), connections.agent(host) as client, client.open("data") as session:  # noqa: PT012
        agent.stop(9)
        list(session.list())
    with pytest.raises(errors.HostUnreachable, match="refuses connections"), connections.agent(host, now=True):
        pass


def test_a_transfer_ends_when_the_rsync_client_goes_away(connections, agent):
    with connections.agent(direct_host(agent.port)) as client, client.open("data") as session:
        near, far = socket.socketpair()
        box = []
        descriptor = near.detach()
        pump = threading.Thread(target=lambda: box.append(session.transfer(1).run(lambda: (descriptor, descriptor))))
        pump.start()
        assert far.recv(100).startswith(b"@RSYNCD: ")
        far.close()
        pump.join(60)
        assert len(box) == 1


def test_a_pin_that_another_process_replaces_counts_from_the_next_use_on(connections, agent, config, tmp_path):
    host = direct_host(agent.port)
    with connections.agent(host) as client:
        first = client
    with connections.agent(host) as client:
        assert client is first
    other = load_or_create(tmp_path / "other").certificate_pem
    with contextlib.closing(Connections(config, SystemClock())) as command:
        right = (config.state / "pins" / f"{host.name}.pem").read_bytes()
        command.pin(host, other, replace=True)
        with pytest.raises(errors.AgentKeyChanged), connections.agent(host):
            pass
        command.pin(host, right, replace=True)
        with connections.agent(host, now=True) as client:
            assert client is not first
            second = client
            # Whoever is at work goes on; the next one begins anew.
            command.pin(host, right, replace=True)
            assert client.modules()
        with connections.agent(host) as client:
            assert client is not second
