"""SSH on the way to an agent: each way in which it fails is one error with its cause and the next step."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pyrsyncbackup import identity
from pyrsyncbackup_collector import errors
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.transport import pool
from pyrsyncbackup_collector.transport.connections import Connections
from pyrsyncbackup_collector.transport.host_keys import HostKey, KnownHosts, Server
from pyrsyncbackup_collector.transport.invitations import invite, own_ssh_key
from pyrsyncbackup_collector.transport.ssh_tunnel import SshTunnel

from tests.support.fleet import changed, make_config, pin, ssh_host
from tests.support.plain_agent import PlainAgent, serving
from tests.support.sshd import make_key, running
from tests.support.tcp import closed_port
from tests.support.waiting import until


@pytest.fixture
def sshd(tmp_path):
    with running(tmp_path / "sshd") as sshd:
        yield sshd


@pytest.fixture
def config(request, tmp_path):
    """A patient one, or one whose limit for a connection is what the test's parameter says."""
    return make_config(tmp_path / "c", connect=getattr(request, "param", "60s"))


# For tests in which this time passes, so that it is short; long enough for what comes before.
gives_up = pytest.mark.parametrize("config", ["8s"], indirect=True, ids=["gives-up"])


@pytest.fixture
def connections(config):
    with contextlib.closing(Connections(config, SystemClock())) as connections:
        yield connections


@pytest.fixture
def agent(tmp_path, config):
    invitation = invite(config.state)
    own = identity.load_or_create(tmp_path / "agent")
    with serving(PlainAgent(own, invitation.secret), [invitation.certificate_pem]) as agent:
        yield agent


@pytest.fixture
def host(sshd, agent):
    return ssh_host(sshd, int(agent.address.rpartition(":")[2]))


def failure(connections, host) -> errors.ConnectError:
    with pytest.raises(errors.ConnectError) as caught, connections.agent(host, now=True):
        pass
    assert caught.value.cause.startswith("web1: ")
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


