"""Which unreachable hosts wait for another host that their way leads through: a dead bastion is one problem. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyrsyncbackup_collector.cli.verdict import State, Verdict
from pyrsyncbackup_collector.fleet.hosts import Host, way

# As `errors.ConnectError.placed` says it.
_PLACE = re.compile(r"hop (\d{1,3}) of (\d{1,3}): ")


@dataclass(frozen=True, slots=True)
class Behind:
    """Hosts that wait for `hop`, one host or several ways; `own` is what is wrong with that host itself, if it is."""

    hop: str
    waiting: tuple[Verdict, ...]
    own: Verdict | None = None

    @property
    def first(self) -> Verdict:
        """What stands for them all: the failure of the hop itself, else the oldest of those behind it."""
        return self.own or min(self.waiting, key=lambda one: (one.since or 0.0, one.host))


def grouped(problems: Iterable[Verdict], hosts: Iterable[Host]) -> list[Verdict | Behind]:
    """The problems in their order, those of two or more hosts behind one hop together in the place of the first."""
    by_name = {host.name: host for host in hosts}
    given = list(problems)
    hops = [_hop(problem, by_name.get(problem.host)) for problem in given]
    groups = {hop: [one for one, at in zip(given, hops, strict=True) if at == hop] for hop in hops if hop}
    shared = {hop: tuple(those) for hop, those in groups.items() if len(those) > 1}
    found: list[Verdict | Behind] = []
    told: set[str] = set()
    for problem, hop in zip(given, hops, strict=True):
        # The hop itself, when others wait for it, stands for them; it may wait for another one in its turn.
        key = problem.host if _is_away(problem) and problem.host in shared else hop
        if key not in shared:
            found.append(problem)
        elif key not in told:
            told.add(key)
            own = next((one for one in given if one.host == key and _is_away(one)), None)
            found.append(Behind(key, shared[key], own))
    return found


def _is_away(problem: Verdict) -> bool:
    return problem.state is State.UNREACHABLE and not problem.module


def _hop(problem: Verdict, host: Host | None) -> str:
    """Through which hop it was not reached; nothing for a failure at the host itself, or of a host that is near."""
    if host is None or not _is_away(problem) or not (host.via or host.ssh.jump):
        return ""
    said = problem.cause.removeprefix(f"{host.name}: ")
    if len(host.via) < 2:
        place = _PLACE.match(said)
        return _named(way(host), place[1]) if place else ""
    places = _PLACE.findall(said)
    if not said.startswith("none of its ") or len(places) != len(host.via):
        return ""
    names = [_named(way(host, relay), number) for relay, (number, _) in zip(host.via, places, strict=True)]
    return " and ".join(dict.fromkeys(names)) if all(names) else ""


def _named(names: Sequence[str], number: str) -> str:
    """The name of the hop of that number, counted from 1; nothing for the host itself, the last one."""
    return names[int(number) - 1] if 0 < int(number) < len(names) else ""
