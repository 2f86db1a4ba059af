"""What a round has to bring: snapshots of the source that the copy lacks, module by module, oldest first.

What does not fit in the source (a log, a manifest) is left out and named; that it is not in the copy is better than
that it is there as if it were sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from pyrsyncbackup_collector.copies.form import ModuleState, State
from pyrsyncbackup_collector.errors import StoreDamaged, StoreError
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.faults import translated
from pyrsyncbackup_collector.store.log import LogContent, parse
from pyrsyncbackup_collector.store.signature import Head
from pyrsyncbackup_collector.store.snapshot import Recorded
from pyrsyncbackup_collector.store.store import Store

# A snapshot, or a module, that could not be brought, and why.
LeaveOut = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a module has for the copy. `log` and `head` are the files' bytes, from one moment."""

    host: str
    module: str
    snapshots: tuple[Recorded, ...]
    log: bytes
    head: bytes | None
    changed: bool


def wanted(store: Store, state: State, hosts: str, modules: str, leave_out: LeaveOut) -> Iterator[Wanted]:
    """For each module whose names match, what its log and the copy's state say. Manifests are not opened."""
    for host, module in store.modules():
        if not fnmatchcase(host, hosts) or not fnmatchcase(module, modules):
            continue
        try:
            yield _module(store, host, module, state.of(host, module))
        except StoreError as fault:
            leave_out(f"{host}/{module}", fault.cause)


def _module(store: Store, host: str, module: str, state: ModuleState) -> Wanted:
    if (faults := store.verify_log(host, module)) and not _accepted(store.log(host, module).read(), faults):
        raise StoreDamaged(f"its log does not fit: {'; '.join(faults)}")
    data, head = _log_at_once(layout.module_directory(store.path, host, module))
    content = parse(data)
    _must_know_what_the_copy_has(content, state)
    committed, pins = content.committed(), content.pins()
    # What the copy's own rules removed before it was pinned comes again.
    state.removed = [sequence for sequence in state.removed if sequence in committed and sequence not in pins]
    has = {one.sequence for one in state.held}.union(state.removed)
    missing = [one for one in store.recorded(host, module) if one.sequence in committed.keys() - has]
    return Wanted(host, module, tuple(missing), data, head, len(data) != state.log)


def _must_know_what_the_copy_has(content: LogContent, state: ModuleState) -> None:
    """A log never loses a line: one that knows less than the copy is that of an earlier time, or of another store."""
    logged = {line.file.partition(".")[0] for line in content.lines if line.op == "commit"}
    unknown = [one.name for one in state.held if one.name not in logged]
    if unknown:
        raise StoreDamaged(
            f"the copy has {len(unknown)} of its snapshots that the log here does not know, {unknown[0]} the first: "
            "the store was put back to an earlier state, or another collector writes there; docs/copies.md says more"
        )


def _log_at_once(directory: Path) -> tuple[bytes, bytes | None]:
    """Log and head that belong together: what was added to the log since the head was sealed is for the next round."""
    with translated(directory):
        try:
            head = (directory / layout.HEAD).read_bytes()
            lines = msgspec.json.decode(head, type=Head).lines
        except (FileNotFoundError, msgspec.MsgspecError):
            head, lines = None, 1
        data = (directory / layout.LOG).read_bytes() if (directory / layout.LOG).exists() else b""
    return b"".join(data.splitlines(keepends=True)[:lines]), head


def _accepted(content: LogContent, faults: list[str]) -> bool:
    """Whether all that does not fit is told in the log itself already."""
    return any(line.op == "accept" for line in content.lines) and content.faults == tuple(faults)
