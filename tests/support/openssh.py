"""OpenSSH's client with a configuration of the test's: the user's own, whose place no variable changes, stays out."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.errors import ConnectError
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.transport.openssh import OpenSsh
from pyrsyncbackup_collector.transport.route import Endpoint, Route

from tests.support.orphans import command, descendants
from tests.support.tcp import exactly
from tests.support.waiting import until

TIMEOUT = 60


def with_config(folder: Path, text: str = "") -> str:
    """A value for PATH: there `ssh` reads `text` in place of the user's and the system's files."""
    real = shutil.which("ssh")
    assert real, "openssh-client is not installed"
    folder.mkdir()
    config = folder / "config"
    config.write_text(text)
    script = folder / "ssh"
    script.write_text(f'#!/bin/sh\nexec {real} -F {config} "$@"\n')
    script.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@contextlib.contextmanager
def key_agent(socket: Path) -> Iterator[None]:
    """An ssh-agent that holds no key yet and listens there, while the block runs."""
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        until(socket.exists)
        yield
    finally:
        agent.kill()
        agent.wait()


def clients(pid: int | None = None) -> list[int]:
    """The processes of OpenSSH's client below a process, our own if none is given."""
    return [child for child in descendants(pid or os.getpid()) if command(child).split(" ")[0].endswith("ssh")]


def answers(route: Route) -> bool:
    """Whether the echo behind the route answers."""
    with route.endpoint.connect(TIMEOUT) as connection:
        connection.sendall(b"hello")
        return exactly(connection, 5) == b"hello"


def leads_nowhere(route: Route) -> bool:
    """Whether a connection through the route ends at once."""
    with route.endpoint.connect(TIMEOUT) as connection:
        return connection.recv(1) == b""


def failure(
    connect: Callable[..., OpenSsh], host: Host, through: Endpoint | None = None, timeout: float = TIMEOUT
) -> ConnectError:
    """Why no connection is made, told as a user is told."""
    with pytest.raises(ConnectError) as caught:
        connect(host, through, timeout=timeout)
    error = caught.value
    assert error.cause.startswith("web1: ")
    assert str(error).isprintable()
    assert error.hint
    return error
