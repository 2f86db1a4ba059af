"""What a command works on: the configuration, and the store and the catalog that it names, opened when asked for.

Commands that only read take no lock of the store: they work while the daemon does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pyrsyncbackup_collector import config as configuration
from pyrsyncbackup_collector.cli import amounts
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.config import Config, Policy
from pyrsyncbackup_collector.errors import ConfigError, NotFound, StoreMissing, StoreReadOnly
from pyrsyncbackup_collector.fleet.hosts import Fleet

if TYPE_CHECKING:
    from pyrsyncbackup_collector.catalog import Catalog
    from pyrsyncbackup_collector.catalog.views import DaemonView, PeerView
    from pyrsyncbackup_collector.cli.verdict import HostVerdict, Verdict
    from pyrsyncbackup_collector.store.snapshot import Snapshot
    from pyrsyncbackup_collector.store.store import Store
    from pyrsyncbackup_collector.transport.connections import Connections
    from pyrsyncbackup_collector.transport.offer import Hints


@dataclass(frozen=True, slots=True)
class Workplace:
    """A loaded configuration and its hosts."""

    config: Config
    fleet: Fleet

    @classmethod
    def load(cls, file: Path) -> Workplace:
        """Read the configuration; raises ConfigError."""
        config = configuration.load(file)
        return cls(config, Fleet.from_config(config))

    def make_keys(self) -> bool:
        """Make the collector's certificate and SSH key where they are missing; whether any was."""
        from pyrsyncbackup_collector.transport import invitations

        wanted = (self.config.state / "identity" / "key.pem", self.config.state / "ssh" / "id_ed25519")
        new = not all(path.exists() for path in wanted)
        invitations.own_identity(self.config.state)
        invitations.own_ssh_key(self.config.state)
        return new

    def make_store(self) -> bool:
        """Make the store if it is not there; whether it was made."""
        from pyrsyncbackup_collector.store.store import Store

        if (self.config.store / "format.json").exists():
            return False
        if self.config.catalog.exists():
            # An empty store in the place of one that is not mounted would be filled as if nothing had ever been there.
            raise StoreMissing(
                f"no store at {self.config.store}, but its catalog is there: {self.config.catalog}",
                "mount the store's file system; for a new, empty store move the catalog away first",
            )
        Store.create(self.config.store)
        return True

    def make_catalog(self) -> bool:
        """Make the catalog if it is not there; whether it was made."""
        from pyrsyncbackup_collector.catalog import Catalog

        if self.config.catalog.exists():
            return False
        self.config.catalog.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.store() as store:
            Catalog.create(self.config.catalog, store.id).close()
        return True

    def try_keys(self) -> str:
        """That the keys can be used; raises BackupError."""
        from pyrsyncbackup_collector.transport import invitations

        own = invitations.own_identity(self.config.state)
        invitations.own_ssh_key(self.config.state)
        return f"this collector is {own.fingerprint}"

    def try_store(self) -> str:
        """That the store is there and can be written; raises StoreError."""
        with self.store() as store:
            if not os.access(store.path, os.W_OK):
                raise StoreReadOnly(f"{store.path} cannot be written by this user", "run it as the store's owner")
            count = sum(1 for _ in store.modules())
            return f"{store.path}: {amounts.counted(count, 'module')} with snapshots"

    def try_catalog(self) -> str:
        """That the catalog belongs to the store as it is now; raises CatalogError."""
        with self.store() as store, self.catalog() as catalog:
            catalog.lacking(store)
            return f"{catalog.path}: {amounts.counted(len(catalog.snapshots()), 'snapshot')}"

    def try_sandbox(self) -> str:
        """That rsync can be run in a sandbox; raises SandboxUnavailable."""
        from pyrsyncbackup_collector.pull import sandbox

        chosen = sandbox.choose(self.config.sandbox)
        return "off, by the configuration" if self.config.sandbox == "off" else chosen.kind

    def pin(self, host: str) -> Path:
        """Where the pinned certificate of a host's agent is, if there is one."""
        return self.config.state / "pins" / f"{host}.pem"

    def pinned_fingerprint(self, host: str) -> str:
        """The fingerprint of the pinned certificate, or nothing."""
        from pyrsyncbackup import identity

        try:
            return identity.fingerprint(self.pin(host).read_bytes())
        except FileNotFoundError:
            return ""
        except (OSError, identity.InvalidIdentity) as error:
            raise ConfigError([f"the pinned certificate {self.pin(host)} cannot be read: {error}"]) from error

    @contextmanager
    def store(self, *, lock: bool = False) -> Iterator[Store]:
        """The open store, with `lock` for writing."""
        from pyrsyncbackup_collector.store.store import Store

        with Store.open(self.config.store, lock=lock) as store:
            yield store

    @contextmanager
    def connections(self) -> Iterator[Connections]:
        """Connections with agents, apart from those of a daemon."""
        from pyrsyncbackup_collector.transport.connections import Connections

        connections = Connections(self.config, SystemClock())
        try:
            yield connections
        finally:
            connections.close()

    @contextmanager
    def catalog(self) -> Iterator[Catalog]:
        """The open catalog of the store."""
        from pyrsyncbackup_collector.catalog import Catalog

        with self.store() as store, Catalog.open(self.config.catalog, store.id) as catalog:
            yield catalog

    @contextmanager
    def snapshot(self, text: str) -> Iterator[tuple[Store, Snapshot]]:
        """The snapshot that REF names, kept from being pruned, and its open store. Raises UsageError, NotFound."""
        from pyrsyncbackup_collector.store import reference

        wanted = reference.parse(text)
        with self.store() as store:
            known = store.snapshots(wanted.host, wanted.module)
            if not known:
                # A host that was removed keeps its snapshots; one with neither is a slip of the pen.
                self.fleet.host(wanted.host)
            snapshot = reference.resolve(wanted, known, SystemClock().now())
            with store.reading(snapshot):
                yield store, snapshot

    def offered(self) -> list[PeerView]:
        """The hosts that relays of this fleet offered at their last check and that nobody configured."""
        with self.catalog() as catalog:
            peers = catalog.peers()
        names = {host.name for host in self.fleet.hosts}
        return [peer for peer in peers if peer.relay in names and not self.fleet.behind(peer.relay, peer.name)]

    def known_or_offered(self, name: str) -> None:
        """Raise NotFound for a name that neither the configuration nor any relay knows."""
        try:
            self.fleet.host(name)
        except NotFound:
            if not any(peer.name == name for peer in self.offered()):
                raise

    def verdicts(self, now: float) -> tuple[list[HostVerdict], list[Verdict], DaemonView | None]:
        """How every configured host stands by what the catalog knows, every chore, and the daemon that said so."""
        from pyrsyncbackup_collector.cli.verdict import judge_chore, judge_host

        with self.catalog() as catalog:
            known = catalog.fleet()
        rows = {row.name: row for row in known.hosts}
        judged = []
        for host in self.fleet.hosts:
            modules = [row for row in known.modules if row.host == host.name]
            hints = {row.name: row.hints for row in modules}
            policy = partial(self._policy, host.name, hints)
            judged.append(judge_host(host, rows.get(host.name), modules, policy, now))
        return judged, [judge_chore(run) for run in known.chores], known.daemon

    def _policy(self, host: str, hints: dict[str, Hints], module: str) -> Policy:
        return configuration.effective(self.config, host, module, hints.get(module))
