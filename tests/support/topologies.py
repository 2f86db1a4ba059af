"""The networks in which hosts are hard to reach, as `RoutesWorld`s that are started and configured.

    collector 10.1.0.1 -- 10.1.0.2 bastion 10.20.0.1 -- inside -- 10.20.0.5 db1
                                                               -- 10.20.0.6 mid 10.30.0.1 -- 10.30.0.2 deep

The bastion forwards no packets; its default route is of no use to those behind it, and they have no other.
"""

from __future__ import annotations

from tests.support import firewall
from tests.support.network import Link
from tests.support.routes_world import AGENT_PORT, SSH_PORT, RoutesWorld

BASTION, NEAR_DB1, NEAR_MID, NEAR_DEEP = "10.1.0.2", "10.20.0.5", "10.20.0.6", "10.30.0.2"


def with_peers(
    world: RoutesWorld, *, deep: bool = False, introduced: bool = True, accept: str = "", more: str = ""
) -> None:
    """The bastion with db1 behind it, and mid and `deep` if that is wanted: started, configured, trusted.

    Not `introduced`: the agents do not know the collector yet. `accept` is the bastion's, when it is not the default,
    and `more` goes to collector.toml.
    """
    net = world.net
    bastion, db1 = net.node("bastion"), net.node("db1")
    net.link(world.node, bastion, "10.1.0.0/24")
    members = {bastion: 1, db1: 5}
    peers = {"db1": f"{NEAR_DB1}:{AGENT_PORT}"}
    if deep:
        mid, last = net.node("mid"), net.node("deep")
        members[mid] = 6
        net.link(mid, last, "10.30.0.0/24")
        last.route("default", "10.30.0.1")
        peers["mid"] = f"{NEAR_MID}:{AGENT_PORT}"
        world.site(mid, listen=NEAR_MID, peers={"deep": f"{NEAR_DEEP}:{AGENT_PORT}"})
        world.site(last, listen=NEAR_DEEP)
    net.subnet("inside", "10.20.0.0/24", members)
    for node in members:
        if node is not bastion:
            node.route("default", "10.20.0.1")
    world.site(bastion, peers=peers)
    world.site(db1, listen=NEAR_DB1)
    world.sshd(bastion, BASTION)
    world.make(more)
    world.start()
    world.introduce(agents=introduced)
    world.define("bastion", *world.over_ssh(world.sshds["bastion"]), *([f'accept = "{accept}"'] if accept else []))
    world.define("db1", 'via = "bastion"')
    if deep:
        world.define("mid", 'via = "bastion"')
        world.define("deep", 'via = "mid"')


def next_door(world: RoutesWorld, name: str, subnet: str, *lines: str) -> Link:
    """A host with an sshd on a link of its own to the collector; to be started with the rest. `lines` define more."""
    node = world.net.node(name)
    link = world.net.link(world.node, node, subnet)
    world.site(node)
    world.define(name, *world.over_ssh(world.sshd(node, node.address)), *lines)
    return link


def behind_a_router(world: RoutesWorld, name: str) -> Link:
    """A host behind a router (10.3.0.2) that hides it and publishes its sshd; to be started with the rest."""
    router, node = world.net.node("router"), world.net.node(name)
    world.net.link(world.node, router, "10.3.0.0/24")
    link = world.net.link(router, node, "192.168.7.0/24")
    node.route("default", "192.168.7.1")
    firewall.masquerade(router, "collector")
    firewall.publish(router, "collector", SSH_PORT, "192.168.7.2", SSH_PORT)
    world.site(node)
    sshd = world.sshd(node, "192.168.7.2")
    sshd.known_as = "10.3.0.2"
    world.define(name, *world.over_ssh(sshd))
    return link
