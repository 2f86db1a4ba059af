"""Restores sent to a real agent: into a new directory of its own, if its host allows any."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup.identity import load_or_create
from pyrsyncbackup_collector.errors import AgentBusy, BackupError, ConnectError, RestoreError
from pyrsyncbackup_collector.pull.rsync_command import sender
from pyrsyncbackup_collector.pull.rsync_process import Client
from pyrsyncbackup_collector.pull.sandbox import Sandbox
from pyrsyncbackup_collector.pull.send import send
from pyrsyncbackup_collector.transport.agent_client import AgentClient

from tests.support.agent import RunningAgent
from tests.support.comparison import as_rsync_sees
from tests.support.sandboxes import chosen
from tests.support.waiting import until


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return chosen()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    with RunningAgent(tmp_path / "agent", restore=True) as agent:
        yield agent


@pytest.fixture
def client(agent: RunningAgent) -> Iterator[AgentClient]:
    with contextlib.closing(connect(agent)) as client:
        yield client


def connect(agent: RunningAgent) -> AgentClient:
    return AgentClient(agent.address, host="web1", identity=agent.collector, agent_certificate=agent.certificate_pem)


def tree(top: Path) -> Path:
    """Files, links that lead everywhere, hard links, odd names, holes, modes and times."""
    (top / "etc" / "empty").mkdir(parents=True)
    (top / "etc" / "a").write_text("one")
    (top / "etc" / "a").chmod(0o640)
    os.utime(top / "etc" / "a", ns=(1, 1_234_567_890_123_456_789))
    os.link(top / "etc" / "a", top / "etc" / "b")
    (top / "etc" / "relative").symlink_to("a")
    (top / "etc" / "outside").symlink_to("../../../../etc/passwd")
    (top / "etc" / "absolute").symlink_to("/etc/shadow")
    (top / "etc" / "directory").symlink_to("empty")
    (top / "etc" / "dangling").symlink_to("nowhere")
    Path(os.fsdecode(os.fsencode(top) + b"/etc/\xff\n*")).write_text("odd")
    with (top / "etc" / "holes").open("wb") as file:
        file.truncate(1 << 20)
        file.write(b"x")
    (top / "etc" / "empty").chmod(0o500)
    return top


def test_a_tree_arrives_as_it_is(agent: RunningAgent, client: AgentClient, tmp_path: Path, sandbox: Sandbox) -> None:
    source = tree(tmp_path / "source")
    sent = send(source, client.push("web1-etc-1"), sandbox)
    result = agent.base / "restore" / "web1-etc-1"
    assert (sent.directory, sent.remark) == (str(result), "")
    assert as_rsync_sees(source / "etc", result / "etc") == ""
    assert os.readlink(result / "etc" / "absolute") == "/etc/shadow"
    assert (result / "etc" / "holes").stat().st_blocks * 512 < 1 << 20
    assert [path.name for path in (agent.base / "restore").iterdir()] == ["web1-etc-1"]
    assert result.parent.stat().st_mode & 0o777 == 0o700


def test_set_id_bits_are_left_out(agent: RunningAgent, client: AgentClient, tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "su").write_text("#!/bin/sh\n")
    (tmp_path / "source" / "su").chmod(0o6755)
    send(tmp_path / "source", client.push("one"), sandbox)
    assert (agent.base / "restore" / "one" / "su").stat().st_mode & 0o7777 == 0o755


def test_a_host_that_does_not_allow_it_refuses(tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / "source").mkdir()
    with RunningAgent(tmp_path / "agent") as agent, contextlib.closing(connect(agent)) as client:
        with pytest.raises(RestoreError) as caught:
            send(tmp_path / "source", client.push("one"), sandbox)
        assert caught.value.cause == "web1: restore: this host takes none"
        assert caught.value.hint == "allow it there in agent.toml: [restore] enabled = true"
        assert not (tmp_path / "agent" / "state" / "restore").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "x.partial", "a\nb", "x" * 300])
def test_a_name_that_leads_elsewhere_is_refused(
    agent: RunningAgent, client: AgentClient, tmp_path: Path, sandbox: Sandbox, name: str
) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(RestoreError, match="not a name for a directory"):
        send(tmp_path / "source", client.push(name), sandbox)
    assert not (agent.base / "restore").exists()


def test_what_is_there_is_never_touched(
    agent: RunningAgent, client: AgentClient, tmp_path: Path, sandbox: Sandbox
) -> None:
    source = tree(tmp_path / "source")
    (agent.base / "restore").mkdir(mode=0o700)
    for name, make in (
        ("file", lambda path: path.write_text("mine")),
        ("directory", lambda path: path.mkdir()),
        ("link", lambda path: path.symlink_to("/etc")),
        ("dangling", lambda path: path.symlink_to("/nowhere")),
    ):
        make(agent.base / "restore" / name)
        with pytest.raises(RestoreError, match="is there already"):
            send(source, client.push(name), sandbox)
    assert (agent.base / "restore" / "file").read_text() == "mine"
    assert list((agent.base / "restore" / "directory").iterdir()) == []


@pytest.mark.parametrize("planted", ["restore", "partial"])
def test_a_link_in_its_way_is_not_followed(
    agent: RunningAgent, client: AgentClient, tmp_path: Path, sandbox: Sandbox, planted: str
) -> None:
    source, outside = tree(tmp_path / "source"), tmp_path / "outside"
    outside.mkdir()
    if planted == "restore":
        (agent.base / "restore").symlink_to(outside)
    else:
        (agent.base / "restore").mkdir(mode=0o700)
        (agent.base / "restore" / "one.partial").symlink_to(outside)
    with pytest.raises(RestoreError, match="cannot be used"):
        send(source, client.push("one"), sandbox)
    assert list(outside.iterdir()) == []


def test_a_directory_that_others_may_write_to_is_refused(
    agent: RunningAgent, client: AgentClient, tmp_path: Path, sandbox: Sandbox
) -> None:
    (agent.base / "restore").mkdir()
    (agent.base / "restore").chmod(0o777)
    with pytest.raises(RestoreError, match="others than the agent may write"):
        send(tree(tmp_path / "source"), client.push("one"), sandbox)


def test_links_that_were_sent_lead_nowhere_while_files_are_written(
    agent: RunningAgent, client: AgentClient, tmp_path: Path
) -> None:
    """A taken-over collector sends a link first, then a file through it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    (first / "way").symlink_to(outside)
    (second / "way").mkdir(parents=True)
    (second / "way" / "planted").write_text("x")
    # The first run breaks off after the link, so that the second goes on in the same directory.
    for source, options in ((first, ["--max-size=0"]), (second, [])):
        push = client.push("one")

        def argv(fd: int, source: Path = source, options: list[str] = options) -> list[str]:
            *head, _, target = sender(source, fd)
            return [*head, *options, "--keep-dirlinks" if not options else "-v", f"{source}/", target]

        Client(argv).run(push)
    push = client.push("one")
    Client(lambda fd: sender(second, fd)).run(push)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    "option", ["--delete", "-o", "-g", "-D", "--inplace", "--partial-dir=/tmp", "--backup-dir=/tmp/x", "-K", "--append"]
)
def test_options_that_a_restore_does_not_need_are_refused(
    agent: RunningAgent, client: AgentClient, tmp_path: Path, option: str
) -> None:
    source = tree(tmp_path / "source")
    push = client.push("one")

    def argv(fd: int) -> list[str]:
        head, tail = sender(source, fd)[:-2], sender(source, fd)[-2:]
        return [*head, option, *tail]

    ended = Client(argv).run(push)
    assert ended.daemon is not None
    assert ended.daemon.code != 0
    assert not (agent.base / "restore" / "one").exists()


