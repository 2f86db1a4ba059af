"""A real store and its catalog, filled the way pulls fill them, without a host or a transfer."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.entry import DIRECTORY, Entry, order, parent, text_or_bytes
from pyrsyncbackup_collector.pull.ledger import ModuleMemory, StoredObject
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
    """A store under its lock and a catalog, below one directory. Close it."""

    def __init__(self, directory: Path) -> None:
        self.catalog_path = directory / "catalog.sqlite"
        Store.create(directory / "store")
        self.store = Store.open(directory / "store", lock=True)
        self.catalog = Catalog.create(self.catalog_path, self.store.id)

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
    ) -> Snapshot:
        """Commit changes to the newest snapshot: files by path, None for one that is gone. Not `recorded`: a crash."""
        run = self.catalog.run_begin(host, module)
        changes = self._changes(host, module, files)
        contents = [content for content in files.values() if content and not content.claimed]
        self.catalog.record_objects(run, host, [self._object(content, share) for content in contents])
        previous = self.store.newest(host, module)
        snapshot = self.store.commit(
            host,
            module,
            time=1_790_000_000.5,
            state=state,
            changes=changes,
            previous=previous,
            facts=Facts(share=share),
        )
        if recorded:
            memory = ModuleMemory(snapshot.sequence, b"\1" * 8 * snapshot.totals.entries, b"finger")
            self.catalog.commit(run, snapshot, changes, memory, share=share)
            self.catalog.unpin(run)
            self.catalog.run_end(run, state, sequence=snapshot.sequence)
        return snapshot

    def _changes(self, host: str, module: str, files: dict[bytes, Content | None]) -> list[Change]:
        newest = self.store.newest(host, module)
        present = {entry.path for entry in self.store.entries(newest)} if newest else set()
        changes = {path: Change(path, _file(path, content) if content else None) for path, content in files.items()}
        for path in files:
            while (path := parent(path)) and path not in present:
                changes[path] = Change(path, Entry(path_text=path.decode(), type=DIRECTORY, mode=0o755))
        return sorted(changes.values(), key=lambda change: order(change.path))

    def _object(self, content: Content, share: bool) -> StoredObject:
        with tempfile.TemporaryFile() as file:
            file.write(content.data)
            file.seek(0)
            return StoredObject(*self.store.objects.ingest(file.fileno(), 1 << 20), content.public and share)


def _file(path: bytes, content: Content) -> Entry:
    text, raw = text_or_bytes(path)
    return Entry(
        path_text=text,
        path_b64=raw,
        mode=0o644,
        size=len(content.data),
        sha256=hashlib.sha256(content.data).hexdigest(),
        public=content.public,
        claimed=content.claimed,
        stale=content.stale,
        error=content.error,
    )