def test_an_unknown_host_key_is_refused_with_its_fingerprint_until_trusted(connections, host, sshd, config):
    (sshd.folder / "user_known_hosts").write_text("")
    error = failure(connections, host)
    shown = subprocess.run(
        ["ssh-keygen", "-lf", sshd.folder / "host_ed25519.pub"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert type(error) is errors.HostKeyUnknown
    assert shown in error.cause
    assert "pyrsyncbackup host trust web1" in error.hint
    seen = connections.inspect(host)
    assert (seen.ssh_key.fingerprint, seen.ssh_trusted, seen.agent_fingerprint) == (shown, False, "")
    connections.trust_ssh_key(host, seen.ssh_server, seen.ssh_key)
    with connections.agent(host) as client:
        assert client.info().name == "plain"
    assert (config.state / "known_hosts").stat().st_mode & 0o777 == 0o600


def test_a_changed_host_key_is_refused_with_both_fingerprints_until_replaced(connections, host, sshd):
    seen = connections.inspect(host)
    server, old = seen.ssh_server, seen.ssh_key
    connections.trust_ssh_key(host, server, old)
    sshd.new_host_keys()
    sshd.restart()
    error = failure(connections, host)
    new = connections.inspect(host).ssh_key
    assert type(error) is errors.HostKeyChanged
    assert old.fingerprint in error.cause
    assert new.fingerprint in error.cause
    with pytest.raises(errors.HostKeyChanged):
        connections.trust_ssh_key(host, server, new)
    connections.trust_ssh_key(host, server, new, replace=True)
    with connections.agent(host) as client:
        assert client.info().name == "plain"


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_the_kind_of_host_key_that_is_known_is_asked_for(connections, host, sshd, kind):
    sshd.host_key_kinds = ["ed25519", kind]
    sshd.new_host_keys()
    sshd.restart()
    (sshd.folder / "user_known_hosts").write_text(sshd.known_hosts_line(kind))
    with connections.agent(host) as client:
        assert client.info().name == "plain"


def test_hashed_known_hosts_and_revoked_keys_count(connections, host, sshd):
    known = sshd.folder / "user_known_hosts"
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    assert "|1|" in known.read_text()
    with connections.agent(host) as client:
        assert client.info().name == "plain"
    known.write_text(known.read_text() + "@revoked * " + sshd.known_hosts_line().split(" ", 1)[1])
    with contextlib.closing(Connections(connections._config, SystemClock())) as others:
        error = failure(others, host)
    assert type(error) is errors.HostKeyChanged
    assert "revoked" in error.cause


def test_a_name_that_does_not_resolve(connections, host):
    error = failure(connections, changed(host, address="no-such-host.invalid"))
    assert type(error) is errors.HostUnreachable
    assert "cannot be resolved" in error.cause


def test_a_closed_port(connections, host, sshd):
    sshd.kill()
    error = failure(connections, host)
    assert type(error) is errors.HostUnreachable
    assert "refuses connections" in error.cause


@gives_up
def test_a_port_that_says_nothing(connections, host):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        error = failure(connections, changed(host, ssh_port=mute.getsockname()[1]))
    assert type(error) is errors.HostUnreachable
    assert "SSH login" in error.cause


@pytest.mark.skipif(os.geteuid() != 0, reason="sshd runs the command as another user")
@gives_up
def test_a_login_that_never_ends(connections, host, sshd):
    """A PAM module, or a lookup of keys in a directory that does not answer."""
    sshd.options = ["AuthorizedKeysCommand /bin/sleep 1000", "AuthorizedKeysCommandUser nobody"]
    sshd.authorize()
    sshd.restart()
    error = failure(connections, host)
    assert type(error) is errors.HostUnreachable
    assert "SSH login" in error.cause


@pytest.mark.skipif(os.geteuid() != 0, reason="ends a process of sshd's by its own command")
def test_a_login_that_is_cut_is_no_refusal(connections, host, sshd):
    """As by a server that is restarted, or that the kernel ends when memory runs out."""
    sshd.options = ['AuthorizedKeysCommand /bin/sh -c "kill -9 $PPID"', "AuthorizedKeysCommandUser root"]
    sshd.authorize()
    sshd.restart()
    error = failure(connections, host)
    assert type(error) is errors.HostUnreachable
    assert "ended the connection during the SSH login" in error.cause


@gives_up
def test_an_agent_that_answers_no_question(connections, sshd, config, tmp_path):
    """Its TLS stands, and the first call is never answered."""
    over = threading.Event()

    class Mute(PlainAgent):
        def GetInfo(self, request, context):
            over.wait()
            return super().GetInfo(request, context)

    invitation = invite(config.state)
    own = identity.load_or_create(tmp_path / "mute")
    with serving(Mute(own, invitation.secret), [invitation.certificate_pem]) as agent:
        try:
            error = failure(connections, ssh_host(sshd, int(agent.address.rpartition(":")[2])))
        finally:
            over.set()
    assert type(error) is errors.AnswerOverdue
    assert "within 8 s" in error.cause


def test_a_refused_key_and_a_refused_user(connections, host, sshd, tmp_path):
    make_key(tmp_path / "other")
    for other in (changed(host, ssh_key=tmp_path / "other"), changed(host, ssh_user="nobody-of-that-name")):
        error = failure(connections, other)
        assert type(error) is errors.SshRefused
        assert f"refuses user {other.ssh.user}" in error.cause
        assert "authorized_keys" in error.hint


def test_a_server_without_public_key_login(connections, host, sshd):
    sshd.options = ["PubkeyAuthentication no", "GSSAPIAuthentication no", "HostbasedAuthentication no"]
    sshd.restart()
    assert type(failure(connections, host)) is errors.SshRefused


@pytest.mark.parametrize("option", ["AllowTcpForwarding no", "PermitOpen 127.0.0.1:1", "DisableForwarding yes"])
def test_a_server_that_forbids_forwarding(connections, host, sshd, option):
    sshd.options = [option]
    sshd.restart()
    error = failure(connections, host)
    assert type(error) is errors.SshRefused
    assert "forbids" in error.cause


def test_an_agent_that_does_not_run_behind_ssh(connections, host):
    port = closed_port()
    error = failure(connections, changed(host, agent_port=port))
    assert type(error) is errors.AgentUnreachable
    assert f"port {port} does not answer behind SSH" in error.cause


@gives_up
def test_an_agent_port_that_says_nothing(connections, host):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        error = failure(connections, changed(host, agent_port=mute.getsockname()[1]))
    assert type(error) is errors.AgentUnreachable
    assert "says nothing" in error.cause


def test_a_missing_key_names_the_file(connections, host, tmp_path):
    error = failure(connections, changed(host, ssh_key=tmp_path / "none"))
    assert type(error) is errors.SshRefused
    assert "does not exist" in error.cause


def test_a_key_with_passphrase_needs_an_ssh_agent_and_works_with_one(connections, host, sshd, tmp_path, monkeypatch):
    key = tmp_path / "locked"
    make_key(key, passphrase="secret words")
    sshd.authorize(f"{key}.pub")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    error = failure(connections, changed(host, ssh_key=key))
    assert type(error) is errors.SshRefused
    assert "has a passphrase" in error.cause
    assert "ssh-add" in error.hint


def test_a_key_with_passphrase_works_with_an_ssh_agent(connections, host, sshd, tmp_path, ssh_agent):
    key = tmp_path / "locked"
    make_key(key)
    subprocess.run(["ssh-add", "-q", key], check=True, capture_output=True)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret words", "-f", key], check=True, capture_output=True)
    sshd.authorize(f"{key}.pub")
    with connections.agent(changed(host, ssh_key=key)) as client:
        assert client.info().name == "plain"


def test_the_collectors_own_key_lets_it_in(connections, host, sshd, config, tmp_path):
    (tmp_path / "own.pub").write_text(own_ssh_key(config.state) + "\n")
    sshd.authorize(tmp_path / "own.pub")
    with connections.agent(changed(host, ssh_key=config.state / "ssh/id_ed25519")) as client:
        assert client.info().name == "plain"


def test_a_connection_cut_in_the_middle_is_lost_and_made_anew(connections, host, sshd, agent, capfd):
    stuck = threading.Event()

    def silent():
        stuck.wait()
        yield from ()

    agent.listing = silent()
    killer = threading.Timer(0.2, sshd.kill)

    def list_and_lose():
        with connections.agent(host) as client, client.open("etc") as session:
            killer.start()
            list(session.list())

    with pytest.raises(errors.ConnectionLost, match="SSH connection was cut"):
        list_and_lose()
    killer.join()
    stuck.set()
    until(lambda: not connections.open_names())
    assert type(failure(connections, host)) is errors.HostUnreachable
    sshd.start()
    with connections.agent(host, now=True) as client:
        assert client.info().name == "plain"
    connections.close()
    assert "Traceback" not in capfd.readouterr().err


def test_a_failing_host_is_backed_off_and_asked_again_when_told(connections, host, sshd, monkeypatch):
    monkeypatch.setattr(pool, "FIRST_PAUSE", 600.0)
    monkeypatch.setattr(pool, "LONGEST_PAUSE", 600.0)
    sshd.kill()
    failure(connections, host)
    first = connections.backoff("web1")
    sshd.start()
    with pytest.raises(errors.HostUnreachable), connections.agent(host):
        pass
    assert connections.backoff("web1") == first
    with connections.agent(host, now=True) as client:
        assert client.info().name == "plain"
    assert connections.backoff("web1") is None


def test_beyond_the_cap_the_tunnel_that_is_idle_for_longest_gives_way(config, host, agent, tmp_path):
    small = make_config(tmp_path / "c", connect="8s", tunnels=2)
    hosts = [dataclasses.replace(host, name=f"web{number}") for number in range(3)]
    pins = small.state / "pins"
    pins.mkdir(parents=True, exist_ok=True)
    for one in hosts:
        (pins / f"{one.name}.pem").write_bytes(agent.identity.certificate_pem)
    with contextlib.closing(Connections(small, SystemClock())) as connections:
        for one in hosts:
            with connections.agent(one):
                pass
        assert len(connections.open_names()) == 2
        with (
            connections.agent(hosts[1]),
            connections.agent(hosts[2]),
            pytest.raises(errors.ConnectError, match="all 2 tunnels are in use"),
            connections.agent(hosts[0]),
        ):
            pass


def test_sockets_are_private_and_removed(connections, host, config):
    with connections.agent(host):
        (path,) = config.runtime.iterdir()
        assert config.runtime.stat().st_mode & 0o777 == 0o700
        assert len(os.fsencode(path)) < 108
    connections.close()
    assert list(config.runtime.iterdir()) == []


def test_a_runtime_directory_that_is_open_to_others_is_refused(connections, host, config):
    config.runtime.mkdir(mode=0o755)
    with pytest.raises(errors.BackupError, match="open to other users"), connections.agent(host):
        pass


def test_other_programs_get_a_route_and_the_files_for_it(connections, host):
    with connections.agent(host):
        pass
    certificate, key, pin, name = connections.credentials(host)
    with connections.endpoint(host) as endpoint:
        assert certificate.exists()
        assert key.exists()
        assert identity.certificate_name(pin.read_bytes()) == name
        endpoint.connect(60).close()


def test_a_key_that_the_server_never_showed_is_not_known(connections, host):
    connections.trust_ssh_key(host, Server("127.0.0.1", 1), HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519x"))
    with connections.agent(host) as client:
        assert client.info().name == "plain"


def test_a_connection_that_is_cut_just_before_it_forwards_is_told_and_leaves_nothing(sshd, tmp_path):
    host = ssh_host(sshd, 9)
    tunnel = SshTunnel(host, KnownHosts(tmp_path / "own", (sshd.folder / "user_known_hosts",)), 60)
    try:
        sshd.cut()
        until(lambda: not tunnel.alive)
        with pytest.raises(errors.ConnectionLost) as caught:
            tunnel.forward(tmp_path / "s", "127.0.0.1", 9)
    finally:
        tunnel.close()
    assert caught.value.cause == "web1: the SSH connection was cut at once"
    assert not (tmp_path / "s").exists()


def test_many_logins_at_one_server_stay_below_its_limit(connections, host, agent, sshd, config):
    """With ten logins under way, its default, this server drops every one that comes: many more come at once.

    It counts a login until it noticed that it is over, on a busy machine a moment later than who logged in.
    """
    sshd.options = ["MaxStartups 10:100:10"]
    sshd.restart()
    hosts = [dataclasses.replace(host, name=f"web{number}") for number in range(24)]
    for one in hosts:
        pin(config, one.name, agent.identity.certificate_pem)

    def reach(one):
        with connections.agent(one) as client:
            return client.info().name

    with ThreadPoolExecutor(len(hosts)) as threads:
        assert list(threads.map(reach, hosts)) == ["plain"] * len(hosts)
