"""Logs and manifests that are not what they should be: looked at, recorded, and told, each once where it is new."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.views import UnsoundView
from pyrsyncbackup_collector.entry import Entry, printable
from pyrsyncbackup_collector.store.findings import Finding
from pyrsyncbackup_collector.store.lost import gone_module
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.store.verify_module import ModuleCheck


def look(
    store: Store, catalog: Catalog, host: str, module: str, read: Callable[[Entry], None]
) -> tuple[int, list[Finding]]:
    """Read a module's log and manifests and record what is wrong with them: how many manifests, and all findings.

    `read` is told each entry that was read, and may pause or raise.
    """
    # Before the store is looked at: what is pruned or committed meanwhile is no finding.
    known = {one.sequence: (one.name, one.digest) for one in catalog.snapshots(host, module)}
    if (host, module) in set(store.modules()):
        check = ModuleCheck(store, host, module, read)
        check.run(known)
        manifests, found = check.manifests, check.findings
    else:
        manifests = 0
        found = [gone_module(host, module, (name for _, (name, _) in sorted(known.items())))] if known else []
    for finding in catalog.module_verified(host, module, found):
        logs.get().error(
            f"{finding.what} is {finding.kind}",
            name=finding.name,
            cause=printable(finding.cause),
            snapshots=finding.needing.count,
            next=printable(finding.next),
        )
    return manifests, found


def tell(found: Iterable[UnsoundView]) -> None:
    """What is known of it, for a start: backups go on all the same."""
    for one in found:
        logs.get().error(
            f"{one.what} is {one.kind}",
            name=f"{one.host}/{one.module}" + (f"@{one.name}" if one.name else ""),
            cause=printable(one.cause),
            snapshots=one.total,
            next=printable(one.hint),
        )
