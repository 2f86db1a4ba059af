"""Whose settings and whose keys OpenSSH's own client uses: those of its user, save what would disturb."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest
from pyrsyncbackup_collector import errors
from pyrsyncbackup_collector.fleet.hosts import Ssh
from pyrsyncbackup_collector.transport import openssh as openssh_transport

from tests.support import openssh
from tests.support.fleet import changed
from tests.support.openssh import TIMEOUT, answers, failure, leads_nowhere
from tests.support.sshd import make_key
from tests.support.tcp import closed_port
from tests.support.waiting import until


def as_configured(host, sshd, **values):
    """The host with everything about SSH left to the user's configuration."""
    ssh = Ssh("", 0, Path("/nonexistent"), known_hosts=sshd.folder / "user_known_hosts", more_keys=True)
    return dataclasses.replace(host, ssh=ssh, **values)


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
