"""What a reload changes: the new configuration beside the one in force. Pure but for reading the files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from pyrsyncbackup_collector import config as configuration
from pyrsyncbackup_collector.config import Config

# What was opened with these cannot be exchanged under running pulls.
FIXED: Final = ("store", "catalog", "state", "runtime", "sandbox")
# Of the limits, what connections were made with.
CONNECTIONS: Final = ("tunnels", "max_entries", "connect", "idle", "check", "list", "stall")


@dataclass(frozen=True, slots=True)
class Difference:
    """Names of hosts by what became of their definitions; a host that was switched off counts as removed."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    same: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """For a log line."""
        return {name: len(getattr(self, name)) for name in ("added", "removed", "changed", "same")}


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The configuration to use from now on; `kept` are keys that changed in the file and need a restart."""

    config: Config
    difference: Difference
    kept: tuple[str, ...]


def read(present: Config) -> Reloaded:
    """Read the files of `present` again. Raises ConfigError."""
    new = configuration.load(present.file)
    kept = tuple(key for key in FIXED if getattr(new, key) != getattr(present, key))
    usable = replace(new, **{key: getattr(present, key) for key in kept})
    limits = [f"limits.{key}" for key in CONNECTIONS if getattr(new.limits, key) != getattr(present.limits, key)]
    return Reloaded(usable, compare(present, usable), (*kept, *limits))


def compare(old: Config, new: Config) -> Difference:
    """Which hosts came, went, changed, stayed."""
    before = {host.name: host for host in old.hosts if host.enabled}
    after = {host.name: host for host in new.hosts if host.enabled}
    return Difference(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name in after if name in before and after[name] != before[name]),
        same=tuple(name for name in after if after[name] == before.get(name)),
    )
