"""What a command works on: the configuration, and the store and the catalog that it names, opened when asked for.

Commands that only read take no lock of the store: they work while the daemon does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pyrsyncbackup_collector import config as configuration
from pyrsyncbackup_collector.cli import amounts
from pyrsyncbackup_collector.cli.names import Which, no_snapshot
from pyrsyncbackup_collector.cli.patience import answering
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.config import Config, CopyConfig, Policy
from pyrsyncbackup_collector.errors import (
    BackupError,
    ConfigError,
    NotFound,
    RestoreError,
    StoreDamaged,
    StoreMissing,
    StoreReadOnly,
)
from pyrsyncbackup_collector.fleet.hosts import Fleet

if TYPE_CHECKING:
    from pyrsyncbackup_collector.catalog import Catalog
    from pyrsyncbackup_collector.catalog.views import Fleet as Known
    from pyrsyncbackup_collector.catalog.views import ModuleView, PeerView
    from pyrsyncbackup_collector.cli.source import Source
    from pyrsyncbackup_collector.cli.verdict import HostVerdict, Verdict
    from pyrsyncbackup_collector.store.room import Floor, Room
    from pyrsyncbackup_collector.store.signature import KeySigner
    from pyrsyncbackup_collector.store.snapshot import Snapshot
    from pyrsyncbackup_collector.store.store import Store
    from pyrsyncbackup_collector.transport.connections import Connections
    from pyrsyncbackup_collector.transport.offer import Hints


@dataclass(frozen=True, slots=True)
class Workplace:
    """A loaded configuration and its hosts; and the second copy that is read in the place of the store, if any."""

    config: Config
    fleet: Fleet
    source: Source | None = None

    @classmethod
    def load(cls, file: Path) -> Workplace:
        """Read the configuration; raises ConfigError."""
        config = configuration.load(file)
        return cls(config, Fleet.from_config(config))

    @classmethod
    def reading(cls, file: Path, copy: str | None, identity: Path | None) -> Workplace:
        """For commands that can read a second copy: `copy` is its name in the configuration, or where it is.

        Of a place no configuration is needed. Raises ConfigError, NotFound, UsageError.
        """
        if copy is None:
            return cls.load(file)
        from pyrsyncbackup_collector.cli.source import Source, no_configuration

        if Source.is_place(copy):
            config = no_configuration()
            return cls(config, Fleet.from_config(config), Source.at(copy, identity))
        place = cls.load(file)
        return cls(place.config, place.fleet, Source.named(place.config, copy, identity))

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

    def room(self) -> tuple[Room, Floor]:
        """The room on the store's file system, and what of it has to stay free; raises StoreMissing."""
        from pyrsyncbackup_collector.store import room

        there = room.look(self.config.store)
        return there, room.floor(self.config.space, there)

    def try_room(self) -> str:
        """That pulls may begin; raises StoreFull."""
        from pyrsyncbackup_collector.store import room

        there, floor = self.room()
        room.check(there, floor)
        return (
            f"{amounts.size(there.free)} of {amounts.size(there.total)} are free, {amounts.size(floor.free)} stay free"
        )

    @property
    def has_mirrors(self) -> bool:
        """Whether any policy wants a mirror."""
        return any(each.mirror for each in (self.config.policy, *self.config.rules))

    def try_mirrors(self) -> str:
        """That mirrors can be written; raises RestoreError."""
        there = self.config.mirror_dir
        while not there.exists() and there != there.parent:
            there = there.parent
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise RestoreError(
                f"mirrors cannot be written to {self.config.mirror_dir}: {there} is no directory of this user's",
                "`mirror_dir` says where mirrors are; let the collector's user own it",
            )
        return str(self.config.mirror_dir)

    def try_copy(self, copy: CopyConfig) -> str:
        """That a second copy can be reached, is of this store, and takes what is brought; raises BackupError."""
        from pyrsyncbackup_collector.copies.trying import try_out
        from pyrsyncbackup_collector.pull.cancel import Cancel

        with self.store() as store:
            return try_out(self.config, copy, store, Cancel().check)

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
    def store(self, *, lock: bool = False, only: str = "", signer: KeySigner | None = None) -> Iterator[Store]:
        """The open store, with `lock` for writing; of a copy far away `only` HOST or HOST/MODULE is fetched.

        With `signer` the signatures of logs can be verified.
        """
        from pyrsyncbackup_collector.store.store import Store

        if self.source is not None:
            with self.source.opened(only, signer) as copy:
                yield copy
            return
        with answering(self.config.store):
            opened = Store.open(self.config.store, lock=lock, signer=signer)
        with opened as store:
            store.objects.other_lists = partial(self._lists_of, store.id)
            yield store

    def _lists_of(self, store: str, digest: str) -> list[str]:
        """What the catalog knows of a content that is damaged; nothing where it cannot be asked."""
        from pyrsyncbackup_collector.catalog import Catalog

        try:
            with Catalog.open(self.config.catalog, store) as catalog:
                return catalog.lists_of(digest)
        except BackupError:
            return []

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
        with self.store(only=f"{wanted.host}/{wanted.module}") as store:
            known = store.snapshots(wanted.host, wanted.module)
            if not known:
                raise no_snapshot(Which(wanted.host, wanted.module), list(store.modules()), self.host_names)
            snapshot = reference.resolve(wanted, known, SystemClock().now())
            _must_be_readable(snapshot, known)
            with store.reading(snapshot):
                yield store, snapshot

    @property
    def host_names(self) -> list[str] | None:
        """The names of the configured hosts; None where a second copy is read, which has hosts of its own."""
        return [host.name for host in self.fleet.hosts] if self.source is None else None

    def offered(self) -> list[PeerView]:
        """The hosts that relays of this fleet offered at their last check and that nobody configured."""
        with self.catalog() as catalog:
            peers = catalog.peers()
        names = {host.name for host in self.fleet.hosts}
        return [peer for peer in peers if peer.relay in names and not self.fleet.behind(peer.relay, peer.name)]

    def offered_modules(self) -> list[tuple[str, str]]:
        """What the configured hosts offered at their last check and is ready, as (host, module)."""
        with self.catalog() as catalog:
            known = [(one.host, one.name) for one in catalog.modules() if one.state == "ready"]
        configured = {host.name for host in self.fleet.hosts}
        return [each for each in known if each[0] in configured]

    def known_or_offered(self, name: str) -> None:
        """Raise NotFound for a name that neither the configuration nor any relay knows."""
        try:
            self.fleet.host(name)
        except NotFound:
            if not any(peer.name == name for peer in self.offered()):
                raise

    def verdicts(self, now: float) -> tuple[list[HostVerdict], list[Verdict], list[Verdict], Known]:
        """How all stands by what the catalog knows, and that: every configured host, chores, drills and mirrors."""
        from pyrsyncbackup_collector.cli.verdict import judge_chore, judge_copy, judge_drill, judge_host, judge_mirror

        with self.catalog() as catalog:
            known = catalog.fleet()
            rounds = {view.name: view for view in catalog.copies()}
        rows = {row.name: row for row in known.hosts}
        judged = []
        for host in self.fleet.hosts:
            modules = [row for row in known.modules if row.host == host.name]
            hints = {row.name: row.hints for row in modules}
            policy = partial(self._policy, host.name, hints)
            judged.append(judge_host(host, rows.get(host.name), modules, policy, now))
        # A pin that was refused was told to whoever asked: only what comes again by itself is upkeep.
        upkeep = [judge_chore(run) for run in known.chores if run.kind in type(self.config.upkeep).model_fields]
        # Each second copy stands for itself.
        upkeep += [judge_copy(copy, rounds.get(copy.name), self.config.upkeep.zone, now) for copy in self.config.copies]
        drills = list(map(judge_drill, known.drills))
        # Where no mirror is wanted any more, what is left of one is nobody's business.
        wanted = [mirror for mirror in known.mirrors if self._is_mirrored(known.modules, mirror.host, mirror.module)]
        return judged, upkeep, drills + list(map(judge_mirror, wanted)), known

    def damage(self) -> list[Verdict]:
        """What is damaged in the store and did not come again: logs and manifests, then contents, by module."""
        from pyrsyncbackup_collector.cli.verdict import judge_damage, judge_unsound

        with self.catalog() as catalog:
            return judge_unsound(catalog.unsound()) + judge_damage(catalog.damage())

    def signer(self) -> KeySigner | None:
        """The key that signs the logs, if it is there; makes none."""
        from pyrsyncbackup_collector.store.signature import KeySigner

        path = self.config.state / "identity" / "key.pem"
        try:
            return KeySigner(path.read_bytes())
        except FileNotFoundError:
            return None

    def _is_mirrored(self, modules: Iterable[ModuleView], host: str, module: str) -> bool:
        enabled = any(each.name == host and each.enabled and each.wants(module) for each in self.fleet.hosts)
        hints = {row.name: row.hints for row in modules if row.host == host}
        policy = self._policy(host, hints, module) if enabled else None
        return policy is not None and policy.mirror and policy.enabled

    def _policy(self, host: str, hints: dict[str, Hints], module: str) -> Policy:
        return configuration.effective(self.config, host, module, hints.get(module))


def _must_be_readable(snapshot: Snapshot, known: Sequence[Snapshot]) -> None:
    """Raise StoreDamaged for one that is damaged, with the newest one before it that is not."""
    from pyrsyncbackup_collector.store.snapshot import DAMAGED

    if snapshot.state != DAMAGED:
        return
    name = f"{snapshot.host}/{snapshot.module}"
    sound = [each.name for each in known if each.state != DAMAGED and each.sequence < snapshot.sequence]
    hint = f"the one before it is {name}@{sound[-1]}" if sound else ""
    raise StoreDamaged(
        f"snapshot {snapshot.name} of {name} is damaged: its manifest cannot be read",
        hint or f"`pyrsyncbackup verify {name}` says more; `pyrsyncbackup snapshots {name}` shows what else there is",
    )
