"""What an agent says, as plain values: the wire's messages end at `agent_client`, these go on.

All of it was checked on receipt: names and paths are valid, entries came in strictly increasing order, sizes and
counts are within the limits. What it claims is still the host's word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from pyrsyncbackup_collector.entry import Entry


class ModuleState(Enum):
    """Whether a module can be pulled."""

    READY = "ready"
    ABSENT = "absent"
    INVALID = "invalid"


class ErrorKind(Enum):
    """Why an entry could not be read."""

    DENIED = "denied"
    VANISHED = "vanished"
    REPLACED = "replaced"
    IO = "io"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """GetInfo's answer; `proof` is checked by `trust`."""

    name: str
    version: str
    os: str
    kernel: str
    machine_id: str
    rsync_version: str
    protocol_min: int
    protocol_max: int
    relay: bool
    proof: bytes


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Digest over the stat data of all entries of a module. Not settled: do not keep it."""

    digest: bytes
    settled: bool
    entries: int


@dataclass(frozen=True, slots=True)
class Root:
    """One tree that one transfer serves; with `names`, only these names directly in `path`."""

    id: int
    path: bytes
    names: frozenset[bytes] = frozenset()
    aliases: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Hints:
    """What the module's definition proposes for its policy; None or empty: nothing."""

    check: str | None = None
    pull: str | None = None
    keep: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Validator:
    """How the host says that a restore of the module is tried out; its word, so it runs in a sandbox or not at all.

    `command` is an argument list in which "{root}" stands for the restored module, `beside` names other modules that it
    needs, `directories` absolute paths that it expects to be there, empty.
    """

    command: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModuleOffer:
    """One module of a host."""

    name: str
    title: str
    state: ModuleState
    reason: str
    roots: tuple[Root, ...] = ()
    excludes: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    hints: Hints = Hints()
    has_hooks: bool = False
    fingerprint: Fingerprint | None = None
    validator: Validator = Validator()


@dataclass(frozen=True, slots=True)
class Offers:
    """The modules of a host, and why others that it named were dropped (one printable line each)."""

    modules: tuple[ModuleOffer, ...]
    dropped: tuple[str, ...] = ()


class Listed(msgspec.Struct, frozen=True, gc=False):
    """An entry as listed now.

    `token` is the digest of inode and ctime; `young` says that it is not to be kept. `root` is 0 for a directory above
    the roots.
    """

    entry: Entry
    token: int
    root: int
    error: ErrorKind | None = None
    young: bool = False


class FileHash(msgspec.Struct, frozen=True, gc=False):
    """Digest (hexadecimal) of a file's content as read by the agent. With an error, the digest is empty."""

    path: bytes
    sha256: str
    size: int
    token: int
    error: ErrorKind | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class DaemonExit:
    """How the agent's rsync ended."""

    code: int
    messages: str


@dataclass(frozen=True, slots=True)
class Peer:
    """A host that a relay offers: the relay's name for it, whether its port answers, else why not. Printable texts."""

    name: str
    title: str = ""
    answers: bool = True
    reason: str = ""
    seconds: float = 0.0