def test_reading_through_it_is_refused(agent: RunningAgent, client: AgentClient, tmp_path: Path) -> None:
    (agent.base / "restore" / "one.partial").mkdir(parents=True, mode=0o700)
    (agent.base / "restore").chmod(0o700)
    (agent.base / "restore" / "one.partial" / "secret").write_text("x")
    (tmp_path / "got").mkdir()

    def argv(fd: int) -> list[str]:
        *head, source, target = sender(tmp_path / "got", fd)
        return [*head, target, source]

    Client(argv).run(client.push("one"))
    assert list((tmp_path / "got").iterdir()) == []


def test_a_restore_that_broke_off_goes_on(
    agent: RunningAgent, client: AgentClient, tmp_path: Path, sandbox: Sandbox
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(40):
        (source / f"{number:02}").write_bytes(os.urandom(1 << 20))
    partial = agent.base / "restore" / "one.partial"
    push = client.push("one")
    failed: list[BackupError] = []

    def work() -> None:
        try:
            send(source, push, sandbox)
        except BackupError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()

    def begun() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return sum(name.isdigit() for name in os.listdir(partial)) >= 2
        return not thread.is_alive()  # all of it arrived, between two looks

    until(begun, what="the first files")
    agent.stop(9)
    thread.join(60)
    assert [isinstance(error, ConnectError) for error in failed] in ([True], [])
    agent.start()
    with contextlib.closing(connect(agent)) as again:
        if not failed:
            return  # all of it arrived before the end
        sent = send(source, again.push("one"), sandbox)
    assert as_rsync_sees(source, Path(sent.directory)) == ""


def test_one_restore_at_a_time(agent: RunningAgent, client: AgentClient, tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / "source").mkdir()
    first = client.push("one")
    begun, go = threading.Event(), threading.Event()

    def ends() -> None:
        begun.set()
        go.wait(60)

    thread = threading.Thread(target=lambda: first.run(ends))
    thread.start()
    try:
        assert begun.wait(60)
        until(lambda: (agent.base / "restore" / "one.partial").exists(), what="the first to begin")
        with pytest.raises(AgentBusy, match="another restore is on its way"):
            send(tmp_path / "source", client.push("two"), sandbox)
    finally:
        go.set()
        thread.join(60)


def test_a_collector_that_is_not_trusted_any_more_is_cut_off(
    agent: RunningAgent, tmp_path: Path, sandbox: Sandbox
) -> None:
    stranger = load_or_create(tmp_path / "stranger", "collector")
    client = AgentClient(agent.address, host="web1", identity=stranger, agent_certificate=agent.certificate_pem)
    (tmp_path / "source").mkdir()
    with contextlib.closing(client), pytest.raises(ConnectError):
        send(tmp_path / "source", client.push("one"), sandbox)
    assert not (agent.base / "restore").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a file system")
def test_a_full_host_says_so_and_keeps_what_arrived(tmp_path: Path, sandbox: Sandbox) -> None:
    agent = RunningAgent(tmp_path / "agent", restore=True)
    (agent.base / "restore").mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(agent.base / "restore")]
    subprocess.run(mount, check=True)
    try:
        (tmp_path / "source").mkdir()
        (tmp_path / "source" / "large").write_bytes(os.urandom(4 << 20))
        with agent, contextlib.closing(connect(agent)) as client:
            with pytest.raises(BackupError, match="No space left on device"):
                send(tmp_path / "source", client.push("one"), sandbox)
            assert not (agent.base / "restore" / "one").exists()
    finally:
        subprocess.run(["umount", str(agent.base / "restore")], check=True)


def test_check_tells_whether_restores_can_be_taken(agent: RunningAgent) -> None:
    argv = [sys.executable, "-m", "pyrsyncbackup_agent", "check", "--config", str(agent.config)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert f"restores: into {agent.base / 'restore'}" in done.stdout
