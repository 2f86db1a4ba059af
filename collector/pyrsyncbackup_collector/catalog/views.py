"""What the catalog answers, as plain values. Times are seconds since 1970, sizes bytes; None: never, or not yet.

Titles, reasons, causes and paths came from hosts: make them printable before a terminal sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyrsyncbackup_collector.store.snapshot import Snapshot
from pyrsyncbackup_collector.transport.offer import Hints, Validator


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong: the error's class, its cause, and the next step."""

    type: str
    cause: str
    hint: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Health:
    """How checks of a host, or pulls of a module, go.

    `outcome` is that of the last one ("" if there was none), `failing_since` the first failure in the present row of
    `failures`, `next_try` when backoff ends.
    """

    outcome: str
    failing_since: float | None
    failures: int
    failure: Failure | None
    next_try: float | None


@dataclass(frozen=True, slots=True)
class HostView:
    """A host as the collector knows it; `agent` is what it said of itself (version, os, kernel, rsync_version, ...)."""

    name: str
    agent: Mapping[str, Any]
    first_seen: float | None
    last_seen: float | None
    checked: float | None
    health: Health


@dataclass(frozen=True, slots=True)
class PeerView:
    """A host that a relay offers by the name `name`; `refused` says why it was not taken in by itself."""

    relay: str
    name: str
    title: str
    answers: bool
    reason: str
    seconds: float
    seen: float
    refused: str


@dataclass(frozen=True, slots=True)
class ModuleView:
    """A module of a host: what is offered, how its pulls go, and its newest snapshot.

    `state` is ready, absent, invalid, gone, or unknown (known from the store alone). `last_good` is the last time that
    all of it was known to be in the store, by a pull or by a check that found nothing changed; `last_listed` the last
    good pull, `last_pull` the end of the last one whatever came of it. `running` is the id of an open run.
    """

    host: str
    name: str
    title: str
    state: str
    reason: str
    paths: tuple[bytes, ...]
    includes: tuple[str, ...]
    excludes: tuple[str, ...]
    hints: Hints
    validator: Validator
    has_hooks: bool
    first_seen: float | None
    last_seen: float | None
    last_run: str
    last_pull: float | None
    last_good: float | None
    last_listed: float | None
    running: str
    snapshots: int
    newest: Snapshot | None
    health: Health


@dataclass(frozen=True, slots=True)
class RunView:
    """A pull, or a row of checks of a host that ended alike (`repeats`); `end` None: still open.

    `problems` counts paths with a problem; `Catalog.run_paths` names them.
    """

    id: str
    host: str
    module: str
    kind: str
    trigger: str
    begin: float
    end: float | None
    repeats: int
    phase: str
    outcome: str
    sequence: int | None
    failure: Failure | None
    rsync_code: int | None
    rsync_tail: str
    counters: Mapping[str, int]
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    problems: int


@dataclass(frozen=True, slots=True)
class DaemonView:
    """The daemon as it last said; it is alive if `heartbeat` is recent. `pulls` ran, of at most `workers`."""

    pid: int
    started: float
    heartbeat: float
    sandbox: str
    pulls: int
    workers: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """All that `status` needs, of one moment; `chores` is the last run of each kind of upkeep that ended."""

    hosts: tuple[HostView, ...]
    modules: tuple[ModuleView, ...]
    running: tuple[RunView, ...]
    daemon: DaemonView | None
    chores: tuple[RunView, ...] = ()


@dataclass(frozen=True, slots=True)
class VersionView:
    """A path of a module as it was in the snapshots from number `begin` up to, not including, number `end`.

    `end` None: it is so in the newest one.
    """

    host: str
    module: str
    path: bytes
    begin: int
    end: int | None
    type: str
    mode: int
    size: int
    mtime_s: int
    mtime_ns: int
    sha256: str
    public: bool
    claimed: bool
    stale: bool
    changing: bool
    unreadable: bool


@dataclass(frozen=True, slots=True)
class RequestView:
    """What a command asked of the daemon: a pull (`module` "" is all of the host), or a chore by its name.

    `done` None: not yet.
    """

    id: int
    kind: str
    host: str
    module: str
    options: Mapping[str, Any]
    created: float
    taken: float | None
    done: float | None
    cancelled: float | None
    runs: tuple[str, ...]
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SpaceView:
    """Sums over the store: `size` of all contents, `stored_size` as they lie there compressed."""

    objects: int
    size: int
    stored_size: int
    snapshots: int
