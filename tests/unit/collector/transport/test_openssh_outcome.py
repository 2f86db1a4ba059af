"""The last lines of OpenSSH's client, as errors; those that a real server brings about are in the integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyrsyncbackup_collector.errors import HostUnreachable, SshRefused
from pyrsyncbackup_collector.fleet.hosts import Host, Ssh
from pyrsyncbackup_collector.transport import openssh_outcome
from pyrsyncbackup_collector.transport.openssh_command import Settings
from pyrsyncbackup_collector.transport.openssh_messages import Said

HOST = Host("web1", "web1.example.org", "openssh", Ssh("", 0, Path("/k")), 9737)
FOUND = Settings("10.0.0.1", 22, "backup")


@pytest.mark.parametrize(
    ("lines", "kind", "cause"),
    [
        (
            ["ssh: Could not resolve hostname web1: Temporary failure in name resolution"],
            HostUnreachable,
            "web1: the name web1 cannot be resolved: Temporary failure in name resolution",
        ),
        (
            ["ssh: connect to host 10.0.0.1 port 22: Connection timed out"],
            HostUnreachable,
            "web1: 10.0.0.1:22 does not answer",
        ),
        (
            ["ssh: connect to host 10.0.0.1 port 22: No route to host"],
            HostUnreachable,
            "web1: 10.0.0.1:22 cannot be reached: No route to host",
        ),
        (
            ["Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures"],
            SshRefused,
            "web1: the SSH server refuses user backup after too many keys: the keys /a, /b",
        ),
        (
            ['Load key "/a": bad permissions', "backup@10.0.0.1: Permission denied (publickey,password)."],
            SshRefused,
            'web1: the SSH server refuses user backup with the keys /a, /b; Load key "/a": bad permissions',
        ),
        (
            ["Bad owner or permissions on /root/.ssh/config"],
            SshRefused,
            "web1: ssh cannot use its configuration: Bad owner or permissions on /root/.ssh/config",
        ),
        (
            ["kex_exchange_identification: read: Connection reset by peer", "Connection reset by 10.0.0.1 port 22"],
            HostUnreachable,
            "web1: 10.0.0.1:22 ended the connection during the SSH login: Connection reset by 10.0.0.1 port 22",
        ),
        ([], HostUnreachable, "web1: 10.0.0.1:22 ended the connection during the SSH login"),
    ],
)
def test_a_login_that_failed(lines, kind, cause):
    said = Said(tuple(lines), offered=("/a", "/b"))
    error = openssh_outcome.login_failure(HOST, FOUND, said, proxied=False)
    assert (type(error), error.cause) == (kind, cause)
    assert error.hint


def test_a_login_that_took_too_long_says_what_it_waited_for():
    said = Said(("Confirm user presence for key ED25519-SK SHA256:abc",))
    error = openssh_outcome.login_failure(HOST, FOUND, said, proxied=False, timeout=30)
    assert type(error) is HostUnreachable
    assert error.cause.endswith("no answer within 30 s: Confirm user presence for key ED25519-SK SHA256:abc")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("me@outer: Permission denied (publickey).", SshRefused),
        ("Host key verification failed.", SshRefused),
        ("channel 0: open failed: connect failed: Connection refused", HostUnreachable),
    ],
)
def test_a_way_of_the_users_that_failed_is_told_from_the_server(line, kind):
    end = ("kex_exchange_identification: Connection closed by remote host", "Connection closed by UNKNOWN port 65535")
    error = openssh_outcome.login_failure(HOST, FOUND, Said((line, *end)), proxied=True)
    assert type(error) is kind
    assert error.cause == f"web1: the way to it, ProxyJump or ProxyCommand in ssh_config, fails: {line}"
    assert "ssh -v web1.example.org" in error.hint


def test_a_banner_that_speaks_of_host_keys_is_no_refused_host_key():
    assert openssh_outcome.about_host_key(Said(("Host key verification failed.",)))
    assert not openssh_outcome.about_host_key(Said(("Host key verification failed.", "Connection closed by x port 22")))


def test_an_open_connection_that_ended_is_named_by_its_last_words():
    said = Said(("Timeout, server 10.0.0.1 not responding.", "channel 3: open failed: connect failed: x"))
    assert openssh_outcome.lost(HOST, said).cause == (
        "web1: the SSH connection was cut: Timeout, server 10.0.0.1 not responding."
    )
