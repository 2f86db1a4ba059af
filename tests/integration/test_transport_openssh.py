"""OpenSSH's own client on the way to an agent: what it carries, whose settings count, how it fails and how it ends."""

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
from pathlib import Path

import pytest
from pyrsyncbackup_collector import errors
from pyrsyncbackup_collector.fleet.hosts import Host, Ssh
from pyrsyncbackup_collector.transport import openssh as openssh_transport
from pyrsyncbackup_collector.transport import openssh_command
from pyrsyncbackup_collector.transport.host_keys import KnownHosts, Server
from pyrsyncbackup_collector.transport.openssh import OpenSsh, shown_host_key
from pyrsyncbackup_collector.transport.ssh_tunnel import SshTunnel

from tests.support import openssh
from tests.support.fleet import ssh_host
from tests.support.orphans import adopted, descendants
from tests.support.sshd import make_key, running
from tests.support.tcp import closed_port, echo, exactly, serving
from tests.support.waiting import until

TIMEOUT = 30


@pytest.fixture(autouse=True)
def ssh_config(tmp_path, monkeypatch):
    """What stands in the user's ssh_config; empty until a test calls it."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("PATH", openssh.with_config(tmp_path / "bin"))

    def write(text: str) -> None:
        (tmp_path / "bin/config").write_text(text)

    return write


@pytest.fixture
def sshd(tmp_path):
    with running(tmp_path / "s") as sshd:
        (sshd.folder / "user_known_hosts").write_text(sshd.known_hosts_line())
        yield sshd


@pytest.fixture
def bastion(tmp_path):
    with running(tmp_path / "b") as bastion:
        (bastion.folder / "user_known_hosts").write_text(bastion.known_hosts_line())
        yield bastion


@pytest.fixture
def host(sshd):
    return ssh_host(sshd, 9737, transport="openssh")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "r"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def known(tmp_path):
    """The known hosts: ours, and the one that a host names."""

    def of(host: Host) -> KnownHosts:
        return KnownHosts(tmp_path / "own_known_hosts", [host.ssh.known_hosts] if host.ssh.known_hosts else [])

    return of


@pytest.fixture
def connect(known, folder):
    with contextlib.ExitStack() as stack:

        def connect(host, through=None, kind=OpenSsh, timeout=TIMEOUT):
            more = (folder,) if kind is OpenSsh else ()
            link = kind(host, known(host), timeout, through, *more)
            stack.callback(link.close)
            return link

        yield connect


@pytest.fixture
def far():
    with serving(echo) as port:
        yield port


def changed(host, **values):
    """The host with other values; `ssh_...` are those of its SSH server."""
    ssh = {key[4:]: value for key, value in values.items() if key.startswith("ssh_")}
    rest = {key: value for key, value in values.items() if not key.startswith("ssh_")}
    return dataclasses.replace(host, ssh=dataclasses.replace(host.ssh, **ssh), **rest)


def as_configured(host, sshd, **values):
    """The host with everything about SSH left to the user's configuration."""
    ssh = Ssh("", 0, Path("/nonexistent"), known_hosts=sshd.folder / "user_known_hosts", more_keys=True)
    return dataclasses.replace(host, ssh=ssh, **values)


def answers(route) -> bool:
    """Whether the echo behind the route answers."""
    with route.endpoint.connect(TIMEOUT) as connection:
        connection.sendall(b"hello")
        return exactly(connection, 5) == b"hello"


def leads_nowhere(route) -> bool:
    """Whether a connection through the route ends at once."""
    with route.endpoint.connect(TIMEOUT) as connection:
        return connection.recv(1) == b""


def failure(connect, host, through=None, timeout=TIMEOUT) -> errors.ConnectError:
    with pytest.raises(errors.ConnectError) as caught:
        connect(host, through, timeout=timeout)
    error = caught.value
    assert error.cause.startswith("web1: ")
    assert str(error).isprintable()
    assert error.hint
    return error


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


def test_the_users_configuration_says_where_and_as_whom(connect, host, sshd, far, folder, ssh_config):
    ssh_config(
        f"Host inner\n HostName 127.0.0.1\n Port {sshd.port}\n User {sshd.user}\n IdentityFile {sshd.user_key}\n"
    )
    link = connect(as_configured(host, sshd, address="inner"))
    assert answers(link.forward(folder / "f", "127.0.0.1", far))


def test_where_the_users_configuration_says_that_a_server_is(host, sshd, ssh_config):
    ssh_config("Host inner\n HostName 10.1.2.3\n Port 2222\n")
    assert openssh_transport.address(as_configured(host, sshd, address="inner"), TIMEOUT) == ("10.1.2.3", 2222)


