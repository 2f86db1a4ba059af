"""Paths that go dead without a word to either end: packets are lost, no connection is reset."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from tests.support import firewall
from tests.support.network import Link, Node, needs_network
from tests.support.routes_world import AGENT_PORT, SSH_PORT, routes_world
from tests.support.topologies import behind_a_router, next_door, with_peers
from tests.support.waiting import until

pytestmark = [needs_network, pytest.mark.root]

# A dead path is found within 30 s; the rest is for a machine that is busy.
NOTICED = 90.0


@dataclass(frozen=True)
class Path:
    """The way to a host that shall go dead: who dials there, from which address and to which port."""

    host: str
    link: Link
    dials: Node
    address: str
    port: int

    def connections(self):
        """Own ends of those that are established."""
        lines = self.dials.run("ss", "-Htn", "state", "established", "dport", "=", f":{self.port}").stdout.splitlines()
        return {end for end in (line.split()[2] for line in lines) if end.startswith(self.address)}


@pytest.fixture
def world():
    with routes_world() as world:
        yield world


@pytest.mark.timeout(600)
def test_pulls_notice_paths_that_have_gone_dead_and_go_on(world):
    """Four at once, as each takes its minute: before the server (twice), behind a relay, in a router that forgets.

    Half of it until the collector notices, the rest until the agents do, who hold their modules for it.
    """
    net = world.net
    web = Path("web", next_door(world, "web", "10.2.0.0/24"), world.node, "10.2.0.1", SSH_PORT)
    mail_link = next_door(world, "mail", "10.4.0.0/24", 'transport = "openssh"')
    mail = Path("mail", mail_link, world.node, "10.4.0.1", SSH_PORT)
    branch = Path("branch", behind_a_router(world, "branch"), world.node, "10.3.0.1", SSH_PORT)
    calls = firewall.refuse_calls_through(net.nodes["router"], "collector")
    with_peers(world, more='[limits]\nconnect = "5s"\n')
    db1 = Path("db1", net.links["db1", "inside"], net.nodes["bastion"], "10.20.0.1", AGENT_PORT)
    paths = (web, mail, branch, db1)
    for path in paths:
        world.sites[path.host].fill(500, 15_000)
        # Half a minute for all of it: the first is still on its way when the last has begun.
        path.link.rate("2mbit")

    pull = world.begin_pull(*(path.host for path in paths))
    for neighbour in ("web", "mail", "router", "bastion"):
        until(lambda n=neighbour: world.node.received(n) > 600_000 or pull.poll() is not None, what=neighbour)
    before = {path.host: path.connections() for path in paths}
    assert all(before.values()), before
    for path in (web, mail, db1):
        path.link.drop()
    firewall.forget_connections(net.nodes["router"], "collector")
    began = time.monotonic()
    for path in paths:
        left = NOTICED - (time.monotonic() - began)
        until(lambda p=path: not before[p.host] & p.connections(), left, f"the end of the old way to {path.host}")
    assert pull.poll() is None, pull.communicate()

    for path in paths:
        path.link.full_rate()
    for path in (web, mail, db1):
        path.link.restore()
    assert world.end_pull(pull) == dict.fromkeys(("web", "mail", "branch", "db1"), "complete")
    assert all(world.restored_alike(path.host) for path in paths)
    # One run each, and one snapshot.
    assert [each["sequence"] for each in world.ask("snapshots")["snapshots"]] == [1, 1, 1, 1]
    assert calls.packets == 0


def test_behind_a_router_nothing_calls_out_and_nothing_could(world):
    behind_a_router(world, "branch")
    branch, router = world.sites["branch"], world.net.nodes["router"]
    branch.fill(10, 1000)
    world.make()
    world.start()
    world.introduce()
    calls = firewall.refuse_calls_through(router, "collector")
    assert world.pull("branch") == {"branch": ("complete", None)}
    assert world.restored_alike("branch")
    assert calls.packets == 0
    assert not branch.node.reaches("10.3.0.1", SSH_PORT, timeout=0.3)
    assert calls.packets > 0
