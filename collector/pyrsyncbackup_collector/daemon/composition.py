"""The parts of a collector, opened in their order and closed in the reverse: for the daemon and for single commands.

Nothing is decided here but the order: the store's lock comes first, so that all that follows has no rival; then what
a crash left behind is put right; the sandbox is tried; connections open by themselves when they are used.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.clock import Clock, SystemClock
from pyrsyncbackup_collector.config import Config
from pyrsyncbackup_collector.daemon import absent, unsound
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import BackupError, SandboxUnavailable
from pyrsyncbackup_collector.pull import sandbox
from pyrsyncbackup_collector.pull.driver import Tools
from pyrsyncbackup_collector.pull.sandbox import Sandbox
from pyrsyncbackup_collector.store.findings import LOG
from pyrsyncbackup_collector.store.garbage import PARTS
from pyrsyncbackup_collector.store.reconcile import ReconcileReport
from pyrsyncbackup_collector.store.signature import KeySigner
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.transport.connections import Connections
from pyrsyncbackup_collector.transport.invitations import own_identity

CLOSING: Final = 5.0


@dataclass(frozen=True)
class Parts:
    """What checks and pulls work with. `sandbox` is the error where none works: checks go on, pulls are refused.

    `hanging` are parts of chores that were given up and have not ended, by name, with the reason.
    """

    store: Store
    catalog: Catalog
    connections: Connections
    sandbox: Sandbox | SandboxUnavailable
    clock: Clock
    hanging: dict[str, BackupError] = field(default_factory=dict)

    @property
    def tools(self) -> Tools:
        """What a pull works with. Raises SandboxUnavailable."""
        if isinstance(self.sandbox, SandboxUnavailable):
            raise self.sandbox
        return Tools(self.store, self.catalog, self.sandbox, self.clock)

    def close_connections(self) -> None:
        """End all connections, and with them what runs on them."""
        _close(self.connections)

    @property
    def sandbox_kind(self) -> str:
        """The kind in use, "none" where none works."""
        return "none" if isinstance(self.sandbox, SandboxUnavailable) else self.sandbox.kind


@contextlib.contextmanager
def opened(config: Config, *, clock: Clock | None = None, verify: bool = False) -> Iterator[Parts]:
    """All parts, under the store's lock; reconciled with what a crash left. Closes them at the end.

    `verify` reads the whole catalog first, for the daemon's start. Raises StoreBusy with the holder, and the errors of
    store and catalog; BackupError for keys that cannot be used.
    """
    clock = clock or SystemClock()
    signer = KeySigner(own_identity(config.state).key_pem)
    with ExitStack() as stack:
        store = stack.enter_context(Store.open(config.store, lock=True, signer=signer, clock=clock))
        _tell(store.reconcile())
        catalog = stack.enter_context(Catalog.open(config.catalog, store.id, clock=clock, verify=verify))
        store.objects.other_lists = catalog.lists_of
        for snapshot in catalog.check_against(store):
            logs.get().warning(
                "snapshot added to the catalog", host=snapshot.host, module=snapshot.module, snapshot=snapshot.name
            )
        found = catalog.unsound()
        unsound.tell(found)
        # Where a log does not fit, an older store may have been put back: what it lacks must not be claimed.
        doubtful = any(one.what == LOG for one in found)
        absent.note(store, catalog, range(PARTS) if doubtful else absent.lost_directories(store))
        for run in catalog.recover():
            logs.get().warning("run was interrupted", run=run)
        connections = Connections(config, clock)
        stack.callback(_close, connections)
        yield Parts(store, catalog, connections, _sandbox(config), clock)


def _tell(found: ReconcileReport) -> None:
    for one in found.completed:
        logs.get().warning("snapshot completed after a crash", host=one.host, module=one.module, snapshot=one.name)
    for path in found.set_aside:
        logs.get().error("manifest set aside", path=str(path))
    for one in found.missing:
        logs.get().error("snapshot is missing in the store", host=one.host, module=one.module, snapshot=one.name)
    for fault in found.faults:
        logs.get().error("store does not fit", cause=printable(fault))


def _close(connections: Connections) -> None:
    """Close them; one that is just being opened is not waited for longer than CLOSING seconds."""
    thread = threading.Thread(target=connections.close, name="close connections", daemon=True)
    thread.start()
    thread.join(CLOSING)


@contextlib.contextmanager
def looking(config: Config, *, clock: Clock | None = None) -> Iterator[Parts]:
    """The parts for plans: without the store's lock, so also beside a daemon; nothing can be written with them."""
    clock = clock or SystemClock()
    with ExitStack() as stack:
        store = stack.enter_context(Store.open(config.store, clock=clock))
        catalog = stack.enter_context(Catalog.open(config.catalog, store.id, clock=clock))
        connections = Connections(config, clock)
        stack.callback(_close, connections)
        # A plan transfers nothing, so there is nothing to shut in.
        yield Parts(store, catalog, connections, sandbox.Unconfined(), clock)


def _sandbox(config: Config) -> Sandbox | SandboxUnavailable:
    try:
        return sandbox.choose(config.sandbox)
    except SandboxUnavailable as error:
        return error