def test_settings_that_would_disturb_do_not_count(connect, host, sshd, far, folder, ssh_config, tmp_path):
    ssh_config(f"""
        ControlMaster auto
        ControlPath {tmp_path}/users_control
        ControlPersist yes
        LocalForward {tmp_path}/users_forward 127.0.0.1:{far}
        RemoteForward 0 127.0.0.1:{far}
        ExitOnForwardFailure yes
        StreamLocalBindMask 0000
        RemoteCommand touch {tmp_path}/remote_command
        PermitLocalCommand yes
        LocalCommand touch {tmp_path}/local_command
        RequestTTY force
        ForkAfterAuthentication yes
        ForwardAgent yes
        ForwardX11 yes
        Tunnel yes
        LogLevel QUIET
        BatchMode no
        PasswordAuthentication yes
        IdentityFile /nonexistent
    """)
    link = connect(host)
    assert answers(link.forward(folder / "f", "127.0.0.1", far))
    dead = link.forward(folder / "g", "127.0.0.1", closed_port())
    assert leads_nowhere(dead)
    assert type(dead.why()) is errors.HostUnreachable
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "s", "r"}
    assert (folder / "f").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("careless", ["StrictHostKeyChecking no", "NoHostAuthenticationForLocalhost yes"])
def test_careless_settings_do_not_let_an_unknown_server_in(connect, host, sshd, ssh_config, careless):
    ssh_config(careless)
    (sshd.folder / "user_known_hosts").write_text("")
    assert type(failure(connect, host)) is errors.HostKeyUnknown
    assert "Accepted" not in sshd.log()


def test_a_jump_host_of_the_users_configuration(connect, host, sshd, bastion, far, folder, ssh_config):
    ssh_config(f"""
        Host inner
          HostName 127.0.0.1
          Port {sshd.port}
          ProxyJump outer
        Host outer
          HostName 127.0.0.1
          Port {bastion.port}
          UserKnownHostsFile {bastion.folder}/user_known_hosts
        Host *
          IdentityFile {sshd.user_key}
          IdentityFile {bastion.user_key}
    """)
    link = connect(as_configured(host, sshd, address="inner"))
    assert answers(link.forward(folder / "f", "127.0.0.1", far))
    assert "Accepted publickey" in bastion.log()
    assert len(openssh.clients()) == 2
    link.close()
    until(lambda: openssh.clients() == [])


def test_a_jump_host_that_fails_is_what_the_error_names(connect, host, sshd, bastion, ssh_config):
    def through(port, key, known_hosts):
        ssh_config(f"""
            Host 127.0.0.1
              ProxyJump outer
            Host outer
              HostName 127.0.0.1
              Port {port}
              IdentityFile {key}
              UserKnownHostsFile {known_hosts}
        """)
        error = failure(connect, host)
        assert "ProxyJump" in error.cause
        return error

    refused = through(closed_port(), bastion.user_key, "/dev/null")
    assert (type(refused), refused.cause.endswith("Connection refused")) == (errors.HostUnreachable, True)
    unknown = through(bastion.port, bastion.user_key, "/dev/null")
    assert (type(unknown), "Host key verification failed" in unknown.cause) == (errors.SshRefused, True)
    denied = through(bastion.port, sshd.user_key, bastion.folder / "user_known_hosts")
    assert (type(denied), "Permission denied" in denied.cause) == (errors.SshRefused, True)
    sshd.kill()
    silent = through(bastion.port, bastion.user_key, bastion.folder / "user_known_hosts")
    assert (type(silent), "Connection refused" in silent.cause) == (errors.HostUnreachable, True)


@pytest.fixture
def ssh_agent(tmp_path, monkeypatch):
    path = tmp_path / "a.sock"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    until(path.exists)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    yield path
    agent.kill()
    agent.wait()


def test_a_key_that_only_the_ssh_agent_holds(connect, host, sshd, ssh_agent):
    subprocess.run(["ssh-add", "-q", sshd.user_key], check=True, capture_output=True)
    sshd.user_key.unlink()
    nobodys = changed(host, ssh_key=Path("/nonexistent"), ssh_more_keys=True)
    assert connect(nobodys).alive
    # Named with its public half, it is that one of those in the agent.
    assert connect(host).alive


def test_a_key_that_the_configuration_names_is_the_only_one(connect, host, sshd, ssh_agent, tmp_path):
    subprocess.run(["ssh-add", "-q", sshd.user_key], check=True, capture_output=True)
    make_key(tmp_path / "other")
    error = failure(connect, changed(host, ssh_key=tmp_path / "other"))
    assert type(error) is errors.SshRefused
    assert f"refuses user {sshd.user} with the key {tmp_path}/other" in error.cause
    assert "authorized_keys" in error.hint


