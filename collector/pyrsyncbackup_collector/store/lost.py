"""Snapshots that the catalog knows and the store lacks, as values, and what is said of them.

Nothing is guessed about them: they keep their place in the catalog, and with it all their contents, until their files
are there again or a rule, or an administrator, lets them go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pyrsyncbackup_collector.store.findings import LOG, MANIFEST, MISSING, TAMPERED, Finding, Needing

NEXT_LOG: Final = "find out who changed the store; compare with a second copy"
NEXT_MANIFEST: Final = "bring the file back from a second copy; the next pull goes on without it"
NEXT_MODULE: Final = "take it from a second copy"

# Why the store lacks one.
NO_FILE: Final = "its file is not there"
NO_LINE: Final = "the log does not name it"
OTHER: Final = "the log names another file"
NO_MODULE: Final = "its directory is not there"


@dataclass(frozen=True, slots=True)
class Lost:
    """One of them; `why` is one of the four above."""

    host: str
    module: str
    sequence: int
    name: str
    why: str


def gone_module(host: str, module: str, names: Iterable[str]) -> Finding:
    """That of a module with these snapshots nothing is left in the store, not even its log."""
    needing = Needing()
    for name in names:
        needing = needing.with_one(f"{host}/{module}@{name}")
    known = f"{needing.count} of its snapshots" if needing.count > 1 else "one snapshot of it"
    return Finding(MISSING, LOG, f"{host}/{module}", f"{NO_MODULE}, the catalog knows {known}", needing, NEXT_MODULE)


def findings(host: str, module: str, lost: Iterable[Lost]) -> list[Finding]:
    """What is to be said of the snapshots that one module lost."""
    those = sorted(lost, key=lambda one: one.sequence)
    if any(one.why == NO_MODULE for one in those):
        return [gone_module(host, module, (one.name for one in those))]
    found = [
        Finding(MISSING, MANIFEST, name, NO_FILE, Needing().with_one(name), NEXT_MANIFEST)
        for name in (f"{host}/{module}@{one.name}" for one in those if one.why == NO_FILE)
    ]
    needing = Needing()
    for one in those:
        if one.why in (NO_LINE, OTHER):
            needing = needing.with_one(f"{host}/{module}@{one.name}")
    if needing.count:
        first = needing.snapshots[0].rpartition("@")[2]
        which = f"snapshot {first}" if needing.count == 1 else f"{needing.count} snapshots ({first} the first)"
        cause = f"it lacks {which} of the catalog, or names other files for them"
        found.append(Finding(TAMPERED, LOG, f"{host}/{module}", cause, needing, NEXT_LOG))
    return found
