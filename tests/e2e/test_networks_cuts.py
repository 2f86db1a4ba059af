"""Servers that cut sessions in the middle of a pull, and bastions that are gone."""

from __future__ import annotations

import pytest

from tests.support.network import needs_network
from tests.support.routes_world import AGENT_PORT, routes_world
from tests.support.topologies import next_door, with_peers
from tests.support.waiting import until

pytestmark = [needs_network, pytest.mark.root]


@pytest.fixture
def world():
    with routes_world() as world:
        yield world


@pytest.mark.parametrize("transport", ["sshtunnel", "openssh"])
def test_a_server_that_cuts_sessions_again_and_again_does_not_break_a_pull(world, transport):
    link = next_door(world, "web", "10.2.0.0/24", f'transport = "{transport}"')
    web = world.sites["web"]
    web.fill(800, 25_000)
    world.make("[limits]\nbatch_files = 50\n")
    world.start()
    world.introduce()
    # Seven seconds for all of it: so that a part is still on its way when a busy machine has seen the one before.
    link.rate("25mbit")
    pull = world.begin_pull("web")
    size = 800 * 25_000
    for part in (1, 2, 3):
        mark = part * size // 4
        until(lambda m=mark: world.node.received("web") > m or pull.poll() is not None, what=f"{mark} bytes")
        assert pull.poll() is None, pull.communicate()
        world.sshds["web"].cut()
    link.full_rate()
    assert world.end_pull(pull) == {"web": "complete"}
    assert world.node.received("web") < 1.5 * size
    assert [each["sequence"] for each in world.ask("snapshots")["snapshots"]] == [1]
    assert world.restored_alike("web")


def test_a_cut_session_of_a_bastion_does_not_break_the_pull_of_what_is_behind(world):
    with_peers(world)
    world.sites["db1"].fill(200, 25_000)
    world.net.links["collector", "bastion"].rate("25mbit")
    pull = world.begin_pull("db1")
    until(lambda: world.node.received("bastion") > 2_000_000 or pull.poll() is not None, what="data")
    world.sshds["bastion"].cut()
    assert world.end_pull(pull) == {"db1": "complete"}
    assert world.restored_alike("db1")


def test_of_two_bastions_the_second_is_used_while_the_first_is_gone(world):
    net = world.net
    for number, name in enumerate(("bastion1", "bastion2"), start=1):
        net.link(world.node, net.node(name), f"10.{number}.0.0/24")
        world.sshd(net.nodes[name], f"10.{number}.0.2")
    db1 = net.node("db1")
    net.subnet("inside", "10.20.0.0/24", {net.nodes["bastion1"]: 1, net.nodes["bastion2"]: 2, db1: 5})
    peers = {"db1": f"10.20.0.5:{AGENT_PORT}"}
    for name in ("bastion1", "bastion2"):
        world.site(net.nodes[name], peers=peers)
    site = world.site(db1, listen="10.20.0.5")
    site.fill(20, 50_000)
    world.make()
    world.start()
    world.introduce()
    for name in ("bastion1", "bastion2"):
        world.define(name, *world.over_ssh(world.sshds[name]))
    world.define("db1", 'via = ["bastion1", "bastion2"]')

    def through():
        before = {name: world.node.received(name) for name in ("bastion1", "bastion2")}
        assert world.pull("db1") == {"db1": ("complete", None)}
        return {name for name, count in before.items() if world.node.received(name) - count > 1_000_000}

    assert through() == {"bastion1"}
    world.sshds["bastion1"].kill()
    world.sites["bastion1"].agent.stop()
    site.fill(20, 50_000, seed=1)
    assert through() == {"bastion2"}
    world.sshds["bastion1"].start()
    world.sites["bastion1"].agent.start()
    site.fill(20, 50_000, seed=2)
    assert through() == {"bastion1"}
    # A relay that is there, and does not reach the host.
    world.sites["bastion1"].node.nft(
        "table inet cut { chain out { type filter hook output priority 0; ip daddr 10.20.0.5 reject; }\n}\n"
    )
    site.fill(20, 50_000, seed=3)
    assert through() == {"bastion2"}
    assert world.restored_alike("db1")
