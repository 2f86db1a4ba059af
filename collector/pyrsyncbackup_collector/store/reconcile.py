"""What a start puts in order after a crash, and what it can only tell.

Runs once, with the store's lock held and before anything else writes. Nothing that a snapshot needs is ever removed:
what does not fit is set aside under another name and reported.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pyrsyncbackup_collector.errors import BackupError, StoreError
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.commit import discard_drafts
from pyrsyncbackup_collector.store.faults import translated
from pyrsyncbackup_collector.store.log import LogContent, ModuleLog
from pyrsyncbackup_collector.store.snapshot import Recorded

if TYPE_CHECKING:
    from pyrsyncbackup_collector.store.store import Store

# Behind the name of a manifest that is not whole and has no line in the log.
SET_ASIDE = ".damaged"


@dataclass(slots=True)
class ReconcileReport:
    """What was found, and was not as it should be.

    `completed` got their line in the log now: the catalog does not know them. `missing` are in the log and have no
    file. `faults` are lines for an administrator.
    """

    completed: list[Recorded] = field(default_factory=list)
    set_aside: list[Path] = field(default_factory=list)
    missing: list[Recorded] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def reconcile(store: Store) -> ReconcileReport:
    """Put `store` in order; its lock is held, and no pull runs."""
    report = ReconcileReport()
    _clear_incoming(store, report)
    store.objects.clear_temporary()
    _clear_top(store.path)
    store.reserve.fill()
    for host, module in store.modules():
        try:
            _reconcile_module(store, host, module, report)
        except StoreError as fault:
            report.faults.append(f"{host}/{module}: {fault.cause}")
    return report


def _clear_top(path: Path) -> None:
    """Remove what was never finished beside the store's own directories, the mark of a recovery that was among it."""
    with translated(path):
        for item in path.iterdir():
            if item.name.startswith(layout.TEMPORARY) and item.is_file():
                item.unlink()


def _clear_incoming(store: Store, report: ReconcileReport) -> None:
    with translated(store.path / layout.INCOMING):
        for item in (store.path / layout.INCOMING).iterdir():
            try:
                layout.remove_tree(item)
            except OSError as fault:
                report.faults.append(f"{item} cannot be removed: {fault.strerror}")


def _reconcile_module(store: Store, host: str, module: str, report: ReconcileReport) -> None:
    directory = layout.module_directory(store.path, host, module)
    discard_drafts(directory)
    log = store.log(host, module)
    content = log.read()
    if content.torn:
        content = log.cut(content)
        report.faults.append(f"{host}/{module}: the last line of the log was torn, and was cut off")
    content = log.undone(content)
    content, faults = log.accept(content)
    report.faults += [f"{host}/{module}: {fault}" for fault in faults]
    content = complete(store, log, content, directory, report, host, module)
    if not log.is_sealed(content):
        log.seal(content)
    store.sweep(host, module)
    found = {one.sequence for one in store.recorded(host, module)}
    for sequence, line in content.committed().items():
        name = layout.parse_manifest(line.file)
        if sequence not in found:
            stem, kind = (name.name, name.kind) if name else (line.file, "")
            report.missing.append(Recorded(host, module, sequence, stem, kind, line.manifest))
            report.faults.append(f"{host}/{module}: the manifest {line.file} is missing")


def complete(
    store: Store, log: ModuleLog, content: LogContent, directory: Path, report: ReconcileReport, host: str, module: str
) -> LogContent:
    """Give manifests without a line in the log theirs, if they are whole; set aside those that are not."""
    logged = {line.file for line in content.lines if line.op == "commit"}
    pruned = {line.file for line in content.lines if line.op == "prune"}
    with translated(directory):
        names = [layout.parse_manifest(item.name) for item in directory.iterdir()]
    unlogged = sorted((n for n in names if n and n.file_name not in logged), key=lambda n: n.sequence)
    lost = not content.count and len(unlogged) > 1
    for name in unlogged:
        path = directory / name.file_name
        if name.file_name in pruned:
            continue
        with translated(path), path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        recorded = Recorded(host, module, name.sequence, name.name, name.kind, digest)
        try:
            if name.sequence <= content.highest():
                raise StoreError(f"the log already has a snapshot {name.sequence} or later")
            snapshot = store.snapshot(recorded)
            for _ in store.entries(snapshot):
                pass
        except BackupError as fault:
            aside = path.with_name(path.name + SET_ASIDE)
            with translated(path):
                path.replace(aside)
            report.set_aside.append(aside)
            report.faults.append(f"{host}/{module}: {path.name} was set aside: {fault.cause}")
            continue
        content = log.append(
            content, "commit", name.sequence, file=name.file_name, manifest=digest, time_s=int(snapshot.time // 1)
        )
        report.completed.append(recorded)
    if lost:
        # A crash leaves one at most.
        why = f"the log was not there, {len(unlogged)} manifests are"
        report.faults.append(f"{host}/{module}: {why}")
        content = log.append(content, "accept", content.highest(), reason=why)
    return content
