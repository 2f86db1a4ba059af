"""One drill: a snapshot is restored into a scratch directory, compared with its manifest, and tried out there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from pyrsyncbackup_collector.drill import validator
from pyrsyncbackup_collector.drill.sample import Sample
from pyrsyncbackup_collector.drill.validator import ABSENT, NOT_RUN, Validation
from pyrsyncbackup_collector.entry import DIRECTORY, FILE, Entry, printable
from pyrsyncbackup_collector.errors import RestoreError
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.store.attributes import Rights
from pyrsyncbackup_collector.store.layout import remove_tree
from pyrsyncbackup_collector.store.overwrite import Action
from pyrsyncbackup_collector.store.restore import restore
from pyrsyncbackup_collector.store.restore_plan import plan
from pyrsyncbackup_collector.store.restore_report import Reason
from pyrsyncbackup_collector.store.snapshot import Snapshot
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.store.survey import Rules
from pyrsyncbackup_collector.transport.offer import Validator

SCRATCH: Final = "drill"
# What differs is counted; so many are named.
MAX_EXAMPLES: Final = 20
_RIGHTS: Final = Rights.of_this_process(owner=False, special=False)
# No fault of the backup: it was so on the host, or no drill could give it.
_EXPECTED: Final = frozenset({Reason.NEVER_READ, Reason.SPECIAL, Reason.OWNER, Reason.ATTRIBUTE})


@dataclass(frozen=True, slots=True)
class Drilled:
    """What a drill found. `differences` counts entries that did not come back as they are kept, `examples` name some.

    `whole`: nothing of the snapshot was left out. `validation` None: the module names no validator.
    """

    snapshot: Snapshot
    entries: int
    size: int
    whole: bool
    differences: int
    examples: tuple[str, ...]
    validation: Validation | None = None


@contextmanager
def scratch(state: Path) -> Iterator[Path]:
    """A private directory for drills below `state`, emptied before and removed afterwards. Raises RestoreError."""
    path = state / SCRATCH
    try:
        remove_tree(path)
        path.mkdir(mode=0o700)
    except OSError as error:
        raise RestoreError(f"drills cannot use {path}: {error.strerror}", "let the collector's user own it") from error
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):  # the next one tries again, and says so
            remove_tree(path)


def drill(
    store: Store,
    snapshot: Snapshot,
    sample: Sample,
    tree: Path,
    cancel: Cancel,
    *,
    program: Validator,
    beside: Sequence[Snapshot] = (),
    confined: bool,
) -> Drilled:
    """Restore `sample` of `snapshot` into the new directory `tree`, compare it, and run its validator.

    `beside` are snapshots of modules that the validator needs; `confined` says whether bubblewrap works here, without
    which it is not run. Raises BackupError for what keeps the drill from being held: the scratch directory cannot take
    it, the manifest cannot be read.
    """

    def chosen() -> Iterator[Entry]:
        return map(_usable, sample.of(store.entries(snapshot)))

    def watch(_entries: int, _size: int) -> None:
        cancel.check()

    with store.reading(snapshot):
        report = restore(chosen(), store.objects, tree, owner=False, progress=watch)
        # The file system of the scratch directory may know none.
        bare = any(shortfall.reason is Reason.ATTRIBUTE for shortfall in report.shortfalls)
        differences, examples = 0, []
        expected = (msgspec.structs.replace(entry, xattrs={}) if bare else entry for entry in chosen())
        for path, why in _differences(expected, tree, cancel):
            differences += 1
            if differences <= MAX_EXAMPLES:
                examples.append(f"/{printable(path)}: {why}")
        found = None
        if program.command:
            found = _validated(store, snapshot, sample, tree, cancel, program, beside, confined)
    return Drilled(snapshot, report.entries, report.size, sample.whole, differences, tuple(examples), found)


def _usable(entry: Entry) -> Entry:
    """`entry` that its owner may read (/etc/shadow, on some), and as a directory that nobody else may write to (/tmp).

    A restore goes into no such directory that it finds: neither would the comparison, nor the module beside it.
    """
    if entry.type == DIRECTORY:
        mode = (entry.mode | 0o700) & ~0o1022
    else:
        mode = entry.mode | (0o400 if entry.type == FILE else 0)
    return entry if mode == entry.mode else msgspec.structs.replace(entry, mode=mode)


def _differences(entries: Iterator[Entry], tree: Path, cancel: Cancel) -> Iterator[tuple[bytes, str]]:
    """Each entry that is not in the tree as the manifest has it, read from the disk again, and why."""
    for planned in plan(entries, tree, Rules(_RIGHTS)):
        cancel.check()
        decision = planned.decision
        if decision.action is Action.SAME or decision.reason in _EXPECTED:
            continue
        yield planned.entry.path, "it is missing" if decision.action is Action.MAKE else "it differs from the manifest"


def _validated(
    store: Store,
    snapshot: Snapshot,
    sample: Sample,
    tree: Path,
    cancel: Cancel,
    program: Validator,
    beside: Sequence[Snapshot],
    confined: bool,
) -> Validation:
    if not sample.whole:
        return Validation(NOT_RUN, ("the module is too large to be restored as a whole for a drill",))
    if not confined:
        return Validation(NOT_RUN, ("it runs in bubblewrap alone, which does not work here",))
    if validator.program(program.command) is None:
        return Validation(ABSENT, (f"{printable(program.command[0])} is not installed on this machine",))
    if not sample.bounds.hold([sample.totals, *(other.totals for other in beside)]):
        return Validation(NOT_RUN, ("the modules that it needs beside are too large to be restored for a drill",))
    if lacking := validator.lacking(program.command, tree):
        return Validation(NOT_RUN, (f"the snapshot has no {printable(lacking)}",))
    roots = set(store.facts(snapshot).roots)
    for other in beside:
        with store.reading(other):
            entries = map(_usable, store.entries(other))
            restore(entries, store.objects, tree, owner=False, progress=lambda *_: cancel.check())
            roots.update(store.facts(other).roots)
    return validator.run(program.command, Path(os.path.realpath(tree)), roots, program.directories, cancel)
