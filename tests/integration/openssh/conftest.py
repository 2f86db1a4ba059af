"""OpenSSH's own client on the way to a real sshd, with a configuration of the test's in place of the user's."""

from __future__ import annotations

import contextlib

import pytest
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.transport.host_keys import KnownHosts
from pyrsyncbackup_collector.transport.openssh import OpenSsh

from tests.support import openssh
from tests.support.fleet import ssh_host
from tests.support.openssh import TIMEOUT
from tests.support.sshd import running
from tests.support.tcp import echo, serving


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
        yield sshd


@pytest.fixture
def bastion(tmp_path):
    with running(tmp_path / "b") as bastion:
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
