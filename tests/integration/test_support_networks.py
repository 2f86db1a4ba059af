"""The networks that other tests use do what those tests take for granted."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time

import pytest

from tests.support import firewall
from tests.support.delay_proxy import delay_proxy, turns
from tests.support.network import Network, needs_network
from tests.support.tcp import exactly
from tests.support.waiting import until
from tests.support.wire import record, tls_records

pytestmark = [needs_network, pytest.mark.root]


@pytest.fixture
def net():
    with Network() as net:
        yield net


@contextlib.contextmanager
def echo(node, address, port=7):
    """A server there that sends everything back, and says first what the address of its peer is."""
    with node.inside():
        server = socket.create_server((address, port))

    def answer(connection, peer):
        with connection, contextlib.suppress(OSError):
            connection.sendall(f"{peer[0]:<16}".encode())
            while data := connection.recv(4096):
                connection.sendall(data)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=server.accept(), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def _running_in(node):
    return subprocess.run(["ip", "netns", "pids", node.namespace], capture_output=True, check=True, text=True).stdout


def _namespaces(net):
    """Its own; other tests have others at the same time."""
    return {name for name in os.listdir("/run/netns") if name.startswith(net.prefix)}


def test_nothing_of_a_network_is_left(net):
    node, other = net.node("a"), net.node("b")
    net.link(node, other, "10.9.0.0/24")
    sleeper = node.popen("sleep", "1000")
    until(lambda: str(sleeper.pid) in _running_in(node))
    assert _namespaces(net) == {node.namespace, other.namespace}
    net.__exit__()
    assert sleeper.returncode == -9
    assert _namespaces(net) == set()
    net.nodes.clear()


def test_a_link_goes_dead_and_comes_back(net):
    one, other = net.node("one"), net.node("other")
    link = net.link(one, other, "10.9.0.0/24")
    with echo(other, "10.9.0.2"), one.connect("10.9.0.2", 7) as connection:
        assert exactly(connection, 16).strip() == b"10.9.0.1"
        link.drop()
        connection.sendall(b"hello")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        assert not one.reaches("10.9.0.2", 7, timeout=0.2)
        link.restore()
        connection.settimeout(60)
        assert exactly(connection, 5) == b"hello"


def test_a_rate_holds(net):
    one, other = net.node("one"), net.node("other")
    link = net.link(one, other, "10.9.0.0/24")
    link.rate("8mbit")
    with echo(other, "10.9.0.2"), one.connect("10.9.0.2", 7) as connection:
        began = time.monotonic()
        connection.sendall(bytes(1 << 19))
        connection.shutdown(socket.SHUT_WR)
        assert sum(map(len, iter(lambda: connection.recv(1 << 16), b""))) == 16 + (1 << 19)
        assert time.monotonic() - began > 0.4
    link.full_rate()


def test_a_router_publishes_a_port_hides_what_is_behind_and_refuses_calls(net):
    outer, router, inner = net.node("outer"), net.node("router"), net.node("inner")
    net.link(outer, router, "10.9.0.0/24")
    net.link(router, inner, "192.168.9.0/24")
    inner.route("default", "192.168.9.1")
    firewall.masquerade(router, "outer")
    firewall.publish(router, "outer", 2000, "192.168.9.2", 7)
    with echo(outer, "10.9.0.1"), echo(inner, "192.168.9.2"):
        with inner.connect("10.9.0.1", 7) as connection:
            assert exactly(connection, 16).strip() == b"10.9.0.2"
        calls = firewall.refuse_calls_through(router, "outer")
        with outer.connect("10.9.0.2", 2000) as connection:
            assert exactly(connection, 16).strip() == b"10.9.0.1"
            assert calls.packets == 0
            assert not inner.reaches("10.9.0.1", 7, timeout=0.2)
            assert calls.packets > 0
            firewall.forget_connections(router, "outer")
            connection.settimeout(0.2)
            connection.sendall(b"?")
            with pytest.raises(TimeoutError):
                connection.recv(1)
        assert outer.reaches("10.9.0.2", 2000)
        firewall.remember_connections(router)


def test_calls_to_a_node_are_refused_and_counted(net):
    one, other = net.node("one"), net.node("other")
    net.link(one, other, "10.9.0.0/24")
    with echo(one, "10.9.0.1"), echo(other, "10.9.0.2"):
        calls = firewall.refuse_calls_to(one)
        assert one.reaches("10.9.0.2", 7)
        assert calls.packets == 0
        assert not other.reaches("10.9.0.1", 7, timeout=0.2)
        assert calls.packets > 0


def test_several_nodes_share_a_subnet(net):
    members = [net.node(name) for name in "abc"]
    net.subnet("switch", "10.9.0.0/24", {member: 10 + number for number, member in enumerate(members)})
    with echo(members[2], "10.9.0.12"):
        assert all(member.reaches("10.9.0.12", 7) for member in members)


def test_a_recording_shows_what_passes_in_clear(net):
    one, other = net.node("one"), net.node("other")
    net.link(one, other, "10.9.0.0/24")
    with echo(other, "10.9.0.2"), record(one, "other") as seen, one.connect("10.9.0.2", 7) as connection:
        connection.sendall(b"the marker")
        exactly(connection, 26)
    assert seen.shows(b"the marker")
    assert not seen.shows(b"another one")
    assert [stream[-10:] for stream in seen.streams(7)] == [b"the marker", b"the marker"]
    with pytest.raises(AssertionError, match="no TLS record"):
        tls_records(seen.streams(7)[0])


def test_a_delay_costs_setup_and_each_turn_but_no_throughput(net, tmp_path):
    one = net.node("one")
    with (
        echo(one, "127.0.0.1"),
        delay_proxy(tmp_path / "log", "127.0.0.1:0", "127.0.0.1:7", 0.1, one.prefix) as proxy,
        contextlib.ExitStack() as stack,
    ):
        began = time.monotonic()
        connection = stack.enter_context(one.connect("127.0.0.1", proxy.port))
        connection.sendall(b"1")
        assert exactly(connection, 17)[-1:] == b"1"
        assert time.monotonic() - began >= 0.4
        connection.sendall(b"2")
        assert connection.recv(1) == b"2"
        connection.sendall(bytes(32 << 20))
        connection.shutdown(socket.SHUT_WR)
        assert sum(map(len, iter(lambda: connection.recv(1 << 16), b""))) == 32 << 20
        assert time.monotonic() - began < 0.1 * len(proxy.seen()), "the pieces waited one after the other"
        assert proxy.connections == 1
        assert turns(proxy.seen()) >= 3
        assert {piece.side for piece in proxy.seen()} == {"client", "server"}
