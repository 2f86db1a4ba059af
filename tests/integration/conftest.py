"""Fixtures of the tests of both ways through SSH."""

import pytest

from tests.support.openssh import key_agent


@pytest.fixture
def ssh_agent(tmp_path, monkeypatch):
    """The socket of the user's ssh-agent, which holds no key yet."""
    path = tmp_path / "a.sock"
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    with key_agent(path):
        yield path
