"""Which peers of a relay are taken in by themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyrsyncbackup_collector.config import Config, load
from pyrsyncbackup_collector.daemon import newcomers
from pyrsyncbackup_collector.errors import AgentKeyUnknown, ConfigError
from pyrsyncbackup_collector.fleet import Fleet, Host
from pyrsyncbackup_collector.transport.offer import Peer

from tests.support.still_clock import StillClock


@dataclass
class Connections:
    """Lets in who is `proven`."""

    proven: set[str]
    met: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    # What each meeting takes, in seconds.
    clock: StillClock = field(default_factory=StillClock)
    slow: float = 0.0

    @contextlib.contextmanager
    def agent(self, host: Host, *, now: bool) -> Iterator[None]:
        self.met.append(host.name)
        self.clock.time += self.slow
        if host.peer not in self.proven:
            raise AgentKeyUnknown(f"{host.name}: \x1b not trusted yet", "compare it")
        yield

    def forget(self, name: str) -> None:
        self.forgotten.append(name)


@dataclass
class Scene:
    folder: Path
    accept: str = "auto"
    connections: Connections = field(default_factory=lambda: Connections(set()))
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        hosts = f'[[host]]\nname = "bastion"\naccept = "{self.accept}"\n[[host]]\nname = "web1"\nvia = "bastion"\n'
        (self.folder / "collector.toml").write_text(f'store = "s"\ncatalog = "c"\nstate = "state"\n{hosts}')
        return load(self.folder / "collector.toml")

    def meet(self, *peers: Peer) -> tuple[bool, dict[str, str]]:
        """One check of the relay."""
        self.connections.met.clear()
        seen = [SimpleNamespace(name=name, refused=why) for name, why in self.refused.items()]
        catalog = SimpleNamespace(peers=lambda relay: seen, host={"old1": "was there"}.get)
        parts: Any = SimpleNamespace(connections=self.connections, clock=self.connections.clock, catalog=catalog)
        relay = Fleet.from_config(self.config).host("bastion")
        taken, self.refused = newcomers.take_in(parts, self.config, relay, peers)
        return taken, self.refused


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_who_proves_himself_is_a_host_from_then_on(scene: Scene) -> None:
    scene.connections.proven = {"db1"}
    taken, refused = scene.meet(Peer("db1"), Peer("db2"), Peer("web1"), Peer("away", answers=False))
    assert taken
    by_hand = "`pyrsyncbackup host accept db2 --fingerprint ...` takes it in by hand"
    assert refused == {"db2": f"\\x1b not trusted yet ({by_hand})"}
    assert scene.connections.met == ["db1", "db2"]
    assert scene.connections.forgotten == ["db2"]
    text = (scene.folder / "state" / "accepted" / "db1.toml").read_text()
    assert text.startswith('# Taken in by accept = "auto", 2026-09-21 ')
    assert Fleet.from_config(scene.config).host("db1").peer == "db1"
    # And is met no more.
    assert scene.meet(Peer("db1")) == (False, {})
    assert scene.connections.met == []


def test_a_name_that_is_taken_is_refused_unasked(scene: Scene) -> None:
    scene.connections.proven = {"bastion"}
    assert scene.meet(Peer("bastion")) == (
        False,
        {"bastion": "another host is called bastion (`pyrsyncbackup host accept bastion --as OTHERNAME`)"},
    )
    assert scene.connections.met == []


def test_without_auto_nobody_is_met(scene: Scene) -> None:
    scene.accept = "manual"
    scene.connections.proven = {"db1"}
    assert scene.meet(Peer("db1")) == (False, {})
    assert scene.connections.met == []


def test_those_that_are_refused_do_not_keep_others_from_their_turn(scene: Scene) -> None:
    peers = [Peer(f"p{number:02}") for number in range(30)]
    scene.connections.proven = {"p29"}
    scene.connections.slow = newcomers.LONGEST / 20
    assert not scene.meet(*peers)[0]
    assert len(scene.connections.met) == 21
    assert scene.meet(*peers)[0]
    assert len(scene.connections.met) == 21


def test_a_file_that_cannot_be_written_is_a_reason_as_well(scene: Scene) -> None:
    scene.connections.proven = {"db1"}
    (scene.folder / "state").write_text("no directory")
    taken, refused = scene.meet(Peer("db1"))
    assert not taken
    assert "cannot be written: Not a directory" in refused["db1"]


def test_a_name_with_a_history_is_not_taken_over(scene: Scene) -> None:
    scene.connections.proven = {"old1"}
    taken, refused = scene.meet(Peer("old1"))
    assert not taken
    assert refused["old1"].startswith("there are backups of a host that was called old1 (")
    assert scene.connections.met == []


def test_who_was_defined_since_the_daemon_read_its_files_is_known(scene: Scene) -> None:
    scene.connections.proven = {"db1"}
    files = scene.folder / "hosts.d"
    files.mkdir()
    (files / "db1.toml").write_text('[[host]]\nname = "db1"\nvia = "bastion"\n')
    assert scene.meet(Peer("db1")) == (False, {})
    (files / "db1.toml").write_text("[[host]")
    with pytest.raises(ConfigError):
        scene.meet(Peer("db1"))
