"""Whether the hosts that lead to one another (`via`, `ssh.jump`) make ways: known names, no cycle, not too many hops.

It looks at all files together; what a single host may say of itself is checked here as well where two keys exclude each
other.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from pyrsyncbackup_collector.config.lines import Location
from pyrsyncbackup_collector.config.model import HostConfig

MOST_HOPS: Final = 8
# A longer chain is not followed to its end, where it might be a circle.
_DEEP: Final = 100

# A fault: where in the host's table, and what.
Fault = tuple[Location, str]


def faults(hosts: Mapping[str, HostConfig]) -> Iterator[tuple[HostConfig, Location, str]]:
    """Every fault of the ways of these hosts, by name."""
    for host in hosts.values():
        for location, text in (*_excluded(host), *_unknown(host, hosts), *_unreachable_jump(host, hosts)):
            yield host, location, text
    yield from _endless(hosts)


def _excluded(host: HostConfig) -> Iterator[Fault]:
    """Keys that mean nothing beside another one."""
    if host.via:
        for key in ("address", "ssh", "agent_port", "transport"):
            if key in host.model_fields_set:
                yield (key,), "means nothing beside `via`: the relay knows the way; remove one of both"
    elif host.peer is not None:
        yield ("peer",), "means nothing without `via`: it is a relay's name for this host"
    if host.transport == "direct" and host.ssh.jump:
        yield ("ssh", "jump"), 'means nothing with transport = "direct": no SSH connection is made'
    if len(set(host.via)) < len(host.via):
        yield ("via",), "names a host twice"


def _unknown(host: HostConfig, hosts: Mapping[str, HostConfig]) -> Iterator[Fault]:
    for location, name in _named(host):
        if name not in hosts:
            near = difflib.get_close_matches(name, hosts, n=1)
            yield location, f'no host is called "{name}"' + (f'; did you mean "{near[0]}"?' if near else "")


def _unreachable_jump(host: HostConfig, hosts: Mapping[str, HostConfig]) -> Iterator[Fault]:
    jump = hosts.get(host.ssh.jump or "")
    if jump is not None and (jump.via or jump.transport == "direct"):
        yield ("ssh", "jump"), f'"{jump.name}" is not reached by SSH itself, so nobody can jump through it'


def _endless(hosts: Mapping[str, HostConfig]) -> Iterator[tuple[HostConfig, Location, str]]:
    """Cycles, each told once, and ways with too many hops."""
    lengths: dict[str, int] = {}
    told: set[str] = set()

    def length(name: str, walked: tuple[str, ...]) -> int:
        """Hops of the longest way to it; 0 if there is no end."""
        if name in walked:
            cycle = walked[walked.index(name) :]
            if not told & set(cycle):
                told.update(cycle)
                found.append((hosts[cycle[0]], " leads to ".join((*cycle, name))))
            return 0
        if name not in hosts:
            return 0
        if len(walked) > _DEEP:
            return MOST_HOPS + 1
        if name not in lengths:
            before = [length(other, (*walked, name)) for _, other in _named(hosts[name])]
            lengths[name] = 1 + max(before, default=0)
        return lengths[name]

    for name, host in hosts.items():
        found: list[tuple[HostConfig, str]] = []
        hops = length(name, ())
        for one, cycle in found:
            yield one, _where(one), f"leads in a circle: {cycle}"
        before = [lengths.get(other, 0) for _, other in _named(host)]
        if hops > MOST_HOPS and name not in told and max(before, default=0) <= MOST_HOPS:
            yield host, _where(host), f"the way to this host has {hops} hops; at most {MOST_HOPS} are allowed"


def _where(host: HostConfig) -> Location:
    return ("via",) if host.via else ("ssh", "jump")


def _named(host: HostConfig) -> Iterable[tuple[Location, str]]:
    """The hosts that this one rests upon, each with its place in the file."""
    for name in host.via:
        yield ("via",), name
    if host.ssh.jump:
        yield ("ssh", "jump"), host.ssh.jump