def test_the_collectors_own_key_comes_after_the_users(connect, host, sshd, tmp_path, ssh_config):
    make_key(tmp_path / "own")
    make_key(tmp_path / "users")
    ssh_config(f"IdentityFile {tmp_path}/users")
    more = changed(host, ssh_key=tmp_path / "own", ssh_more_keys=True)
    for authorized in ("own", "users"):
        sshd.authorize(f"{tmp_path}/{authorized}.pub")
        assert connect(more).alive
    sshd.authorize()
    assert f"with the keys {tmp_path}/users, {tmp_path}/own" in failure(connect, more).cause


def test_a_key_with_passphrase_that_no_agent_holds(connect, host, sshd, tmp_path):
    make_key(tmp_path / "locked", passphrase="secret words")
    sshd.authorize(tmp_path / "locked.pub")
    error = failure(connect, changed(host, ssh_key=tmp_path / "locked"))
    assert type(error) is errors.SshRefused
    assert f"cannot use the key {tmp_path}/locked" in error.cause
    assert "ssh-add" in error.hint


def test_a_missing_key_names_the_file(connect, host):
    error = failure(connect, changed(host, ssh_key=Path("/nonexistent")))
    assert type(error) is errors.SshRefused
    assert "/nonexistent does not exist" in error.cause


def test_a_name_that_does_not_resolve(connect, host):
    error = failure(connect, changed(host, address="no-such-host.invalid"))
    assert type(error) is errors.HostUnreachable
    assert "cannot be resolved" in error.cause


def test_a_closed_port(connect, host, sshd):
    sshd.kill()
    error = failure(connect, host)
    assert type(error) is errors.HostUnreachable
    assert "refuses connections" in error.cause


def test_a_port_that_says_nothing(connect, host, folder):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        error = failure(connect, changed(host, ssh_port=mute.getsockname()[1]), timeout=0.5)
    assert type(error) is errors.HostUnreachable
    assert "ended the connection during the SSH login: no answer within" in error.cause
    assert openssh.clients() == []
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="sshd runs the command as another user")
def test_a_login_that_never_ends(connect, host, sshd, folder):
    sshd.options = ["AuthorizedKeysCommand /bin/sleep 1000", "AuthorizedKeysCommandUser nobody"]
    sshd.authorize()
    sshd.restart()
    error = failure(connect, host, timeout=2)
    assert type(error) is errors.HostUnreachable
    assert "SSH login" in error.cause
    assert openssh.clients() == []
    assert list(folder.iterdir()) == []


def test_a_port_on_which_something_else_listens(connect, host):
    with serving(lambda connection: connection.sendall(b"HTTP/1.0 400 \x1b[31m\r\n\r\n")) as port:
        error = failure(connect, changed(host, ssh_port=port))
    assert type(error) is errors.HostUnreachable
    assert "ended the connection during the SSH login" in error.cause


def test_a_server_that_drops_logins_past_its_limit(connect, host, sshd):
    sshd.options = ["PerSourceMaxStartups 1"]
    sshd.restart()

    with contextlib.ExitStack() as stack:

        def is_let_wait():
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", sshd.port)))
            return connection.recv(100).startswith(b"SSH-2.0-")

        until(is_let_wait)  # what asked whether it listens may count for a moment
        error = failure(connect, host)
    assert type(error) is errors.HostUnreachable
    assert "MaxStartups" in error.hint


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("PubkeyAuthentication no", "lets root in by no method only"),
        ("AuthenticationMethods publickey,password\nPasswordAuthentication yes", "wants more than a key from root"),
        ("KexAlgorithms diffie-hellman-group1-sha1", "no common SSH algorithms: no matching key exchange method"),
        ("MaxAuthTries 1\nBanner none\nAuthorizedKeysFile none", "refuses user root"),
    ],
)
def test_a_server_that_lets_nobody_in_so(connect, host, sshd, option, words):
    sshd.options = [option]
    sshd.restart()
    error = failure(connect, host)
    assert type(error) is errors.SshRefused
    assert words.replace("root", sshd.user) in error.cause


def test_an_unknown_host_key_is_refused_in_our_words_until_trusted(connect, host, sshd, known, folder):
    (sshd.folder / "user_known_hosts").write_text("")
    error = failure(connect, host)
    server, key = shown_host_key(host, known(host), TIMEOUT, None, folder)
    assert server == Server("127.0.0.1", sshd.port)
    assert type(error) is errors.HostKeyUnknown
    with pytest.raises(errors.HostKeyUnknown) as expected:
        known(host).check("web1", server, key)
    assert str(error) == str(expected.value)
    assert "Accepted" not in sshd.log()
    known(host).trust("web1", server, key)
    assert connect(host).alive
    assert [path.name for path in folder.iterdir()] != []


