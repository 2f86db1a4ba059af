"""The peers of a relay: which agents it passes connections on to, from agent.toml and from the files in peers.d.

A broken file in peers.d counts for nothing, and those beside it stay; a name that is used twice stays with the peer
that came first: agent.toml before the files, files in the order of their names. Whether a peer answers is `probing`'s
business.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pyrsyncbackup import valid_name

from pyrsyncbackup_agent import address, drop_ins, toml
from pyrsyncbackup_agent.errors import PeerUnknown
from pyrsyncbackup_agent.printable import printable

# Names in a message that a status carries: enough to see a typing error, and it stays far below a header's limit.
MOST_NAMES = 25


@dataclass(frozen=True)
class Peer:
    """An agent behind this one. `host` is a name or an address; `place` is where the peer was defined."""

    name: str
    host: str
    port: int
    title: str = ""
    place: str = field(default="", compare=False)

    @property
    def address(self) -> str:
        """Host and port as settings write them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Peers:
    """All peers in the order of names, and what is wrong with files that should define some."""

    by_name: dict[str, Peer] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def get(self, name: str) -> Peer:
        """The peer of that name; PeerUnknown tells the known ones."""
        peer = self.by_name.get(name)
        if peer is not None:
            return peer
        known = list(self.by_name)
        names = ", ".join(known[:MOST_NAMES]) or "none"
        more = f" and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else ""
        raise PeerUnknown(f'no peer is called "{printable(name[:63])}" here; known are {names}{more}')


def read(own: Iterable[Peer], directory: Path, trusted: frozenset[int] | None = None) -> Peers:
    """The peers of agent.toml (`own`), then those of `directory`.

    `trusted` are the user ids whose files are read: by default root and this process's own.
    """
    trusted = frozenset({0, os.geteuid()}) if trusted is None else trusted
    problems: list[str] = []
    found = list(own)
    fault = drop_ins.directory_fault(directory, trusted)
    for file in drop_ins.files(directory, problems):
        if fault:
            problems.append(f"{file}: {fault}")
        else:
            found += _of_file(file, trusted, problems)
    first = first_of_each_name(found, problems)
    return Peers(dict(sorted(first.items())), tuple(problems))


def of_tables(tables: Iterable[toml.Table]) -> tuple[Peer, ...]:
    """The peers in `tables`; what is wrong with one goes to its problems, and it is left out."""
    read_ones = (_of_table(table) for table in tables)
    return tuple(peer for peer in read_ones if peer is not None)


def first_of_each_name(found: Iterable[Peer], problems: list[str]) -> dict[str, Peer]:
    """The first peer of each name; every later one is a problem."""
    first: dict[str, Peer] = {}
    for peer in found:
        other = first.setdefault(peer.name, peer)
        if other is not peer:
            problems.append(f'{peer.place}.name: "{peer.name}" is the name of {other.place} too')
    return first


def _of_file(file: Path, trusted: frozenset[int], problems: list[str]) -> tuple[Peer, ...]:
    try:
        values = toml.parse(drop_ins.content(file, trusted))
    except OSError as error:
        problems.append(f"{file}: {error.strerror}")
        return ()
    except ValueError as error:
        problems.append(f"{file}: {error}")
        return ()
    table = toml.Table(values, [], f"{file}: ")
    read_ones = of_tables(table.tables("peer"))
    table.done()
    problems += table.problems
    return () if table.problems else read_ones


def _of_table(table: toml.Table) -> Peer | None:
    before = len(table.problems)
    name = table.text("name")
    if len(table.problems) == before and not valid_name(name):
        rule = "must be lower-case letters, digits, dots, dashes or underscores, at most 63"
        table.problem("name", f"{name!r} {rule}" if name else "is needed")
    host, port = _endpoint(table)
    title = table.text("title")
    table.done()
    return Peer(name, host, port, title, table.place) if len(table.problems) == before else None


def _endpoint(table: toml.Table) -> tuple[str, int]:
    before = len(table.problems)
    text = table.text("address")
    if len(table.problems) > before:
        return "", 0
    try:
        host, port = address.split(text)
        if not port:
            raise ValueError(f"{text!r} has no port that could be connected to")
    except ValueError as error:
        table.problem("address", str(error) if text else 'is needed, such as "10.20.0.5:9737"')
        return "", 0
    return host, port
