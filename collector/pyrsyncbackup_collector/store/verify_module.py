"""One module's log and manifests, compared with each other, with the signature, and with what the catalog knows.

A manifest whose SHA-256 is the one in a sound log is what the collector wrote, which checked it then; so its lines are
read to collect what they need, not to judge them again one against the other. Objects are looked at by `verify`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Final

from pyrsyncbackup_collector.entry import Entry, printable
from pyrsyncbackup_collector.errors import NotFound, StoreDamaged, StoreError, StoreMissing, StoreReadOnly
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.faults import translated
from pyrsyncbackup_collector.store.findings import (
    LOG,
    MANIFEST,
    MISSING,
    ROTTEN,
    TAMPERED,
    Finding,
    Needing,
    mended_copy,
)
from pyrsyncbackup_collector.store.log import Line, LogContent, ModuleLog
from pyrsyncbackup_collector.store.lost import NEXT_LOG, NEXT_MANIFEST, NO_FILE
from pyrsyncbackup_collector.store.manifest import Base, checked
from pyrsyncbackup_collector.store.snapshot import Recorded

if TYPE_CHECKING:
    from pyrsyncbackup_collector.store.store import Store

# What the catalog knows of a module's snapshots: name and digest of the manifest (hexadecimal) by sequence number.
Known = Mapping[int, tuple[str, str]]

# How often a log that does not fit is read again while it changes, and how long a first or half a line may take.
_TRIES: Final = 5
_LINE: Final = 0.1
# A first commit has its manifest and the directory on the disk before the log begins: seconds, where the disk is busy.
_FIRST_TRIES: Final = 100
# Faults of one log that are told.
_SHOWN: Final = 5


class ModuleCheck:
    """Looks at one module. Afterwards `findings` has what is wrong, `manifests` how many were read."""

    def __init__(self, store: Store, host: str, module: str, need: Callable[[Entry], None]) -> None:
        """`need` is told each entry whose content is needed, perhaps by a snapshot that is about to go."""
        self._store = store
        self._host, self._module = host, module
        self._name = f"{host}/{module}"
        self._need = need
        self._broken: dict[str, tuple[str, str]] = {}
        self._dependents: dict[str, Needing] = {}
        # Digests of the manifests that were looked at, by name.
        self._seen: dict[str, str] = {}
        self._committed: Mapping[int, Line] = {}
        self.findings: list[Finding] = []
        self.manifests = 0
        self.pruned = 0
        self.accepted: list[str] = []

    def run(self, known: Known | None, only: int | None = None) -> None:
        """All of the module, or its log and the one snapshot with number `only`."""
        content = self._log(known)
        committed = self._committed
        for sequence, line in sorted(committed.items()):
            if only in (None, sequence):
                self._manifest(line)
        if only is None:
            self._unlogged(content)
        for name, (kind, cause) in self._broken.items():
            needing = self._dependents.get(name, Needing())
            step = self._next(name, NEXT_MANIFEST)
            self.findings.append(Finding(kind, MANIFEST, f"{self._name}@{name}", cause, needing, step))

    # The log

    def _log(self, known: Known | None) -> LogContent:
        """Look at the log; what it holds. It is read again while somebody writes to it."""
        log = self._store.log(self._host, self._module)
        content = log.read()
        for tries in count(1):
            committed = self._store.held(self._host, self._module, content)
            faults = self._log_faults(log, content, committed, known or {})
            if not faults or tries >= (_FIRST_TRIES if self._first_commit(content) else _TRIES):
                break
            doubtful = content.torn or not content.count
            if doubtful:
                _pause()
            before, content = content, log.read()
            if content == before and not doubtful:
                break
        self._committed = committed
        self.pruned = sum(1 for line in content.lines if line.op == "prune")
        self.accepted = [
            f"{self._name}: found before, and gone on with: {line.reason}"
            for line in content.lines
            if line.op == "accept"
        ]
        if faults:
            more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
            kind = TAMPERED if log.path.exists() else MISSING
            self._about_log(kind, "; ".join(faults[:_SHOWN]) + more, committed, known)
        return content

    def _log_faults(
        self, log: ModuleLog, content: LogContent, committed: Mapping[int, Line], known: Known
    ) -> list[str]:
        if content.count or content.torn or log.path.exists():
            return [*log.verify(content), *_against(content, committed, known)]
        return ["its file is not there"] if known or self._must_have_log() else []

    def _about_log(self, kind: str, cause: str, committed: Mapping[int, Line], known: Known | None) -> None:
        copied = self._store.copied
        names = copied.names(self._host, self._module) if copied else {}
        names |= {sequence: name for sequence, (name, _) in (known or {}).items()}
        names |= {sequence: _stem(line) for sequence, line in committed.items()}
        needing = Needing()
        for sequence in sorted(names):
            needing = needing.with_one(f"{self._name}@{names[sequence]}")
        self.findings.append(Finding(kind, LOG, self._name, cause, needing, self._next("log", NEXT_LOG)))

    def _next(self, stem: str, otherwise: str) -> str:
        if self._store.copied is None:
            return otherwise
        return mended_copy(f"{layout.MANIFESTS}/{self._name}/{stem}*")

    def _must_have_log(self) -> bool:
        """A copy that has none of its snapshots may be about to get the first; a store gets its log at once."""
        if self._store.copied is not None:
            return bool(self._store.copied.names(self._host, self._module))
        return bool(self._lying())

    def _first_commit(self, content: LogContent) -> bool:
        """Whether it looks as in the middle of one: the first manifest, alone, and no line yet."""
        if self._store.copied is not None or content.count or content.torn:
            return False
        return self._lying() == [1]

    def _lying(self) -> list[int]:
        """The numbers of the manifests that lie there."""
        directory = layout.module_directory(self._store.path, self._host, self._module)
        with translated(directory):
            found = [layout.parse_manifest(item.name) for item in directory.iterdir()] if directory.is_dir() else []
        return [name.sequence for name in found if name]

    # Manifests

    def _manifest(self, line: Line) -> None:
        name = layout.parse_manifest(line.file)
        if name is None or name.sequence != line.sequence:
            cause = f"its line of snapshot {line.sequence} names no manifest of it: {printable(line.file[:100])}"
            self.findings.append(Finding(TAMPERED, LOG, self._name, cause, Needing(), NEXT_LOG))
            return
        self.manifests += 1
        recorded = Recorded(self._host, self._module, name.sequence, name.name, name.kind, line.manifest)
        base = self._looked_at(recorded)
        if name.name in self._broken:
            self._depends(name.name, name.name)
        elif base is not None:
            self._base(recorded, base)

    def _base(self, recorded: Recorded, base: Base) -> None:
        """The full manifest that a delta stands on: looked at as what the delta says it is."""
        if base.name not in self._seen:
            try:
                self._looked_at(self._store.base_of(recorded, base))
            except StoreDamaged as error:
                self._broken[recorded.name] = TAMPERED, error.cause
                self._depends(recorded.name, recorded.name)
                return
        elif self._seen[base.name] != base.digest and base.name not in self._broken:
            self._broken[base.name] = TAMPERED, f"the log names another file than {recorded.name}, which stands on it"
        if base.name in self._broken:
            self._depends(base.name, recorded.name)

    def _looked_at(self, recorded: Recorded) -> Base | None:
        """Compare a manifest with its digest and read it to its end; its base. What is wrong goes to `_broken`."""
        self._seen[recorded.name] = recorded.digest
        place = f"{self._name}@{recorded.name}"
        try:
            with self._store.manifest(recorded, verify=True) as reader:
                if reader.header.base is None:
                    for entry in checked(reader.entries(), place):
                        self._need(entry)
                    return None
                for change in reader.changes():
                    if change.entry is not None:
                        self._need(change.entry)
                return reader.header.base
        except NotFound:
            if not self._was_pruned(recorded.sequence):
                self._broken[recorded.name] = MISSING, NO_FILE
        except (StoreMissing, StoreReadOnly):
            raise
        except StoreError as error:
            kind = TAMPERED if isinstance(error, StoreDamaged) else ROTTEN
            self._broken[recorded.name] = kind, error.cause
        return None

    def _was_pruned(self, sequence: int) -> bool:
        """Whether the log says so by now. A base that was pruned stays, so that one is missing all the same."""
        content = self._store.log(self._host, self._module).read()
        return sequence in self._committed and sequence not in self._store.held(self._host, self._module, content)

    def _depends(self, name: str, snapshot: str) -> None:
        self._dependents[name] = self._dependents.get(name, Needing()).with_one(f"{self._name}@{snapshot}")

    def _unlogged(self, content: LogContent) -> None:
        """Manifests that no line names, though later ones are there. A commit that goes on is later than all."""
        logged = {line.file for line in content.lines}
        directory = layout.module_directory(self._store.path, self._host, self._module)
        with translated(directory):
            found = [layout.parse_manifest(item.name) for item in directory.iterdir()] if directory.is_dir() else []
        for name in found:
            if name and name.file_name not in logged and name.sequence <= content.highest():
                self._broken[name.name] = TAMPERED, "no line of the log names it"


def _pause() -> None:
    threading.Event().wait(_LINE)


def _against(content: LogContent, committed: Mapping[int, Line], known: Known) -> list[str]:
    """What the catalog knows and the log does not say: an older copy with its old head fits in itself."""
    given = {line.sequence for line in content.lines if line.op == "commit"}
    lost = [name for sequence, (name, _) in sorted(known.items()) if sequence not in given]
    other = [
        name
        for sequence, (name, digest) in sorted(known.items())
        if sequence in committed and committed[sequence].manifest != digest
    ]
    faults = []
    if lost:
        faults.append(f"{_counted(lost)} of the catalog no line names: it is an older copy, or lines were taken away")
    if other:
        faults.append(f"it names other manifests than the catalog for {_counted(other)}")
    return faults


def _counted(names: list[str]) -> str:
    return f"snapshot {names[0]}" if len(names) == 1 else f"{len(names)} snapshots ({names[0]} the first)"


def _stem(line: Line) -> str:
    name = layout.parse_manifest(line.file)
    return name.name if name else f"{line.sequence:06d}"
