"""Hosts whose sshd is reached through the SSH connection of another host, which needs no agent for it."""

from __future__ import annotations

import pytest

from tests.support.network import needs_network
from tests.support.routes_world import SSH_PORT, routes_world

pytestmark = [needs_network, pytest.mark.root]


@pytest.fixture
def world():
    """Collector -- jumphost (sshd alone) -- inner (sshd and agent) -- innermost (sshd and agent)."""
    with routes_world() as world:
        net = world.net
        jumphost, inner, innermost = (net.node(name) for name in ("jumphost", "inner", "innermost"))
        net.link(world.node, jumphost, "10.1.0.0/24")
        net.link(jumphost, inner, "10.20.0.0/24")
        net.link(inner, innermost, "10.30.0.0/24")
        for node in (inner, innermost):
            world.site(node).fill(20, 5000)
        for node, address in ((jumphost, "10.1.0.2"), (inner, "10.20.0.2"), (innermost, "10.30.0.2")):
            world.sshd(node, address)
        world.make()
        world.start()
        world.introduce()
        world.define("jumphost", *world.over_ssh(world.sshds["jumphost"]), "enabled = false")
        yield world


def one_line(text):
    """As it was before it was broken into lines for a terminal."""
    return " ".join(text.split())


def define_both(world, *lines, known=("inner", "innermost")):
    for name, jump in (("inner", "jumphost"), ("innermost", "inner")):
        world.define(name, *world.over_ssh(world.sshds[name], jump=jump), *lines)
        if name in known:
            world.know(world.sshds[name], jump)


@pytest.mark.parametrize("transport", ["sshtunnel", "openssh"])
def test_hosts_are_pulled_through_one_and_two_jumps(world, transport):
    define_both(world, f'transport = "{transport}"')
    assert not world.node.reaches("10.20.0.2", SSH_PORT, timeout=0.3)
    assert world.pull("inner", "innermost") == {"inner": ("complete", None), "innermost": ("complete", None)}
    assert world.restored_alike("inner")
    assert world.restored_alike("innermost")
    assert "unchanged" in world.run("pull", "innermost")


@pytest.mark.parametrize("transport", ["sshtunnel", "openssh"])
def test_the_key_of_each_server_on_the_way_must_be_known(world, transport):
    define_both(world, f'transport = "{transport}"', known=())
    refused = world.command("pull", "innermost")
    assert refused.returncode == 5
    assert (
        "innermost: hop 2 of 3: inner: the SSH host key of [10.20.0.2]:2222 behind jumphost is not known"
        in one_line(refused.stdout)
    )
    for name in ("inner", "innermost"):
        assert f"pyrsyncbackup host trust {name}" in one_line(world.command("pull", name).stdout)
        world.run("host", "trust", name, "--ssh-fingerprint", world.sshds[name].fingerprint)
    assert world.pull("innermost") == {"innermost": ("complete", None)}


def test_a_host_that_does_not_let_others_through_is_named(world):
    define_both(world)
    world.sshds["jumphost"].options = ["AllowTcpForwarding no"]
    world.sshds["jumphost"].restart()
    done = world.command("pull", "innermost")
    assert done.returncode == 5
    assert "hop " in done.stdout
    assert "forbids" in done.stdout
    assert "jumphost" in done.stdout


def test_a_jump_whose_target_refuses_connections_is_named(world):
    define_both(world)
    world.sshds["innermost"].kill()
    done = world.command("pull", "innermost")
    assert done.returncode == 5
    said = f"innermost: hop 3 of 3: inner: its SSH server could not connect to 10.30.0.2:{SSH_PORT}"
    assert said in one_line(done.stdout)
