"""What a node lets through, by nftables: translation of addresses, refusals that are counted, memory that is lost."""

from __future__ import annotations

import json

from tests.support.network import Node


def masquerade(router: Node, outside: str) -> None:
    """Make it a router that hides what is behind it from the neighbour `outside`."""
    router.forwarding()
    hook = "type nat hook postrouting priority srcnat;"
    router.nft(f'table ip hide {{ chain out {{ {hook} oifname "{router.interfaces[outside]}" masquerade; }}\n}}\n')


def publish(router: Node, outside: str, port: int, address: str, to_port: int) -> None:
    """Pass connections that come from the neighbour `outside` to `port` on to a machine behind."""
    hook = "type nat hook prerouting priority dstnat;"
    rule = f'iifname "{router.interfaces[outside]}" tcp dport {port} dnat to {address}:{to_port};'
    router.nft(f"table ip publish{port} {{ chain in {{ {hook} {rule} }}\n}}\n")


class Counter:
    """How many packets met a rule."""

    def __init__(self, node: Node, table: str) -> None:
        self._node, self._table = node, table

    @property
    def packets(self) -> int:
        """So far."""
        said = self._node.run("nft", "-j", "list", "counter", "inet", self._table, "met").stdout
        return next(part["counter"]["packets"] for part in json.loads(said)["nftables"] if "counter" in part)


def refuse_calls_through(router: Node, outside: str) -> Counter:
    """Drop whatever begins behind `router` and goes to the neighbour `outside`; counts the attempts."""
    return _refuse(router, "forward", f'oifname "{router.interfaces[outside]}"')


def refuse_calls_to(node: Node, port: int = 0) -> Counter:
    """Drop whatever others begin with `node`, on one port if given; counts the attempts."""
    return _refuse(node, "input", 'iifname != "lo"' + (f" tcp dport {port}" if port else ""))


def _refuse(node: Node, hook: str, which: str) -> Counter:
    table = f"refuse_{hook}"
    # Neighbour discovery of IPv6 is no call; nothing here has an IPv6 route.
    node.nft(
        f"table inet {table} {{\n counter met {{ }}\n"
        f" chain calls {{ type filter hook {hook} priority 0; policy accept;\n"
        f"  meta nfproto ipv4 ct state new {which} counter name met drop\n }}\n}}\n"
    )
    return Counter(node, table)


def forget_connections(router: Node, outside: str) -> None:
    """As a NAT that lost its memory: from now on only connections that begin now come through from `outside`.

    Packets of older ones vanish, both ways. For connections whose outer end keeps its address (`publish`).
    """
    out = router.interfaces[outside]
    router.nft(
        "table inet forgotten {\n"
        " set fresh { type ipv4_addr . inet_service; flags dynamic; size 4096; }\n"
        " chain every { type filter hook prerouting priority raw; policy accept;\n"
        f'  iifname "{out}" tcp flags & (syn | ack) == syn add @fresh {{ ip saddr . tcp sport }} accept\n'
        f'  iifname "{out}" meta l4proto tcp ip saddr . tcp sport != @fresh drop\n'
        f'  iifname != "{out}" meta l4proto tcp ip daddr . tcp dport != @fresh drop\n }}\n}}\n'
    )


def remember_connections(router: Node) -> None:
    """Undo `forget_connections`, so that it can be done again."""
    router.nft("delete table inet forgotten\n")