def test_a_changed_host_key_is_refused_with_both_fingerprints(connect, host, sshd, known, folder):
    server, old = shown_host_key(host, known(host), TIMEOUT, None, folder)
    sshd.new_host_keys()
    sshd.restart()
    error = failure(connect, host)
    _, new = shown_host_key(host, known(host), TIMEOUT, None, folder)
    assert type(error) is errors.HostKeyChanged
    assert old.fingerprint in error.cause
    assert new.fingerprint in error.cause
    known(host).trust("web1", server, new, replace=True)
    assert connect(host).alive


def test_our_known_hosts_decides_alone(connect, host, sshd, known, folder):
    server, key = shown_host_key(host, known(host), TIMEOUT, None, folder)
    known(host).trust("web1", server, key)
    sshd.new_host_keys()
    sshd.restart()
    # The user's file has the new one already.
    host.ssh.known_hosts.write_text(sshd.known_hosts_line())
    assert type(failure(connect, host)) is errors.HostKeyChanged


def test_a_revoked_key_in_any_file_is_refused(connect, host, sshd, known, folder):
    line = sshd.known_hosts_line()
    host.ssh.known_hosts.write_text(line + "@revoked * " + line.split(" ", 1)[1])
    assert "revoked" in failure(connect, host).cause
    host.ssh.known_hosts.write_text(line)
    known(host).own.write_text("@revoked * " + line.split(" ", 1)[1])
    error = failure(connect, host)
    assert type(error) is errors.HostKeyChanged
    assert "marked as revoked" in error.cause


def test_a_key_that_only_the_clients_own_files_contradict_has_changed_too(connect, host, sshd, ssh_config, tmp_path):
    (tmp_path / "more").write_text(sshd.known_hosts_line())
    sshd.new_host_keys()
    sshd.restart()
    ssh_config(f"UserKnownHostsFile {tmp_path}/more")
    error = failure(connect, changed(host, ssh_known_hosts=None))
    assert type(error) is errors.HostKeyChanged
    assert f"{tmp_path}/more has another one" in error.cause
    assert "--replace" in error.hint


def test_certificates_of_host_authorities_count_as_the_client_has_them(connect, host, sshd, ssh_config, tmp_path):
    make_key(tmp_path / "ca")
    subprocess.run(
        ["ssh-keygen", "-q", "-s", tmp_path / "ca", "-I", "web1", "-h", sshd.folder / "host_ed25519.pub"],
        check=True,
        capture_output=True,
    )
    sshd.options = [f"HostCertificate {sshd.folder}/host_ed25519-cert.pub"]
    sshd.restart()
    authority = (tmp_path / "ca.pub").read_text()
    (tmp_path / "more").write_text(f"@cert-authority * {authority}")
    ssh_config(f"UserKnownHostsFile {tmp_path}/more")
    assert connect(changed(host, ssh_known_hosts=None)).alive


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_the_kind_of_host_key_that_is_known_is_asked_for(connect, host, sshd, known, folder, kind):
    sshd.host_key_kinds = ["ed25519", kind]
    sshd.new_host_keys()
    sshd.restart()
    host.ssh.known_hosts.write_text(sshd.known_hosts_line(kind))
    assert connect(host).alive
    assert kind in shown_host_key(host, known(host), TIMEOUT, None, folder)[1].kind


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


def test_what_a_hostile_server_says_is_shown_escaped_and_cut(connect, host, sshd, tmp_path):
    banner = tmp_path / "s/banner"
    banner.write_bytes(
        b"Host key verification failed.\n\x1b]0;evil\x07\xff" + b"x" * 5000 + b"\nroot: denied \xe2\x80\xae\n"
    )
    sshd.options = [f"Banner {banner}", "AuthorizedKeysFile none", "PubkeyAuthentication no"]
    sshd.restart()
    error = failure(connect, host)
    assert type(error) is errors.SshRefused
    assert len(str(error)) < 1000

    def rude(connection):
        connection.sendall(b"\x1b[31mevil\r\n" * 100_000)

    with serving(rude) as port:
        assert type(failure(connect, changed(host, ssh_port=port))) is errors.HostUnreachable


def test_a_faulty_configuration_of_the_users_is_named(connect, host, ssh_config, tmp_path):
    ssh_config("NoSuchOption yes\n")
    error = failure(connect, host)
    assert type(error) is errors.SshRefused
    assert "ssh cannot use its configuration: " in error.cause
    assert "line 1: Bad configuration option: nosuchoption" in error.cause


def test_a_machine_without_openssh_says_what_to_install(connect, host, monkeypatch, folder):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(errors.BackupError, match="`ssh`, is not installed") as caught:
        connect(host)
    assert "sshtunnel" in caught.value.hint
    assert list(folder.iterdir()) == []


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
        assert len(os.listdir("/proc/self/fd")) == before
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
