"""Hosts behind a relay, as an administrator finds them, takes them in, tests the way and reads what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pyrsyncbackup import identity
from pyrsyncbackup_collector.transport.invitations import invite

from tests.support.agent import RunningAgent
from tests.support.collector import RunningCollector
from tests.support.waiting import until

NOTHING = 'modules = { include = ["none"] }'
DATA = '[policy]\ncheck = "1s"\npull = "1h"\n[[rule]]\nmodules = "[!d]*"\nenabled = false\n'


class Scene:
    """A bastion with a relay, which the collector knows, and two agents behind it, which it does not."""

    def __init__(self, folder: Path, stack: ExitStack, most: int | bool = True) -> None:
        self.folder = folder
        self.relay = stack.enter_context(RunningAgent(folder / "relay", name="bastion", relay=most))
        self.one = stack.enter_context(RunningAgent(folder / "one", name="one"))
        self.two = stack.enter_context(RunningAgent(folder / "two", name="two"))
        (folder / "data").mkdir()
        (folder / "data" / "a").write_text("a\n")
        for agent in (self.one, self.two):
            agent.module("data", folder / "data")
        self.relay.peer("db1", self.one.address, "The database")
        self.relay.peer("db2", self.two.address)
        self.relay.peer("gone", "127.0.0.1:9")
        self.relay.reload()
        self.collector = RunningCollector(folder / "c", DATA)
        stack.callback(self.collector.stop, signal.SIGKILL)
        self.collector.host("bastion", self.relay, NOTHING)
        # Both let the collector in; only one was invited in a way that proves something behind a relay.
        invitation = invite(self.collector.base, via="bastion")
        self.one.trust("ours", invitation.certificate_pem, invitation.secret)
        self.two.trust("ours", invitation.certificate_pem, invite(self.collector.base).secret)

    @property
    def fingerprint(self) -> str:
        return identity.fingerprint(self.two.certificate_pem)

    def see(self) -> None:
        """Have a daemon check the relay once, and end it."""
        with self.collector.start():
            until(self.offered)

    def offered(self) -> list[str]:
        with self.collector.catalog() as catalog:
            return [peer.name for peer in catalog.peers()]

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        environment = os.environ | {"PYRSYNCBACKUP_CONFIG": str(self.collector.file), "HOME": str(home)}
        program = Path(sys.executable).with_name("pyrsyncbackup")
        return subprocess.run(
            [program, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def run(self, *arguments: str, code: int = 0) -> str:
        done = self.command(*arguments)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout + done.stderr

    def ask(self, *arguments: str, code: int = 0) -> Any:
        done = self.command(*arguments, "--json")
        assert done.returncode == code, (done.stdout, done.stderr)
        return json.loads(done.stdout)


@pytest.fixture
def most() -> int | bool:
    """Connections that the relay passes on at a time."""
    return True


@pytest.fixture
def scene(most: int | bool) -> Iterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="r-", dir="/tmp") as folder, ExitStack() as stack:
        yield Scene(Path(folder), stack, most)


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_offered_hosts_are_listed_and_taken_in_by_hand(scene: Scene) -> None:
    scene.see()
    listed = scene.ask("host", "list")
    assert [host["host"] for host in listed["hosts"]] == ["bastion"]
    assert [(peer["name"], peer["relay"], peer["title"], peer["answers"]) for peer in listed["offered"]] == [
        ("db1", "bastion", "The database", True),
        ("db2", "bastion", "", True),
        ("gone", "bastion", "", False),
    ]
    assert listed["offered"][2]["reason"] == "connection refused"
    text = one_line(scene.run("host", "list"))
    assert "db1 relay bastion offered" in text
    assert "gone relay bastion offered" in text

    # One that proves itself.
    taken = scene.run("host", "accept", "db1")
    assert "pinned, proven by the invitation that it accepted" in one_line(taken)
    assert (scene.collector.base / "accepted" / "db1.toml").exists()
    pulled = scene.ask("pull", "db1/data")["pulls"]
    assert [(each["module"], each["outcome"]) for each in pulled] == [("data", "complete")]

    # One that does not.
    refused = scene.run("host", "accept", "db2", code=5)
    assert "did not prove an invitation that counts here" in one_line(refused)
    assert f"pyrsyncbackup host accept db2 --fingerprint {scene.fingerprint}" in one_line(refused)
    other = identity.fingerprint(scene.one.certificate_pem)
    wrong = one_line(scene.run("host", "accept", "db2", "--fingerprint", other, code=5))
    assert f"the agent shows {scene.fingerprint}, not {other}" in wrong
    assert not (scene.collector.base / "accepted" / "db2.toml").exists()
    assert not (scene.collector.base / "pins" / "db2.pem").exists()
    assert "a host is called db1 already" in one_line(scene.run("host", "accept", "db2", "--as", "db1", code=2))
    assert "is no name" in one_line(scene.run("host", "accept", "db2", "--as", "No Name", code=2))
    scene.run("host", "accept", "db2", "--as", "archive", "--fingerprint", scene.fingerprint)
    shown = scene.ask("host", "show", "archive")
    assert (shown["via"], shown["peer"], shown["pinned"]) == (["bastion"], "db2", True)

    # Those are hosts now; and what nobody offers is told.
    assert [peer["name"] for peer in scene.ask("host", "list")["offered"]] == ["gone"]
    assert "relay bastion as db2" in one_line(scene.run("host", "list"))
    assert "db1 is configured already" in one_line(scene.run("host", "accept", "db1", code=4))
    assert "no relay offers a host called nobody" in one_line(scene.run("host", "accept", "nobody", code=4))
    away = one_line(scene.run("host", "accept", "gone", code=5))
    assert "gone: hop 2 of 2: relay bastion could not connect to 127.0.0.1:9: connection refused" in away


def test_a_relay_with_accept_auto_brings_its_hosts_by_itself(scene: Scene) -> None:
    scene.collector.host("bastion", scene.relay, f'{NOTHING}\naccept = "auto"')
    with scene.collector.start():
        until(lambda: scene.collector.events("host taken in", host="db1", relay="bastion"))
        until(lambda: scene.collector.snapshots("db1", "data"))
        until(lambda: "db2" in scene.offered())
        assert scene.collector.process is not None
        assert scene.collector.process.poll() is None
    text = one_line(scene.run("host", "list"))
    assert (
        f"db2 was not taken in: hop 2 of 2: the agent's key {scene.fingerprint} is not trusted yet: it has the "
        "fleet's invitation, whose secret relay bastion may have as well"
    ) in text
    listed = scene.ask("host", "list")
    assert [host["host"] for host in listed["hosts"]] == ["bastion", "db1"]
    assert {peer["name"]: bool(peer["refused"]) for peer in listed["offered"]} == {"db2": True, "gone": False}
    assert "Traceback" not in scene.collector.log


def test_the_way_over_a_relay_is_walked_hop_by_hop(scene: Scene) -> None:
    scene.see()
    scene.run("host", "accept", "db1")
    walked = scene.ask("host", "test", "db1")
    assert walked["ok"]
    assert [(step["hop"], step["to"], step["step"], step["ok"]) for step in walked["steps"]] == [
        (1, "direct to bastion", "name", True),
        (1, "direct to bastion", "tcp", True),
        (1, "direct to bastion", "agent", True),
        (2, "relay bastion to db1", "relay", True),
        (2, "relay bastion to db1", "agent", True),
        (2, "relay bastion to db1", "protocol", True),
        (2, "relay bastion to db1", "modules", True),
    ]
    text = one_line(scene.run("host", "test", "db1"))
    assert text.startswith("hop 1 of 2: direct to bastion name ok ")
    assert "hop 2 of 2: relay bastion to db1 relay ok " in text

    scene.one.stop()
    cause = f"db1: hop 2 of 2: relay bastion could not connect to {peer_address(scene)}: connection refused"
    failed = scene.ask("host", "test", "db1", code=5)
    assert not failed["ok"]
    assert [(step["step"], step["ok"]) for step in failed["steps"]][-1] == ("relay", False)
    assert failed["steps"][-1]["cause"] == cause
    assert failed["steps"][-1]["hint"] == "is the agent running there, and does it listen on that address?"
    assert cause in one_line(scene.run("host", "test", "db1", code=5))

    # So does whoever asks how the fleet stands.
    scene.run("pull", "db1", code=5)
    told = scene.ask("status", code=14)["problems"]
    assert [(each["host"], each["state"], each["cause"]) for each in told if each["state"] != "stopped"] == [
        ("db1", "unreachable", cause)
    ]
    assert cause in one_line(scene.run("status", code=14))


@pytest.mark.parametrize("most", [1])
def test_the_way_is_walked_where_the_relay_has_room_for_one_connection(scene: Scene) -> None:
    scene.see()
    scene.run("host", "accept", "db1")
    assert scene.ask("host", "test", "db1")["ok"]


def peer_address(scene: Scene) -> str:
    text = (scene.relay.peers_dir / "db1.toml").read_text()
    return text.partition('address = "')[2].partition('"')[0]
