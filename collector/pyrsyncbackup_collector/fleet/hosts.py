"""The hosts as values for everything that follows: who they are and how they are reached."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pyrsyncbackup_collector.config.model import Config, HostConfig
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import NotFound


@dataclass(frozen=True, slots=True)
class Ssh:
    """Login at the host's SSH server. `known_hosts` None: the collector's own, then the user's."""

    user: str
    port: int
    key: Path
    known_hosts: Path | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """One host. `include` and `exclude` are patterns for module names; `bwlimit` is bytes a second."""

    name: str
    address: str
    transport: Literal["sshtunnel", "direct"]
    ssh: Ssh
    agent_port: int
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    bwlimit: int | None = None
    enabled: bool = True
    trust: Literal["first-use", "pinned"] = "first-use"

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
        own_key = config.state / "ssh" / "id_ed25519"
        return cls(tuple(_host(entry, own_key) for entry in config.hosts))

    def host(self, name: str) -> Host:
        """The host of that name. Raises NotFound with the names that come close."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise NotFound(f"no host is called {printable(name)}", self._instead(name))

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
        near = difflib.get_close_matches(name, names, n=3)
        return f"did you mean {' or '.join(near)}?" if near else "`pyrsyncbackup host list` shows all"


def _host(entry: HostConfig, own_key: Path) -> Host:
    return Host(
        name=entry.name,
        address=entry.address or entry.name,
        transport=entry.transport,
        ssh=Ssh(entry.ssh.user, entry.ssh.port, entry.ssh.key or own_key, entry.ssh.known_hosts),
        agent_port=entry.agent_port,
        include=entry.modules.include,
        exclude=entry.modules.exclude,
        bwlimit=entry.bwlimit,
        enabled=entry.enabled,
        trust=entry.trust,
    )
