"""A collector reduced to one pull: a real agent reached directly, a real store and catalog, the real sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyrsyncbackup.identity import Identity
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.clock import Clock, SystemClock
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.driver import Tools, plan_module, pull_module
from pyrsyncbackup_collector.pull.report import PlannedChange, Progress, PullReport, Watcher
from pyrsyncbackup_collector.pull.sandbox import Sandbox
from pyrsyncbackup_collector.pull.task import Task
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.transport.agent_client import AgentClient

from tests.support.sandboxes import chosen


class Puller:
    """Pulls modules of agents into a store below `base`; `client` makes a connection from address and certificate."""

    def __init__(
        self, base: Path, identity: Identity, *, clock: Clock | None = None, sandbox: Sandbox | None = None
    ) -> None:
        self.base = base
        self.identity = identity
        self.clock = clock or SystemClock()
        store = base / "store"
        catalog = base / "catalog.sqlite"
        fresh = not store.exists()
        if fresh:
            base.mkdir(parents=True, exist_ok=True)
            Store.create(store)
        self.store = Store.open(store, lock=True)
        self.catalog = Catalog.create(catalog, self.store.id) if fresh else Catalog.open(catalog, self.store.id)
        self.tools = Tools(self.store, self.catalog, sandbox or chosen(), self.clock)
        self.cancel = Cancel()
        self.progress: list[Progress] = []
        self._runs = 0

    def client(self, address: str, certificate: bytes, host: str = "web1", **options: Any) -> AgentClient:
        """A connection to an agent, with AgentClient's `options`."""
        return AgentClient(address, host=host, identity=self.identity, agent_certificate=certificate, **options)

    def pull(
        self, client: AgentClient, module: str, *, bwlimit: float = 0, watch: Watcher | None = None, **task: object
    ) -> PullReport:
        """One pull, at `bwlimit` bytes a second at most; raises BackupError."""
        with client.open(module, bwlimit=bwlimit) as session:
            told = watch or self.progress.append
            return pull_module(self._task(client, module, task), session, self.tools, self.cancel, told)

    def plan(self, client: AgentClient, module: str) -> list[PlannedChange]:
        """A dry run."""
        with client.open(module) as session:
            return list(plan_module(self._task(client, module, {}), session, self.tools))

    def entries(self, module: str, host: str = "web1") -> dict[bytes, Entry]:
        """The newest snapshot."""
        newest = self.store.newest(host, module)
        assert newest is not None
        return {entry.path: entry for entry in self.store.entries(newest)}

    def content(self, entry: Entry) -> bytes:
        """Content of a file."""
        with self.store.objects.open_entry(entry) as source:
            return source.read()

    def close(self) -> None:
        """Close store and catalog."""
        self.catalog.close()
        self.store.close()

    def __enter__(self) -> Puller:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _task(self, client: AgentClient, module: str, task: dict[str, object]) -> Task:
        self._runs += 1
        return Task(run=f"run-{self._runs}", host=client.host, module=module, **task)  # type: ignore[arg-type]
