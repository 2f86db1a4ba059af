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
    good pull, `last_pull` the end of the last one whatever came of it. `running` is the id of an open run. `frozen` is
    since when retention removes nothing of it, and why.
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
    frozen: float | None = None
    frozen_why: str = ""


@dataclass(frozen=True, slots=True)
class RunView:
    """A pull, or a row of checks of a host that ended alike (`repeats`); `end` None: still open.

    `problems` counts paths with a problem; `Catalog.run_paths` names them. `note` is what else is worth a word.
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
    note: str = ""


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
class DrillView:
    """The last drill of a module: what was restored, what differed, and what its validator said.

    `validation` is passed, failed, absent, timed out, not run, or "" where the module names no validator. `whole`:
    nothing of the snapshot was left out.
    """

    host: str
    module: str
    sequence: int
    time: float
    entries: int
    size: int
    whole: bool
    differences: int
    examples: tuple[str, ...]
    validation: str
    said: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MirrorView:
    """A mirror that is not its module's newest snapshot: how its last update ended, and since when none went well.

    `outcome` is failed (then there are cause and hint) or partial (`note` says what is missing).
    """

    host: str
    module: str
    outcome: str
    cause: str
    hint: str
    note: str
    since: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """All that `status` needs, of one moment.

    `chores` is the last run of each kind of upkeep that ended, `drills` the last one of each module; `mirrors` are
    those that are behind. `daemon_ended` is when a daemon last ended in order, if one ever did.
    """

    hosts: tuple[HostView, ...]
    modules: tuple[ModuleView, ...]
    running: tuple[RunView, ...]
    daemon: DaemonView | None
    chores: tuple[RunView, ...] = ()
    drills: tuple[DrillView, ...] = ()
    mirrors: tuple[MirrorView, ...] = ()
    daemon_ended: float | None = None


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
    """Sums over the store: `size` of all contents, `stored_size` as they lie there, compressed, each chunk once."""

    objects: int
    size: int
    stored_size: int
    snapshots: int


@dataclass(frozen=True, slots=True)
class Unnamed:
    """Objects that nothing names, of one day: since when, how many, and their bytes as they lie in the store.

    `due`: the next collection takes them; `pinned`: a pull may need them; otherwise they wait for their day.
    """

    since: float
    objects: int
    bytes: int
    due: bool
    pinned: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """Bytes in the store: `stored` as they lie there, of which `unique` would be free if what takes them were gone."""

    stored: int
    unique: int

    @property
    def shared(self) -> int:
        """What others name too."""
        return self.stored - self.unique


@dataclass(frozen=True, slots=True)
class ModuleSpace:
    """One module: its kept snapshots, the size of all of them as plain copies, and what they take together."""

    host: str
    module: str
    snapshots: int
    size: int
    taken: Taken


@dataclass(frozen=True, slots=True)
class StoreSpace:
    """All modules by host and name, what each host takes; `stored` is everything, `unnamed` what waits for `gc`."""

    modules: tuple[ModuleSpace, ...]
    hosts: Mapping[str, Taken]
    stored: int
    unnamed: int


@dataclass(frozen=True, slots=True)
class SnapshotSpace:
    """One snapshot: `size` as a plain copy."""

    sequence: int
    name: str
    time: float
    state: str
    size: int
    taken: Taken


@dataclass(frozen=True, slots=True)
class UnsoundView:
    """A log or a manifest of a module that is not what it should be: since when, why, and the next step.

    `what` is manifest or log, `name` the manifest's stem ("" for a log), `snapshots` the first of those that are
    affected as HOST/MODULE@NAME, `total` how many are.
    """

    host: str
    module: str
    what: str
    name: str
    kind: str
    cause: str
    hint: str
    since: float
    snapshots: tuple[str, ...]
    total: int


@dataclass(frozen=True, slots=True)
class DamageView:
    """An object that was found rotten or missing and did not come again: since when, why, and which module needs it.

    `snapshots` are those of the module whose contents need it, as HOST/MODULE@NAME, oldest first.
    """

    sha256: str
    since: float
    kind: str
    cause: str
    host: str
    module: str
    snapshots: tuple[str, ...]
