"""The hosts as values for everything that follows: who they are and how they are reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pyrsyncbackup_collector.config.model import Config, HostConfig
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import NotFound, did_you_mean


@dataclass(frozen=True, slots=True)
class Ssh:
    """Login at the host's SSH server. `known_hosts` None: the collector's own, then the user's.

    With the openssh transport an empty user and port 0 mean what the user's ssh_config says, and with `more_keys` the
    keys that it names are tried as well. `jump` is the host through whose SSH connection the server is reached.
    """

    user: str
    port: int
    key: Path
    known_hosts: Path | None = None
    jump: Host | None = None
    more_keys: bool = False


@dataclass(frozen=True, slots=True)
class Host:
    """One host. `include` and `exclude` are patterns for module names; `bwlimit` is bytes a second.

    A host behind relays has the transport "relay": `via` are the relays, the first one that works is used, and `peer`
    is their name for it. With `accept` "auto" the unknown peers of this host, as a relay, become hosts by themselves.
    """

    name: str
    address: str
    transport: Literal["sshtunnel", "openssh", "direct", "relay"]
    ssh: Ssh
    agent_port: int
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    bwlimit: int | None = None
    enabled: bool = True
    trust: Literal["first-use", "pinned"] = "first-use"
    via: tuple[Host, ...] = ()
    peer: str = ""
    accept: Literal["auto", "manual"] = "manual"

    @property
    def wants_all(self) -> bool:
        """Whether no module is left out."""
        return "*" in self.include and not self.exclude

    def wants(self, module: str) -> bool:
        """Whether `module` is among those that are pulled from this host."""
        return any(fnmatchcase(module, pattern) for pattern in self.include) and not any(
            fnmatchcase(module, pattern) for pattern in self.exclude
        )


@dataclass(frozen=True, slots=True)
class Fleet:
    """All configured hosts, by name, in the order of the files."""

    hosts: tuple[Host, ...]

    @classmethod
    def from_config(cls, config: Config) -> Fleet:
        """The hosts of `config`, with the collector's own SSH key where none is named."""
        made: dict[str, Host] = {}
        own_key = config.state / "ssh" / "id_ed25519"

        def make(name: str) -> Host:
            if name not in made:
                made[name] = _host(config.by_name[name], own_key, make)
            return made[name]

        return cls(tuple(make(entry.name) for entry in config.hosts))

    def host(self, name: str) -> Host:
        """The host of that name. Raises NotFound with the names that come close."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise NotFound(f"no host is called {printable(name)}", self._instead(name))

    def behind(self, relay: str, peer: str) -> Host | None:
        """The configured host that this relay calls `peer`."""
        for host in self.hosts:
            if host.peer == peer and any(one.name == relay for one in host.via):
                return host
        return None

    def match(self, pattern: str) -> tuple[Host, ...]:
        """The hosts whose names match `pattern` (*, ?, [...]); a plain name is one. Raises NotFound if none does."""
        found = tuple(host for host in self.hosts if fnmatchcase(host.name, pattern))
        if not found and not set(pattern) & set("*?["):
            return (self.host(pattern),)
        if not found:
            raise NotFound(f"no host matches {printable(pattern)}", self._instead(pattern))
        return found

    def _instead(self, name: str) -> str:
        names = [host.name for host in self.hosts]
        if not names:
            return "no hosts are configured: add one in hosts.d"
        return did_you_mean(name, names, "`pyrsyncbackup host list` shows all")


def link_hops(host: Host) -> int:
    """How many steps away the SSH server of `host` is."""
    return 1 + (link_hops(host.ssh.jump) if host.ssh.jump else 0)


def hops(host: Host, relay: Host | None = None) -> int:
    """How many steps the way to the agent of `host` has, through `relay` or else the first of several relays."""
    if host.via:
        return 1 + hops(relay or host.via[0])
    return 1 if host.transport == "direct" else link_hops(host)


def way(host: Host, relay: Host | None = None) -> tuple[str, ...]:
    """The names of the hosts at the steps of that way, `host` last."""
    if host.via:
        return (*way(relay or host.via[0]), host.name)
    return (host.name,) if host.transport == "direct" else _links(host)


def ways(host: Host) -> frozenset[str]:
    """The names of all hosts that any way to `host` leads through, and its own."""
    found = {host.name}
    for other in (*host.via, *([host.ssh.jump] if host.ssh.jump and not host.via else [])):
        found |= ways(other)
    return frozenset(found)


def _links(host: Host) -> tuple[str, ...]:
    return (*(_links(host.ssh.jump) if host.ssh.jump else ()), host.name)


def newcomer(relay: Host, name: str, peer: str) -> Host:
    """A host that is not configured yet, as it will be: called `name`, behind `relay`, which calls it `peer`."""
    return replace(
        relay, name=name, address=name, transport="relay", via=(relay,), peer=peer, accept="manual",
        ssh=replace(relay.ssh, jump=None),
        include=("*",), exclude=(), bwlimit=None, enabled=True, trust="first-use",
    )  # fmt: skip


def _host(entry: HostConfig, own_key: Path, other: Callable[[str], Host]) -> Host:
    """One host; `other` gives those that it names, which are reached without it (`config.hops` saw to that)."""
    given, openssh = entry.ssh, entry.transport == "openssh"
    ssh = Ssh(
        user="" if openssh and "user" not in given.model_fields_set else given.user,
        port=0 if openssh and "port" not in given.model_fields_set else given.port,
        key=given.key or own_key,
        known_hosts=given.known_hosts,
        jump=other(given.jump) if given.jump else None,
        more_keys=openssh and given.key is None,
    )
    return Host(
        name=entry.name,
        address=entry.address or entry.name,
        transport="relay" if entry.via else entry.transport,
        ssh=ssh,
        agent_port=entry.agent_port,
        include=entry.modules.include,
        exclude=entry.modules.exclude,
        bwlimit=entry.bwlimit,
        enabled=entry.enabled,
        trust=entry.trust,
        via=tuple(other(name) for name in entry.via),
        peer=entry.peer or entry.name if entry.via else "",
        accept=entry.accept,
    )
