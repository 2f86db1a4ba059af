"""What detection found out about a module: the values that the rest of the agent works with."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from pyrsyncbackup_agent.modules.definition import Hints, Hooks, Validator
from pyrsyncbackup_agent.patterns import Rules


class ModuleState(enum.Enum):
    """Whether a module can be backed up."""

    READY = "ready"
    ABSENT = "absent"
    INVALID = "invalid"


@dataclass(frozen=True)
class Root:
    """One tree of a module, served by one rsync daemon.

    `id` counts from 1 in path order. `path` is the real path, relative to "/" (b"" is "/" itself). With `names`,
    only these entries directly in `path` belong: files or links that the definition names. `aliases` are the paths as
    defined, in the same form, where they lead here over links.
    """

    id: int
    path: bytes
    names: frozenset[bytes] = frozenset()
    aliases: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class DetectedModule:
    """A module as it is on this host now. `reason` is one printable line, `notes` its part about paths left out.

    `roots` is empty unless ready. A ready module with hooks may have none yet: look again when its `before` hooks ran.
    """

    name: str
    title: str
    state: ModuleState
    reason: str
    roots: tuple[Root, ...] = ()
    rules: Rules = field(default_factory=Rules)
    hooks: Hooks = field(default_factory=Hooks)
    hints: Hints = field(default_factory=Hints)
    validator: Validator = field(default_factory=Validator)
    notes: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether it can be opened."""
        return self.state is ModuleState.READY

    @property
    def excludes(self) -> tuple[str, ...]:
        """The exclude patterns as defined."""
        return tuple(pattern.decode() for pattern in self.rules.excludes)

    @property
    def includes(self) -> tuple[str, ...]:
        """The include patterns as defined."""
        return tuple(pattern.decode() for pattern in self.rules.includes)
