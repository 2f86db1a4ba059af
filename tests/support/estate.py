"""A real store and its catalog, filled the way pulls fill them, without a host or a transfer."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.clock import Clock, SystemClock
from pyrsyncbackup_collector.entry import DIRECTORY, Entry, order, parent, text_or_bytes
from pyrsyncbackup_collector.pull.ledger import ModuleMemory, StoredObject
from pyrsyncbackup_collector.store.garbage import Collected, Collector, Pace
from pyrsyncbackup_collector.store.objects import LARGE
from pyrsyncbackup_collector.store.snapshot import Change, Facts, Snapshot
from pyrsyncbackup_collector.store.store import Store


@dataclass(frozen=True)
class Content:
    """What a file holds, and how it came."""

    data: bytes
    public: bool = True
    claimed: bool = False
    stale: bool = False
    error: str = ""


class Estate:
    """A store under its lock and a catalog, below one directory. Close it. Contents over `large` go into chunks."""

    def __init__(self, directory: Path, clock: Clock | None = None, *, large: int = LARGE) -> None:
        self.catalog_path = directory / "catalog.sqlite"
        self.clock = clock or SystemClock()
        Store.create(directory / "store")
        self.store = Store.open(directory / "store", lock=True, clock=self.clock, large=large)
        self.catalog = Catalog.create(self.catalog_path, self.store.id, clock=self.clock)

    def close(self) -> None:
        self.catalog.close()
        self.store.close()

    def pull(
        self,
        host: str,
        module: str,
        files: dict[bytes, Content | None],
        *,
        state: str = "complete",
        recorded: bool = True,
        share: bool = True,
        roots: tuple[bytes, ...] = (),
        time: float = 1_790_000_000.5,
    ) -> Snapshot:
        """Commit changes to the newest snapshot: files by path, None for one that is gone. Not `recorded`: a crash."""
        run = self.catalog.run_begin(host, module)
        contents = [content for content in files.values() if content and not content.claimed]
        self.catalog.pin_known(run, [hashlib.sha256(content.data).hexdigest() for content in contents])
        self.catalog.record_objects(run, host, [self._object(content, share) for content in contents])
        changes = self._changes(host, module, files)
        previous = self.store.newest(host, module)
        snapshot = self.store.commit(
            host,
            module,
            time=time,
            state=state,
            changes=changes,
            previous=previous,
            facts=Facts(share=share, roots=roots),
        )
        if recorded:
            memory = ModuleMemory(snapshot.sequence, b"\1" * 8 * snapshot.totals.entries, b"finger")
            before = previous.sequence if previous else 0
            self.catalog.commit(run, snapshot, changes, memory, previous=before, share=share)
            self.catalog.unpin(run)
            self.catalog.run_end(run, state, sequence=snapshot.sequence)
        return snapshot

    def prune(self, host: str, module: str, *sequences: int) -> None:
        """Remove snapshots from the store, then from the catalog."""
        done = self.store.prune(host, module, dict.fromkeys(sequences, "by a test"))
        self.catalog.drop_snapshots(host, module, [each.sequence for each in done.removed])

    def collect(self, grace: float = 86400.0) -> Collected:
        """One collection, as fast as it goes."""
        pace = Pace(0, self.clock, lambda _: None)
        return Collector(self.store.objects, self.catalog, pace, grace, lambda *_: None).run()

    def _changes(self, host: str, module: str, files: dict[bytes, Content | None]) -> list[Change]:
        newest = self.store.newest(host, module)
        present = {entry.path for entry in self.store.entries(newest)} if newest else set()
        digests = {path: hashlib.sha256(content.data).hexdigest() for path, content in files.items() if content}
        lists = self.catalog.lists(set(digests.values()))
        changes = {
            path: Change(path, _file(path, content, lists.get(digests[path], "")) if content else None)
            for path, content in files.items()
        }
        for path in files:
            while (path := parent(path)) and path not in present:
                changes[path] = Change(path, Entry(path_text=path.decode(), type=DIRECTORY, mode=0o755))
        return sorted(changes.values(), key=lambda change: order(change.path))

    def _object(self, content: Content, share: bool) -> StoredObject:
        with tempfile.TemporaryFile() as file:
            file.write(content.data)
            file.seek(0)
            found = self.store.objects.ingest(file.fileno(), 1 << 30)
            public = content.public and share
            return StoredObject(found.sha256, found.size, found.stored_size, public, found.chunked)


def _file(path: bytes, content: Content, chunks: str = "") -> Entry:
    text, raw = text_or_bytes(path)
    return Entry(
        path_text=text,
        path_b64=raw,
        mode=0o644,
        size=len(content.data),
        sha256=hashlib.sha256(content.data).hexdigest(),
        chunks=chunks,
        public=content.public,
        claimed=content.claimed,
        stale=content.stale,
        error=content.error,
    )
