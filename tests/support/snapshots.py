"""Small snapshots, changes and contents by value."""

from __future__ import annotations

import hashlib

from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.pull.ledger import ModuleMemory, StoredObject
from pyrsyncbackup_collector.store.snapshot import Change, Snapshot, Totals


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def stored(content: str, *, public: bool = True) -> StoredObject:
    return StoredObject(digest(content), len(content), len(content) // 2, public)


def snapshot(sequence: int, host: str = "web1", module: str = "nginx", **changed: object) -> Snapshot:
    values: dict[str, object] = {
        "name": f"{sequence:06d}-2026-11-22T214903Z",
        "time": 1_790_000_000.0 + sequence,
        "state": "complete",
        "base": None,
        "digest": digest(f"{host}{module}{sequence}"),
        "totals": Totals(entries=3, files=2, size=10),
    }
    return Snapshot(host, module, sequence, **(values | changed))  # type: ignore[arg-type]


def change(path: bytes, content: str | None = "x") -> Change:
    entry = Entry(path_text=path.decode(), sha256=digest(content), size=len(content)) if content is not None else None
    return Change(path, entry)


def memory(sequence: int) -> ModuleMemory:
    return ModuleMemory(sequence, b"\1" * 8, b"finger")
