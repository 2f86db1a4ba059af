"""What a pull stands on breaks in the middle of a transfer: the way, the agent, rsync on either side."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pyrsyncbackup import identity
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.errors import BackupError, ConnectionLost, TransferFailed
from pyrsyncbackup_collector.pull.report import Outcome, Progress
from pyrsyncbackup_collector.transport.connections import Connections
from pyrsyncbackup_collector.transport.invitations import own_identity

from tests.support import sshd
from tests.support.agent import RunningAgent
from tests.support.fleet import make_config, ssh_host
from tests.support.orphans import command, descendants
from tests.support.puller import Puller
from tests.support.waiting import until

FILES = 24
# More than what is on the way in buffers when one side ends.
SIZE = 800_000
# Two seconds for everything: long enough to break it in the middle.
RATE = 8_000_000


class Scene:
    """A host behind sshd, its agent, and a collector that pulls through the SSH forward."""

    def __init__(self, base: Path, stack: ExitStack) -> None:
        self.top = base / "srv"
        self.top.mkdir()
        self.agent = stack.enter_context(RunningAgent(base / "agent"))
        self.agent.module("srv", self.top)
        self.sshd = stack.enter_context(sshd.running(base / "sshd"))
        config = make_config(base / "c", idle="1h")
        own = own_identity(config.state)
        self.agent.trust("ours", own.certificate_pem)
        (config.state / "pins").mkdir()
        identity.write_atomically(config.state / "pins" / "web1.pem", self.agent.certificate_pem, 0o600)
        self.connections = Connections(config, SystemClock())
        stack.callback(self.connections.close)
        self.puller = stack.enter_context(Puller(base / "collector", own))

    @property
    def host(self):
        return ssh_host(self.sshd, self.agent.port)

    def write(self, mark: bytes) -> None:
        """Give each file a new content."""
        for number in range(FILES):
            (self.top / f"{number:02}").write_bytes(mark + b"%d" % number + os.urandom(SIZE))

    def pull(self, **how):
        with self.connections.agent(self.host, now=True) as client:
            return self.puller.pull(client, "srv", **how)

    def contents(self, which: int) -> dict[bytes, bytes]:
        """Contents of a snapshot by file name."""
        snapshot = self.puller.store.snapshots("web1", "srv")[which]
        entries = self.puller.store.entries(snapshot, verify=True)
        return {e.path.rpartition(b"/")[2]: self.puller.content(e) for e in entries if e.type == "file"}

    def on_host(self) -> dict[bytes, bytes]:
        return {os.fsencode(path.name): path.read_bytes() for path in self.top.iterdir()}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(tmp_path, stack)


def in_the_middle(scene: Scene, act: Callable[[Scene], object]) -> Callable[[Progress], None]:
    """A watcher that acts once, when some files have arrived and others have not."""
    acted = False

    def watch(_: Progress) -> None:
        nonlocal acted
        files = (path for path in (scene.puller.store.path / "incoming").rglob("data/**/*") if path.is_file())
        if not acted and sum(1 for path in files if not path.name.startswith(".")) >= 3:
            acted = True
            act(scene)

    return watch


def kill_rsync(pid: int, kind: str) -> None:
    """Kill what is below process `pid` and has `kind` in its command line."""
    found = [child for child in descendants(pid) if kind in command(child)]
    assert found, [command(child) for child in descendants(pid)]
    os.kill(found[-1], signal.SIGKILL)


BROKE_OFF = "the transfer broke off after [0-9]+ files: rsync exit code {}: .*"
BREAKS: dict[str, tuple[Callable[[Scene], object], type[BackupError], str]] = {
    "the SSH session": (lambda scene: scene.sshd.kill(), ConnectionLost, "web1: the SSH connection was cut"),
    "the agent": (
        lambda scene: scene.agent.stop(signal.SIGKILL),
        ConnectionLost,
        "web1: the connection to the agent was lost: .*",
    ),
    "the agent's rsync": (
        lambda scene: kill_rsync(scene.agent.pid, "--daemon"),
        TransferFailed,
        BROKE_OFF.format("12"),
    ),
    "the sandbox": (lambda _: kill_rsync(os.getpid(), "bwrap"), TransferFailed, BROKE_OFF.format("(137|12)")),
    "our rsync": (lambda _: kill_rsync(os.getpid(), "rsync --"), TransferFailed, BROKE_OFF.format("(137|12)")),
}


@pytest.mark.parametrize("window", [12, 1000])
@pytest.mark.parametrize("what", BREAKS)
def test_what_breaks_in_the_middle_leaves_what_was_there_and_the_next_pull_goes_on(
    scene: Scene, what: str, window: int
) -> None:
    scene.write(b"one")
    scene.pull()
    first = scene.on_host()
    mine = set(descendants(os.getpid()))
    scene.write(b"two")
    with pytest.raises(BackupError) as failed:
        scene.pull(bwlimit=RATE, watch=in_the_middle(scene, BREAKS[what][0]), window_files=window)
    kind, words = BREAKS[what][1:]
    assert (type(failed.value), failed.value.retryable) == (kind, True)
    assert re.fullmatch(words, failed.value.cause), failed.value.cause
    assert failed.value.hint
    assert len(scene.puller.store.snapshots("web1", "srv")) == 1
    assert scene.contents(0) == first
    until(lambda: not [pid for pid in descendants(os.getpid()) if pid not in mine and "rsync" in command(pid)])
    until(lambda: scene.agent.process is None or not descendants(scene.agent.pid))
    if what == "the SSH session":
        scene.sshd.start()
    elif what == "the agent":
        scene.agent.stop(signal.SIGKILL)
        scene.agent.start()
    report = scene.pull()
    assert report.outcome is Outcome.COMPLETE
    assert report.problems == ()
    assert scene.contents(0) == first
    assert scene.contents(1) == scene.on_host()
