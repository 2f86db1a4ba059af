"""The store: objects, manifests and logs below one directory, the truth about snapshots.

Decides what is visible: a snapshot is there if its manifest lies in its module's directory and the log has its commit
and no prune. How objects and lines look on disk is decided by `objects`, `manifest` and `log`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from types import TracebackType

from pyrsyncbackup_collector.clock import Clock, SystemClock
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import NotFound, StoreBusy, StoreDamaged, StoreError, StoreReadOnly
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store import prune as pruning
from pyrsyncbackup_collector.store.commit import (
    Foundation,
    Step,
    discard_drafts,
    draft_first,
    draft_next,
    no_step,
    publish,
)
from pyrsyncbackup_collector.store.copied import CopiedSnapshots, read_copied
from pyrsyncbackup_collector.store.faults import translated
from pyrsyncbackup_collector.store.lock import StoreLock
from pyrsyncbackup_collector.store.log import Line, LogContent, ModuleLog
from pyrsyncbackup_collector.store.manifest import (
    MANIFEST_FORMAT,
    Base,
    Header,
    ManifestReader,
    checked,
    described,
    overlay,
    split_time,
)
from pyrsyncbackup_collector.store.objects import LARGE, ObjectStore
from pyrsyncbackup_collector.store.prune import Pruned
from pyrsyncbackup_collector.store.reconcile import ReconcileReport, complete, reconcile
from pyrsyncbackup_collector.store.reserve import Reserve
from pyrsyncbackup_collector.store.signature import Signer
from pyrsyncbackup_collector.store.snapshot import COMPLETE, PARTIAL, Change, Facts, Recorded, Snapshot, damaged


class Store:
    """An open store. Any number of threads may use it; writing needs the lock.

    Every method raises StoreError or one of its kinds, and nothing else, for what is wrong with the store.
    """

    def __init__(
        self, path: Path, id: str, lock: StoreLock | None, signer: Signer | None, step: Step, large: int
    ) -> None:
        self.path = path
        self.id = id
        self.objects = ObjectStore(path / layout.OBJECTS, large)
        # What a second copy has; None for the store itself.
        self.copied: CopiedSnapshots | None = None
        self.reserve = Reserve(path)
        self._lock = lock
        self._signer = signer
        self._step = step
        self._writers: dict[tuple[str, str], threading.Lock] = {}
        self._writers_lock = threading.Lock()

    @classmethod
    def create(cls, path: Path) -> str:
        """Make a new, empty store in an empty or new directory; return its id."""
        return layout.create(path).id

    @classmethod
    def open(
        cls,
        path: Path,
        lock: bool = False,
        *,
        signer: Signer | None = None,
        clock: Clock | None = None,
        step: Step = no_step,
        large: int = LARGE,
    ) -> Store:
        """Open the store at `path`; never makes one.

        With `lock` nobody else can write until `close`: StoreBusy names who does. `signer` signs the logs' heads.
        `step` is told each step of a commit or a prune before it is done. Contents of more than `large` bytes go into
        chunks.
        """
        found = layout.read_format(path)
        if found.sealed:
            raise StoreError(f"{path} is an encrypted copy", "read it with --from and --identity")
        if found.copy_of and lock:
            raise StoreReadOnly(f"{path} is a second copy: only `replicate` writes there", "name the store itself")
        held = StoreLock(path, (clock or SystemClock()).now()) if lock else None
        store = cls(path, found.copy_of or found.id, held, signer, step, large)
        store.copied = read_copied(path) if found.copy_of else None
        return store

    def removals(self) -> str:
        """The mark that changes whenever contents go; "" while nothing ever went."""
        return self.objects.removals.mark()

    def close(self) -> None:
        """Give the lock back."""
        self.objects.close()
        if self._lock:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Store:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None) -> None:
        """Close."""
        self.close()

    # Transfers in progress

    def incoming(self, pull: str) -> Path:
        """The directory, 0700, that the transfers of the pull with this id may fill; made if it is not there."""
        self._must_be_locked()
        path = layout.incoming_directory(self.path, pull)
        with translated(path):
            path.mkdir(mode=0o700, exist_ok=True)
            path.chmod(0o700)
        return path

    def discard_incoming(self, pull: str) -> None:
        """Remove what a pull left in its directory, and the directory."""
        path = layout.incoming_directory(self.path, pull)
        with translated(path):
            layout.remove_tree(path)

    # Listing

    def modules(self) -> Iterator[tuple[str, str]]:
        """All (host, module) with a directory in the store, sorted by name."""
        if self.copied is not None and not (self.path / layout.MANIFESTS).is_dir():
            return iter(())  # a copy has its directories with what is in them
        return layout.modules(self.path)

    def recorded(self, host: str, module: str) -> list[Recorded]:
        """What log and directory say of the module's snapshots, oldest first, without reading manifests."""
        found = self._recorded(host, module, self.log(host, module).read())
        return [found[sequence] for sequence in sorted(found)]

    def committed(self, host: str, module: str) -> dict[int, str]:
        """Digests of the manifests that the log names, but for pruned ones, by number, gone or not."""
        return {sequence: line.manifest for sequence, line in self.log(host, module).read().committed().items()}

    def snapshots(self, host: str, module: str) -> list[Snapshot]:
        """The module's snapshots, oldest first; none for a module that was never committed.

        One whose manifest cannot be read is among them, with the state "damaged".
        """
        return [self._listed(one) for one in self.recorded(host, module)]

    def _listed(self, recorded: Recorded) -> Snapshot:
        try:
            return self.snapshot(recorded)
        except StoreDamaged:
            return damaged(recorded)

    def newest(self, host: str, module: str) -> Snapshot | None:
        """The newest snapshot of any state."""
        found = self.recorded(host, module)
        return self.snapshot(found[-1]) if found else None

    def snapshot(self, recorded: Recorded) -> Snapshot:
        """Read the header of a manifest; StoreDamaged if it does not fit its name."""
        return self._snapshot(recorded, self._header(recorded))

    def facts(self, snapshot: Snapshot) -> Facts:
        """The module as it was defined at that time, and what could not be read."""
        return self._header(_as_recorded(snapshot)).facts()

    def held(self, host: str, module: str, content: LogContent) -> dict[int, Line]:
        """Commit lines of the snapshots that must be there: not pruned; of a second copy those that it says it has."""
        return content.committed() if self.copied is None else self.copied.held(host, module, content)

    # Reading

    @contextmanager
    def reading(self, snapshot: Snapshot) -> Iterator[None]:
        """Keep the snapshot's files from being pruned: a shared lock on its manifest and on its base."""
        with self._open_manifest(_as_recorded(snapshot)) as reader:
            if reader.header.base is None:
                yield
            else:
                with self._open_manifest(_base_of(snapshot, reader.header.base)):
                    yield

    def entries(self, snapshot: Snapshot, *, verify: bool = False) -> Iterator[Entry]:
        """All entries in order, each checked against those before it; the files are locked while this is iterated.

        `verify` first compares the files' SHA-256 with what the log, and the delta, say.
        """
        place = f"{snapshot.host}/{snapshot.module}@{snapshot.name}"
        with self._open_manifest(_as_recorded(snapshot), verify) as top:
            if top.header.base is None:
                yield from checked(top.entries(), place)
                return
            with self._open_manifest(_base_of(snapshot, top.header.base), verify) as base:
                yield from checked(overlay(base.entries(), top.changes()), place)

    def changes(self, snapshot: Snapshot, *, verify: bool = False) -> Iterator[Change]:
        """The differences to the snapshot's base; for a full manifest, each entry as an addition.

        `verify` first compares the file's SHA-256 with what the log says.
        """
        with self._open_manifest(_as_recorded(snapshot), verify) as reader:
            if reader.header.base is None:
                for entry in checked(reader.entries(), snapshot.name):
                    yield Change(entry.path, entry)
            else:
                yield from reader.changes()

    @contextmanager
    def manifest(self, recorded: Recorded, *, verify: bool = False) -> Iterator[ManifestReader]:
        """An open manifest, locked against pruning; with `verify` only if its SHA-256 is that of `recorded`.

        Raises NotFound if its file is gone, StoreDamaged if it is not what it should be.
        """
        with self._open_manifest(recorded, verify) as reader:
            yield reader

    def base_of(self, recorded: Recorded, base: Base) -> Recorded:
        """The full manifest that a delta's header names. Raises StoreDamaged for what is no manifest's name."""
        return _base_of(recorded, base)

    def verify_log(self, host: str, module: str) -> list[str]:
        """What does not fit in the module's log: its chain, its head, the signature. Empty: all is well."""
        return self.log(host, module).faults()

    def pins(self, host: str, module: str) -> dict[int, str]:
        """The module's pinned snapshots by sequence number, and why each is pinned."""
        return self.log(host, module).read().pins()

    def pruned(self, host: str, module: str) -> dict[int, str]:
        """The digests of the manifests that the module's log says were pruned, by sequence number."""
        return {sequence: line.manifest for sequence, line in self.log(host, module).read().pruned().items()}

    def check_files(self, snapshot: Snapshot) -> None:
        """Read a snapshot's manifest and its base. NotFound or StoreDamaged if they are not as log and delta say."""
        with self._open_manifest(_as_recorded(snapshot), verify=True) as top:
            if top.header.base is not None:
                with self._open_manifest(_base_of(snapshot, top.header.base), verify=True):
                    pass

    # Writing

    def commit(
        self,
        host: str,
        module: str,
        *,
        time: float,
        state: str,
        changes: Iterable[Change],
        previous: Snapshot | None,
        after: int = 0,
        facts: Facts = Facts(),  # noqa: B008 - frozen
    ) -> Snapshot:
        """Make a snapshot, durably, of `previous` and the `changes` to it, in order.

        `previous` is the newest snapshot of any state, or None to take `changes` as all entries there are. The objects
        that entries name were written and synced before. When this returns the snapshot survives a power loss; when it
        raises there is none. `time` is the collector's, in seconds since 1970, and may repeat or run backwards. The
        snapshot's number is higher than `after`, one that is known of and may be lost here.
        """
        self._must_be_locked()
        if state not in (COMPLETE, PARTIAL):
            raise StoreError(f"not a state of a snapshot: {state!r}")
        directory = layout.module_directory(self.path, host, module)
        with self._writer(host, module), translated(directory):
            layout.make_directory(directory.parent)
            layout.make_directory(directory)
            try:
                return self._commit(directory, host, module, time, state, changes, previous, after, facts)
            except BaseException:
                # Whatever failed counts; what cannot be removed now is removed at the next start.
                _discard_quietly(directory)
                raise

    def _commit(
        self,
        directory: Path,
        host: str,
        module: str,
        time: float,
        state: str,
        changes: Iterable[Change],
        previous: Snapshot | None,
        after: int,
        facts: Facts,
    ) -> Snapshot:
        log = self.log(host, module)
        content = log.read()
        if content.torn:
            content = log.cut(content)
        content, faults = log.accept(content)
        if faults or not content.count:
            content = complete(self, log, content, directory, ReconcileReport(), host, module)
        sequence = max(self._next_sequence(directory, content), after + 1)
        self._check_previous(host, module, content, previous)
        self._step("draft")
        if previous is None:
            draft = draft_first(directory, changes)
        else:
            with self._foundation(previous) as foundation:
                draft = draft_next(directory, foundation, changes)
        seconds, nanoseconds = split_time(time)
        header = Header(
            format=MANIFEST_FORMAT,
            kind="delta" if draft.base else "full",
            host=host,
            module=module,
            sequence=sequence,
            time_s=seconds,
            time_ns=nanoseconds,
            state=state,
            totals=draft.totals,
            lines=draft.lines,
            base=draft.base,
            **described(facts),
        )
        name = layout.snapshot_name(sequence, time)
        file_name = f"{name}.{header.kind}.zst"
        digest = publish(directory, file_name, header, draft, self._step)
        try:
            self._step("log")
            content = log.append(content, "commit", sequence, file=file_name, manifest=digest, time_s=seconds)
        except BaseException:
            (directory / file_name).unlink(missing_ok=True)
            raise
        self._step("head")
        log.seal(content)
        self._step("done")
        return self._snapshot(Recorded(host, module, sequence, name, header.kind, digest), header)

    def prune(self, host: str, module: str, why: Mapping[int, str], *, pinned_too: bool = False) -> Pruned:
        """Remove the snapshots with the sequence numbers in `why`, each with the reason for the log, durably.

        Pinned ones stay, but for `pinned_too`; one that is read now stays too. Which may go is decided by the caller:
        the newest goes as any other. When this raises, some may be gone, and a later call goes on.
        """
        with self._pruning(host, module) as ground:
            return pruning.prune(ground, why, pinned_too=pinned_too)

    def sweep(self, host: str, module: str) -> Pruned:
        """Remove files of pruned snapshots that a crash, or a delta that is gone since, left."""
        done = Pruned()
        with self._pruning(host, module) as ground:
            pruning.sweep(ground, ground.log.read(), done)
        return done

    def pin(self, host: str, module: str, sequence: int, why: str) -> None:
        """Keep a snapshot from every prune, durably; once more with another reason replaces that. NotFound for none."""
        with self._pruning(host, module) as ground:
            if sequence not in ground.listed(ground.log.read()):
                raise NotFound(f"{host}/{module} has no snapshot {sequence}")
            pruning.note(ground, "pin", sequence, why)

    def unpin(self, host: str, module: str, sequence: int) -> None:
        """Let rules decide about a pinned snapshot again. NotFound if it is not pinned."""
        with self._pruning(host, module) as ground:
            if sequence not in ground.log.read().pins():
                raise NotFound(
                    f"snapshot {sequence} of {host}/{module} is not pinned",
                    f"`pyrsyncbackup retention show {host}/{module}` shows what is",
                )
            pruning.note(ground, "unpin", sequence, "")

    def freeze(self, host: str, module: str, sequence: int, why: str, time: float) -> None:
        """Say in the log, durably, that rules remove nothing of the module, whose newest snapshot is that one."""
        with self._pruning(host, module) as ground:
            pruning.note(ground, "freeze", sequence, why, int(time // 1))

    def resume(self, host: str, module: str, sequence: int) -> None:
        """Say that they do again, and that the snapshot is as the module should be."""
        with self._pruning(host, module) as ground:
            pruning.note(ground, "resume", sequence, "")

    @contextmanager
    def _pruning(self, host: str, module: str) -> Iterator[pruning.Ground]:
        self._must_be_locked()
        directory = layout.module_directory(self.path, host, module)
        if not directory.is_dir():
            raise NotFound(f"the store has no module {host}/{module}")

        def base_of(recorded: Recorded) -> str | None:
            base = self._header(recorded).base
            return base.name if base else None

        def listed(content: LogContent) -> dict[int, Recorded]:
            return self._recorded(host, module, content)

        with self._writer(host, module):
            yield pruning.Ground(directory, self.log(host, module), listed, base_of, self.reserve, self._step)

    def reconcile(self) -> ReconcileReport:
        """Put in order what a crash left; call it once, after opening with the lock and before any pull."""
        self._must_be_locked()
        return reconcile(self)

    def log(self, host: str, module: str) -> ModuleLog:
        """The log of a module."""
        coming = self.copied.coming_head(host, module) if self.copied else None
        return ModuleLog(layout.module_directory(self.path, host, module), host, module, self._signer, coming)

    def _next_sequence(self, directory: Path, content: LogContent) -> int:
        names = (layout.parse_manifest(item.name) for item in directory.iterdir())
        return max([content.highest(), *(name.sequence for name in names if name)]) + 1

    def _check_previous(self, host: str, module: str, content: LogContent, previous: Snapshot | None) -> None:
        if previous is None:
            return
        newest = max(self._recorded(host, module, content), default=None)
        if (previous.host, previous.module, previous.sequence) != (host, module, newest):
            raise StoreError(f"not committed: {previous.name} is not the newest snapshot of {host}/{module}")

    @contextmanager
    def _foundation(self, previous: Snapshot) -> Iterator[Foundation]:
        newest = _as_recorded(previous)
        with self._open_manifest(newest) as top:
            base = top.header.base or Base(previous.name, previous.digest)
            full = _base_of(previous, base)
            with self._open_manifest(full) as bottom:
                size = bottom.header.lines

            def entries() -> Iterator[Entry]:
                with self._open_manifest(full) as reader:
                    yield from reader.entries()

            def changes() -> Iterator[Change]:
                return top.changes() if top.header.base else iter(())

            yield Foundation(base, size, entries, changes)

    # Manifest files

    def _recorded(self, host: str, module: str, content: LogContent) -> dict[int, Recorded]:
        directory = layout.module_directory(self.path, host, module)
        with translated(directory):
            try:
                present = {item.name for item in directory.iterdir()}
            except FileNotFoundError:
                layout.read_format(self.path)
                return {}
        found = {}
        committed = content.committed() if self.copied is None else self.copied.committed(host, module, content)
        for sequence, line in committed.items():
            name = layout.parse_manifest(line.file)
            if name and line.file in present:
                found[sequence] = Recorded(host, module, sequence, name.name, name.kind, line.manifest)
        return found

    def _path(self, recorded: Recorded) -> Path:
        return layout.module_directory(self.path, recorded.host, recorded.module) / recorded.file_name

    def _header(self, recorded: Recorded) -> Header:
        with self._open_manifest(recorded) as reader:
            return reader.header

    @contextmanager
    def _open_manifest(self, recorded: Recorded, verify: bool = False) -> Iterator[ManifestReader]:
        path = self._path(recorded)
        place = f"manifest {path}"
        # What goes wrong in the caller's block is the caller's: only opening is translated here.
        with translated(path):
            try:
                file = open(path, "rb", buffering=0, opener=_opener)  # noqa: SIM115 - in the `with` below
            except FileNotFoundError:
                raise NotFound(f"{place} is gone", "it was pruned, or the store was changed by hand") from None
            except IsADirectoryError:
                raise StoreDamaged(f"{place} is a directory") from None
        with file:
            with translated(path):
                fcntl.flock(file.fileno(), fcntl.LOCK_SH)
                if os.fstat(file.fileno()).st_nlink == 0:
                    raise NotFound(f"{place} was pruned just now")
                if verify:
                    _verify_digest(file, recorded.digest, place)
            reader = ManifestReader(file, place)
            header = reader.header
            if (header.host, header.module, header.sequence, header.kind) != (
                recorded.host,
                recorded.module,
                recorded.sequence,
                recorded.kind,
            ):
                raise StoreDamaged(f"{place} says that it is {header.host}/{header.module} {header.sequence}")
            yield reader

    @staticmethod
    def _snapshot(recorded: Recorded, header: Header) -> Snapshot:
        return Snapshot(
            host=recorded.host,
            module=recorded.module,
            sequence=recorded.sequence,
            name=recorded.name,
            time=header.time,
            state=header.state,
            base=header.base.name if header.base else None,
            digest=recorded.digest,
            totals=header.totals,
        )

    def _writer(self, host: str, module: str) -> threading.Lock:
        with self._writers_lock:
            return self._writers.setdefault((host, module), threading.Lock())

    def _must_be_locked(self) -> None:
        if not self._lock:
            raise StoreBusy(f"the store {self.path} was opened for reading", "open it with its lock")


def _opener(path: str, flags: int) -> int:
    """Without waiting for what a pipe, laid there by hand, would wait for."""
    return os.open(path, flags | os.O_NONBLOCK)


def _as_recorded(snapshot: Snapshot) -> Recorded:
    return Recorded(snapshot.host, snapshot.module, snapshot.sequence, snapshot.name, snapshot.kind, snapshot.digest)


def _base_of(delta: Snapshot | Recorded, base: Base) -> Recorded:
    name = layout.parse_manifest(f"{base.name}.full.zst")
    if not name:
        raise StoreDamaged(f"{delta.name} names a base that is no manifest: {base.name[:100]!r}")
    return Recorded(delta.host, delta.module, name.sequence, name.name, "full", base.digest)


def _verify_digest(file: FileIO, digest: str, place: str) -> None:
    if hashlib.file_digest(file, "sha256").hexdigest() != digest:
        raise StoreDamaged(f"{place} is not the file that the log names: its SHA-256 differs")
    file.seek(0)


def _discard_quietly(directory: Path) -> None:
    try:
        discard_drafts(directory)
    except StoreError:
        return
