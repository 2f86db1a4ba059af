"""How snapshots go: their lines in the log, then their files, some at a time.

The line comes first, so that a crash leaves a file without a snapshot and never a snapshot without its file; `sweep`
removes such files. What a reader holds is left for the next time. Which snapshots go is not decided here.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from pyrsyncbackup_collector.errors import BackupError, CatalogFull, StoreDamaged, StoreFull
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.commit import Step
from pyrsyncbackup_collector.store.faults import translate, translated
from pyrsyncbackup_collector.store.log import Line, LogContent, ModuleLog, Operation
from pyrsyncbackup_collector.store.lost import NEXT_LOG
from pyrsyncbackup_collector.store.reserve import Reserve
from pyrsyncbackup_collector.store.snapshot import Recorded

# Told before each is done: for a batch the first three, for every snapshot the fourth, once at the end the others.
STEPS: Final = ("announce", "lines", "head", "unlink", "sweep", "sync directory", "done")
# Lines that are written as one: a fifth of a millisecond for each then, not ten; and so many open files.
BATCH: Final = 64

T = TypeVar("T")
# The base of a manifest of this module by its file's stem, None for a full one. Raises StoreDamaged.
BaseOf = Callable[[Recorded], str | None]


@dataclass(slots=True)
class Pruned:
    """What became of the snapshots that were to go.

    `removed` have their line and are snapshots no more; `locked` are read by somebody; `pinned` were pinned meanwhile.
    `files` counts the manifests that were unlinked: fewer than `removed` where a kept delta needs one, more where
    earlier ones went with it. `kept_files` are pruned full manifests that stay, each with the reason.
    """

    removed: list[Recorded] = field(default_factory=list)
    locked: list[Recorded] = field(default_factory=list)
    pinned: list[Recorded] = field(default_factory=list)
    files: int = 0
    kept_files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ground:
    """What pruning one module stands on; who uses it holds the module's lock for writing.

    `listed` gives the module's snapshots for a log's content, by sequence number.
    """

    directory: Path
    log: ModuleLog
    listed: Callable[[LogContent], Mapping[int, Recorded]]
    base_of: BaseOf
    reserve: Reserve
    step: Step


def prune(ground: Ground, why: Mapping[int, str], *, pinned_too: bool = False) -> Pruned:
    """Remove the snapshots with the sequence numbers in `why`; each line in the log says why.

    Pinned ones stay, but for `pinned_too`. Raises StoreError; what was done until then is done, and a later call goes
    on.
    """
    done = Pruned()
    content = ground.log.read()
    if content.torn:
        content = ground.log.cut(content)
    if faults := ground.log.verify(content):
        # What is said of pins may be missing: the next commit, or start, says so in the log, and rules stand still.
        raise StoreDamaged(f"nothing is removed: the log does not fit: {'; '.join(faults)}", NEXT_LOG)
    present = dict(ground.listed(content)) | _without_file(ground, content, why)
    pins = {} if pinned_too else content.pins()
    done.pinned = [present[sequence] for sequence in sorted(set(why) & set(present) & set(pins))]
    going = [present[sequence] for sequence in sorted((set(why) & set(present)) - set(pins))]
    for batch in batched(going):
        content = _prune_batch(ground, content, batch, why, done)
    ground.step("sweep")
    sweep(ground, content, done)
    ground.step("sync directory")
    with translated(ground.directory):
        layout.sync_directory(ground.directory)
    ground.step("done")
    return done


def _without_file(ground: Ground, content: LogContent, why: Mapping[int, str]) -> dict[int, Recorded]:
    """Those of `why` that the log has and whose file somebody removed: their line alone is to come."""
    there = ground.listed(content)
    host, module = ground.directory.parent.name, ground.directory.name
    found = {}
    for sequence, line in content.committed().items():
        name = layout.parse_manifest(line.file) if sequence in why and sequence not in there else None
        if name is not None:
            found[sequence] = Recorded(host, module, sequence, name.name, name.kind, line.manifest)
    return found


def batched(going: Sequence[Recorded]) -> Iterator[Sequence[Recorded]]:
    """What is written together."""
    return (going[place : place + BATCH] for place in range(0, len(going), BATCH))


def _prune_batch(
    ground: Ground, content: LogContent, batch: Sequence[Recorded], why: Mapping[int, str], done: Pruned
) -> LogContent:
    with ExitStack() as held:
        free: list[Recorded] = []
        for recorded in batch:
            alone = held.enter_context(_alone(ground.directory / recorded.file_name))
            (free if alone else done.locked).append(recorded)
        if not free:
            return content
        content = _strike(ground, content, free, why)
        done.removed += free
        for recorded in free:
            ground.step("unlink")
            if recorded.kind == "delta":
                path = ground.directory / recorded.file_name
                with translated(path):
                    path.unlink(missing_ok=True)
                done.files += 1
    return content


def sweep(ground: Ground, content: LogContent, done: Pruned) -> None:
    """Remove the files of pruned snapshots that are still there, but for bases that a kept delta names.

    Where a kept delta cannot be read nobody knows its base: every full manifest before it stays.
    """
    with translated(ground.directory):
        there = {item.name for item in ground.directory.iterdir()}
    going = [line.file for line in content.pruned().values() if line.file in there]
    if not going:
        return
    needed, unsure = _needed(ground, content)
    for name in sorted(going):
        parsed = layout.parse_manifest(name)
        if parsed is None:
            continue
        if parsed.kind == "full" and parsed.name in needed:
            done.kept_files[name] = f"it is the base of {needed[parsed.name]}"
            continue
        if parsed.kind == "full" and (doubt := next((n for s, n in unsure if s > parsed.sequence), None)):
            done.kept_files[name] = f"{doubt} cannot be read and may need it"
            continue
        path = ground.directory / name
        with _alone(path) as alone, translated(path):
            if alone:
                path.unlink(missing_ok=True)
                done.files += 1
            else:
                done.kept_files[name] = "somebody reads it"


def note(ground: Ground, op: Operation, sequence: int, why: str, time_s: int = 0) -> None:
    """A line about a snapshot in the module's log, durably."""
    content = ground.log.read()
    if content.torn:
        content = ground.log.cut(content)
    content, _ = ground.log.accept(content)
    after = with_room(ground.reserve, lambda: ground.log.append(content, op, sequence, reason=why, time_s=time_s))
    with_room(ground.reserve, lambda: ground.log.seal(after))


