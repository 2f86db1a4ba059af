"""Servers that let OpenSSH's own client in not at all: each way in which it fails has its cause and the next step."""

from __future__ import annotations

import contextlib
import os
import socket

import pytest
from pyrsyncbackup_collector import errors

from tests.support import openssh
from tests.support.fleet import changed
from tests.support.openssh import failure
from tests.support.tcp import serving
from tests.support.waiting import until


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
        error = failure(connect, changed(host, ssh_port=mute.getsockname()[1]), timeout=5)
    assert type(error) is errors.HostUnreachable
    assert "ended the connection during the SSH login: no answer within" in error.cause
    assert openssh.clients() == []
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="sshd runs the command as another user")
def test_a_login_that_never_ends(connect, host, sshd, folder):
    sshd.options = ["AuthorizedKeysCommand /bin/sleep 1000", "AuthorizedKeysCommandUser nobody"]
    sshd.authorize()
    sshd.restart()
    error = failure(connect, host, timeout=8)
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
