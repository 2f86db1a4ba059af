"""Forwards by OpenSSH's own client: what they carry, what they lead through, how they fail and how they end."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading

import pytest
from pyrsyncbackup_collector import errors
from pyrsyncbackup_collector.transport import openssh_command
from pyrsyncbackup_collector.transport.openssh import OpenSsh, shown_host_key
from pyrsyncbackup_collector.transport.ssh_tunnel import SshTunnel

from tests.support import openssh
from tests.support.fleet import changed, ssh_host
from tests.support.openssh import TIMEOUT, answers, failure, leads_nowhere
from tests.support.orphans import adopted, descendants
from tests.support.tcp import closed_port
from tests.support.waiting import until


def test_twenty_megabytes_pass_intact_both_ways(connect, host, far, folder):
    route = connect(host).forward(folder / "f", "127.0.0.1", far)
    content = random.Random(1).randbytes(20 * 2**20)
    with route.endpoint.connect(TIMEOUT) as connection:
        sender = threading.Thread(target=lambda: (connection.sendall(content), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        digest, size = hashlib.sha256(), 0
        while data := connection.recv(2**16):
            digest.update(data)
            size += len(data)
        sender.join()
    assert size == len(content)
    assert digest.digest() == hashlib.sha256(content).digest()


def test_all_forwards_of_a_server_share_one_process_and_one_login(connect, host, sshd, far, folder):
    link = connect(host)
    routes = [link.forward(folder / f"f{number}", "127.0.0.1", far) for number in range(5)]
    assert all(answers(route) for route in routes)
    assert len(openssh.clients()) == 1
    assert sshd.log().count("Accepted publickey") == 1
    assert [(folder / f"f{number}").stat().st_mode & 0o777 for number in range(5)] == [0o600] * 5
    routes[0].close()
    assert not (folder / "f0").exists()
    assert link.alive
    assert answers(routes[1])


def test_closing_leaves_neither_process_nor_file(connect, host, folder, far):
    link = connect(host)
    route = link.forward(folder / "f", "127.0.0.1", far)
    with route.endpoint.connect(TIMEOUT) as connection:
        route.close()
        link.close()
        assert not link.alive
        assert not route.alive
        assert openssh.clients() == []
        assert list(folder.iterdir()) == []
        assert connection.recv(1) == b""
    link.close()


def test_an_address_of_ipv6_and_a_colon_in_the_name_of_the_socket(connect, host, folder):
    route = connect(host).forward(folder / "a:b\\c", "::1", closed_port())
    assert leads_nowhere(route)
    assert type(route.why()) is errors.HostUnreachable
    assert "could not connect to ::1:" in route.why().cause


@pytest.mark.parametrize(
    ("outer", "inner"), [(OpenSsh, OpenSsh), (SshTunnel, OpenSsh), (OpenSsh, SshTunnel)], ids=lambda kind: kind.__name__
)
def test_one_connection_goes_through_another(connect, host, sshd, bastion, known, far, folder, outer, inner):
    first = ssh_host(bastion, 9737, "bastion")
    below = connect(first, kind=outer).forward(folder / "b", "127.0.0.1", sshd.port)
    # A name that only the bastion could resolve.
    behind = changed(host, address="inner", ssh_jump=first)
    host.ssh.known_hosts.write_text("")
    known(behind).own.write_text(f"[inner]:{sshd.port}@bastion {sshd.known_hosts_line().split(' ', 1)[1]}")
    link = connect(behind, below.endpoint, kind=inner)
    assert answers(link.forward(folder / "f", "127.0.0.1", far))
    if inner is OpenSsh:
        assert shown_host_key(behind, known(behind), TIMEOUT, below.endpoint, folder)[0].jump == "bastion"


def test_what_another_connection_leads_to_in_vain(connect, host, bastion, folder):
    first = ssh_host(bastion, 9737, "bastion", transport="openssh")
    below = connect(first).forward(folder / "b", "127.0.0.1", closed_port())
    assert type(failure(connect, changed(host, ssh_jump=first), below.endpoint)) is errors.HostUnreachable
    assert "Connection refused" in below.why().cause
    below.close()
    assert "the way to the SSH server is gone" in failure(connect, changed(host, ssh_jump=first), below.endpoint).cause


@pytest.mark.parametrize("option", ["AllowTcpForwarding no", "PermitOpen none", "DisableForwarding yes"])
def test_a_server_that_forbids_forwarding(connect, host, sshd, far, folder, option):
    sshd.options = [option]
    sshd.restart()
    route = connect(host).forward(folder / "f", "127.0.0.1", far)
    assert leads_nowhere(route)
    error = route.why()
    assert type(error) is errors.SshRefused
    assert f"forbids {sshd.user} to forward to port {far}" in error.cause


def test_each_forward_knows_its_own_failure_until_it_works_again(connect, host, far, folder):
    port = closed_port()
    link = connect(dataclasses.replace(host, agent_port=port))
    dead, good = link.forward(folder / "d", "127.0.0.1", port), link.forward(folder / "g", "127.0.0.1", far)
    assert leads_nowhere(dead)
    error = dead.why()
    assert type(error) is errors.AgentUnreachable
    assert f"port {port} does not answer behind SSH: Connection refused" in error.cause
    assert good.why() is None
    with socket.create_server(("127.0.0.1", port)) as server:
        with dead.endpoint.connect(TIMEOUT) as connection:
            accepted, _ = server.accept()
            accepted.close()
            assert connection.recv(1) == b""
        assert dead.why() is None


def test_a_session_that_is_cut_is_noticed(connect, host, sshd, far, folder):
    link = connect(host)
    route = link.forward(folder / "f", "127.0.0.1", far)
    with route.endpoint.connect(TIMEOUT) as connection:
        sshd.kill()
        assert connection.recv(1) == b""
    until(lambda: not link.alive)
    assert not route.alive
    assert type(route.why()) is errors.ConnectionLost
    assert "the SSH connection was cut" in route.why().cause
    with pytest.raises(errors.ConnectionLost):
        link.forward(folder / "g", "127.0.0.1", far)


def test_a_dead_path_is_given_up(connect, host, sshd, far, folder, monkeypatch):
    assert openssh_command.ALIVE_INTERVAL * (openssh_command.ALIVE_COUNT + 1) < 30
    monkeypatch.setattr(openssh_command, "ALIVE_INTERVAL", 2)
    monkeypatch.setattr(openssh_command, "ALIVE_COUNT", 1)
    link = connect(host)
    sessions = descendants(sshd._process.pid)
    for session in sessions:
        os.kill(session, signal.SIGSTOP)
    until(lambda: not link.alive)
    assert "not responding" in link.why().cause


def test_a_client_that_hangs_is_ended_at_close_and_does_nothing_more(connect, host, far, folder):
    link = connect(host)
    link.timeout = 0.5
    (pid,) = openssh.clients()
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(errors.ConnectError, match="no answer in time"):
        link.forward(folder / "f", "127.0.0.1", far)
    link.close()
    assert openssh.clients() == []


@pytest.mark.parametrize("behind", [False, True], ids=["direct", "ProxyJump"])
def test_nothing_is_left_of_a_collector_that_is_killed(sshd, bastion, folder, ssh_config, behind):
    ssh_config(f"""
        Host inner
          HostName 127.0.0.1
          ProxyJump 127.0.0.1:{bastion.port}
        Host *
          User {sshd.user}
          IdentityFile {bastion.user_key}
          UserKnownHostsFile {bastion.folder}/user_known_hosts
    """)
    address = "inner" if behind else "127.0.0.1"
    known = sshd.folder / "user_known_hosts"
    with adopted() as none_is_left:
        child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.support.openssh_child",
                str(sshd.port),
                sshd.user_key,
                known,
                folder,
                address,
            ],
            stdout=subprocess.PIPE,
        )
        assert child.stdout.readline() == b"open\n"
        assert len(openssh.clients(child.pid)) == 1 + behind
        child.kill()
        child.wait()
        child.stdout.close()
        none_is_left()


def test_no_descriptors_left_is_a_failure_that_passes(connect, host, folder):
    assert connect(host).alive
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd"))
    for more in range(1, 12):
        before = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, hard))
        try:
            with contextlib.suppress(errors.ConnectError):
                connect(host).close()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        # Fewer, if threads of earlier tests have closed theirs meanwhile.
        assert len(os.listdir("/proc/self/fd")) <= before
    assert len(openssh.clients()) == 1
    assert len(list(folder.iterdir())) == 1


def test_a_folder_whose_name_is_too_long_for_a_socket(connect, host, folder, known):
    deep = folder / ("x" * 100)
    deep.mkdir()
    with pytest.raises(errors.BackupError, match="too long for a socket"):
        OpenSsh(host, known(host), TIMEOUT, None, deep)
    assert list(deep.iterdir()) == []


def test_descriptors_beyond_1023_work_and_none_is_inherited(connect, host, folder, far):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(open(os.devnull, "rb")) for _ in range(1100)]
            assert held[-1].fileno() > 1023
            os.set_inheritable(held[0].fileno(), True)
            link = connect(host)
            assert answers(link.forward(folder / "f", "127.0.0.1", far))
            (pid,) = openssh.clients()
            assert len(os.listdir(f"/proc/{pid}/fd")) < 12
            link.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