def _needed(ground: Ground, content: LogContent) -> tuple[dict[str, str], list[tuple[int, str]]]:
    """The bases that kept deltas name, each with one that does; and the kept deltas that cannot be read."""
    needed: dict[str, str] = {}
    there = ground.listed(content)
    # A delta whose file is gone may come back from a second copy.
    unsure = [
        (sequence, line.file)
        for sequence, line in content.committed().items()
        if sequence not in there and line.file.endswith(".delta.zst")
    ]
    for recorded in there.values():
        if recorded.kind != "delta":
            continue
        try:
            base = ground.base_of(recorded)
        except BackupError:
            unsure.append((recorded.sequence, recorded.name))
        else:
            if base is not None:
                needed.setdefault(base, recorded.name)
    return needed, unsure


def _strike(ground: Ground, content: LogContent, going: Sequence[Recorded], why: Mapping[int, str]) -> LogContent:
    """The lines of a prune and their head; on a full disk with room from the reserve."""
    lines = [Line("prune", one.sequence, "", one.file_name, one.digest, reason=why[one.sequence]) for one in going]
    if len(lines) > 1:
        ground.step("announce")
        with_room(ground.reserve, lambda: ground.log.announce(content, lines))
    ground.step("lines")
    after = with_room(ground.reserve, lambda: ground.log.extend(content, lines))
    ground.step("head")
    with_room(ground.reserve, lambda: ground.log.seal(after))
    return after


def with_room(reserve: Reserve, write: Callable[[], T]) -> T:
    """What `write` returns; while the disk is full it gets a piece of the reserve and is tried again."""
    while True:
        try:
            return write()
        except (StoreFull, CatalogFull):
            if not reserve.spend():
                raise


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether nobody reads the file, who is then kept from beginning to; held while inside. No file: nobody does."""
    with translated(path):
        try:
            # For writing: NFS gives an exclusive lock to nobody else.
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            yield True
            return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            alone = False
        except OSError as fault:
            raise translate(fault, path) from fault
        yield alone
    finally:
        os.close(file)
