"""What a pull stands on: the newest snapshot as far as it can be relied on, and what has to come although it is known.

Decides when a newest snapshot is not to be relied on: its manifest, or the full one below it, is not the file that the
log names, or cannot be read. What is done then is the driver's.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import msgspec

from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import NotFound, SnapshotDamaged, StoreDamaged
from pyrsyncbackup_collector.pull.compare import Comparison
from pyrsyncbackup_collector.pull.ledger import Known, Ledger
from pyrsyncbackup_collector.store.snapshot import Recorded, Snapshot
from pyrsyncbackup_collector.store.store import Store


@dataclass(frozen=True, slots=True)
class Foundation:
    """`previous` is the newest snapshot (None: there is none, or it is damaged), `sequence` its number in any case.

    `lost` are digests of contents of it that have to come again.
    """

    comparison: Comparison
    previous: Snapshot | None
    sequence: int
    lost: AbstractSet[str] = frozenset()


def foundation_of(store: Store, ledger: Ledger, host: str, module: str) -> Foundation:
    """The newest snapshot of a module, and what is remembered of it. Raises SnapshotDamaged.

    Also where the store has another newest one than the catalog: what is older than that would not fit what follows.
    """
    recorded = store.recorded(host, module)
    known = ledger.newest(host, module)
    if known is not None:
        _must_be_there(known, recorded)
    if not recorded:
        return Foundation(Comparison(array("Q")), None, 0)
    newest = recorded[-1]
    try:
        previous = store.snapshot(newest)
    except (StoreDamaged, NotFound) as error:
        raise SnapshotDamaged(error.cause, newest.name, newest.sequence) from error
    memory = ledger.memory(host, module)
    lost = ledger.lost(host, module)
    tokens: array[int] = array("Q")
    if memory is not None and memory.sequence == previous.sequence:
        tokens.frombytes(memory.tokens)
    return Foundation(Comparison(tokens, lost), previous, previous.sequence, lost)


def _must_be_there(known: Known, recorded: Sequence[Recorded]) -> None:
    """Raise SnapshotDamaged if the store lacks the newest snapshot that the catalog knows. It may have a later one."""
    if not recorded or recorded[-1].sequence < known.sequence:
        raise SnapshotDamaged("it is not in the store", known.name, known.sequence)
    there = next((one for one in reversed(recorded) if one.sequence <= known.sequence), None)
    if there is None or (there.sequence, there.digest) != (known.sequence, known.digest):
        raise SnapshotDamaged("the store has another one in its place", recorded[-1].name, recorded[-1].sequence)


def entries_of(store: Store, snapshot: Snapshot | None) -> Iterator[Entry]:
    """What the snapshot holds, of files that are what the log names; nothing for None. Raises SnapshotDamaged."""
    if snapshot is None:
        return
    try:
        yield from store.entries(snapshot, verify=True)
    except (StoreDamaged, NotFound) as error:
        raise SnapshotDamaged(error.cause, snapshot.name, snapshot.sequence) from error


def as_it_was(entry: Entry, before: Entry) -> Entry:
    """`before`, if `entry` is the same but for where its content came from and how it lies on the host's disk."""
    same = msgspec.structs.replace(entry, claimed=before.claimed, allocated=before.allocated)
    return before if same == before else entry
