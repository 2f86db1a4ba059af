"""A store made anew from a second copy of it: what the copy holds of what the store had when it was copied last.

Each content is proven as it lies on the new disk. The store is none until all is there; a try that was cut short goes
on. What the log names and the copy does not have gets its line in the log, so that nobody misses it for ever.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec

from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import CopyError, NotFound, StoreDamaged, StoreError, StoreMissing
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.faults import translated
from pyrsyncbackup_collector.store.lock import StoreLock
from pyrsyncbackup_collector.store.log import Line, LogContent, ModuleLog
from pyrsyncbackup_collector.store.objects import ObjectStore
from pyrsyncbackup_collector.store.rehash import Rehash
from pyrsyncbackup_collector.store.reserve import RESERVE
from pyrsyncbackup_collector.store.signature import Head, Signer
from pyrsyncbackup_collector.store.snapshot import Recorded, Snapshot
from pyrsyncbackup_collector.store.store import Store

# Says which store is being made here; begins as all that was never finished.
RECOVERING: Final = f"{layout.TEMPORARY}recovering"
# Objects that become durable together, and are fetched together from far away.
_BATCH: Final = 500
_NOT_THERE: Final = "not in the copy that this store was made anew from"

Tell = Callable[[str, int, int], None]


@dataclass(slots=True)
class Recovered:
    """What came. `size` is that of the objects as they lie there, in bytes.

    `damaged` are pairs of what in the copy is not sound and why; `absent` the snapshots that the store had and the copy
    does not have; `older` counts those that the copy has and the store had pruned. `faults` are the logs that do not
    fit, each with the reason; `unproven` counts those that do and are signed by a key that is not here, or by none.
    """

    id: str
    snapshots: int = 0
    objects: int = 0
    size: int = 0
    older: int = 0
    unproven: int = 0
    damaged: list[tuple[str, str]] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "store": self.id,
            "snapshots": self.snapshots,
            "objects": self.objects,
            "size": self.size,
            "older": self.older,
            "unproven": self.unproven,
            "absent": self.absent,
            "damaged": [{"what": what, "why": why} for what, why in self.damaged],
            "faults": [{"module": module, "why": why} for module, why in self.faults],
        }


class Recovery:
    """Makes the store at `place`; `signer` is the key that signs its logs, `now` seconds since 1970. Close it."""

    def __init__(self, copy: Store, place: Path, signer: Signer, *, check: Callable[[], None], tell: Tell) -> None:
        if copy.copied is None:
            raise CopyError("that is a store, not a copy of one", "name it as `store` in the configuration")
        if copy.path.resolve() == place.resolve():
            raise StoreError(f"{place} is this store's copy itself", "name an empty or a new directory as `store`")
        self._copy, self._place, self._signer = copy, place, signer
        self._check, self._tell = check, tell
        self._objects = ObjectStore(place / layout.OBJECTS)
        self._drafts = Rehash(self._draft)
        self._report = Recovered(copy.id)
        # Objects that are not sound in the copy: each is told once.
        self._unsound: set[str] = set()

    def __enter__(self) -> Recovery:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """End the threads."""
        self._drafts.close()
        self._objects.close()

    def run(self, now: float) -> Recovered:
        """Do it. Raises StoreError for the new store, CopyError for the copy; a later call goes on."""
        if self._copy.copied and self._copy.copied.fault:
            self._report.faults.append(("the copy itself", self._copy.copied.fault))
        with _ground(self._place, self._copy.id, now):
            for host, module in self._copy.modules():
                self._check()
                self._module(host, module)
            with translated(self._place):
                layout.complete(self._place, self._copy.id)
        return self._report

    def _module(self, host: str, module: str) -> None:
        name = f"{host}/{module}"
        content = self._copy.log(host, module).read()
        there = {one.sequence: one for one in self._copy.recorded(host, module)}
        alive = content.committed()
        self._report.older += len(there.keys() - alive.keys())
        if not content.count:
            self._report.faults.append((name, "its log is not in the copy, so nothing of it could be brought"))
            return
        directory = layout.module_directory(self._place, host, module)
        with translated(directory):
            layout.make_directory(directory.parent)
            layout.make_directory(directory)
        brought: set[str] = set()
        for sequence in sorted(there.keys() & alive.keys()):
            self._check()
            try:
                self._snapshot(directory, there[sequence], brought)
            except (StoreDamaged, NotFound) as fault:
                self._report.damaged.append((f"{name}@{there[sequence].name}", fault.cause))
            else:
                brought.add(there[sequence].name)
        self._log(directory, host, module, content, brought)
        self._report.snapshots += len(brought)

    def _snapshot(self, directory: Path, recorded: Recorded, brought: set[str]) -> None:
        snapshot = self._copy.snapshot(recorded)
        files = [recorded]
        if snapshot.base:
            with self._copy.manifest(recorded, verify=True) as reader:
                assert reader.header.base is not None  # noqa: S101 - a snapshot with a base is a delta
                files.append(self._copy.base_of(recorded, reader.header.base))
        entries: Iterable[Entry]
        if snapshot.base in brought:
            changes = self._copy.changes(snapshot, verify=True)
            entries = (change.entry for change in changes if change.entry is not None)
        else:
            entries = self._copy.entries(snapshot, verify=True)
        self._bring(snapshot, self._needed(snapshot, entries))
        for one in files:
            self._manifest(directory, one)

    def _needed(self, snapshot: Snapshot, entries: Iterable[Entry]) -> Iterator[str]:
        """Objects in the order of the entries; one may come twice."""
        for entry in entries:
            if not entry.chunks:
                if entry.sha256:
                    yield entry.sha256
                continue
            yield entry.chunks
            try:
                yield from (chunk.sha256 for chunk in self._copy.objects.chunks_of(entry))
            except StoreDamaged as fault:
                self._report.damaged.append((f"a content of {_name(snapshot)}", fault.cause))

    def _bring(self, snapshot: Snapshot, digests: Iterable[str]) -> None:
        todo = iter(digests)
        while some := list(dict.fromkeys(islice(todo, _BATCH))):
            self._check()
            missing = [d for d in some if d not in self._unsound and not self._objects.place(d).exists()]
            if not missing:
                continue
            self._copy.objects.expect(missing)
            with translated(self._place), ExitStack() as drafts:
                whole = [digest for digest in missing if self._copied(snapshot, digest, drafts)]
                # First the contents, then the names: one that is there after a power loss is whole.
                self._objects.sync()
                for digest in whole:
                    self._draft(digest).replace(self._objects.place(digest))
            self._report.objects += len(whole)
            self._tell("objects", self._report.objects, 0)

    def _copied(self, snapshot: Snapshot, digest: str, drafts: ExitStack) -> bool:
        """Whether the object came, and is what its name says."""
        draft = self._draft(digest)
        layout.make_directory(draft.parent)
        draft.unlink(missing_ok=True)
        drafts.callback(draft.unlink, missing_ok=True)
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as written:
                for block in _blocks(self._copy.objects.place(digest)):
                    written.write(block)
        except StoreDamaged as fault:
            return self._bad(snapshot, digest, fault.cause)
        found = self._drafts.one(digest)
        if found.kind:
            return self._bad(snapshot, digest, f"it is {found.kind}: {found.cause}")
        self._report.size += draft.stat().st_size
        return True

    def _bad(self, snapshot: Snapshot, digest: str, why: str) -> bool:
        self._unsound.add(digest)
        self._report.damaged.append((f"object {digest}, of {_name(snapshot)}", why))
        return False

    def _draft(self, digest: str) -> Path:
        return self._place / layout.OBJECTS / digest[:2] / f"{layout.TEMPORARY}{digest}"

    def _manifest(self, directory: Path, recorded: Recorded) -> None:
        name = recorded.file_name
        source = layout.module_directory(self._copy.path, recorded.host, recorded.module) / name
        with self._copy.manifest(recorded, verify=True):
            data = source.read_bytes()
        if hashlib.sha256(data).hexdigest() != recorded.digest:
            raise StoreDamaged(f"{source} changed while it was read")
        with translated(directory):
            layout.write_durably(directory / name, data)

    def _log(self, directory: Path, host: str, module: str, content: LogContent, brought: set[str]) -> None:
        """The copy's log, with what has to be said about it, sealed by this collector's key."""
        faults = self._copy.log(host, module).verify(content)
        with translated(directory):
            layout.write_durably(directory / layout.LOG, self._copy_log(host, module, content))
        log = ModuleLog(directory, host, module, self._signer)
        if faults:
            if self._is_of_another_key(host, module, content):
                self._report.unproven += 1
            else:
                self._report.faults.append((f"{host}/{module}", "; ".join(faults)))
            reason = f"made anew from a copy: {'; '.join(faults)}"[:2000]
            content = log.append(content, "accept", content.highest(), reason=reason)
        gone = []
        for sequence, line in sorted(content.committed().items()):
            stem = line.file.partition(".")[0]
            if stem not in brought:
                gone.append(Line("prune", sequence, "", line.file, line.manifest, reason=_NOT_THERE))
                self._report.absent.append(f"{host}/{module}@{stem}")
        log.seal(log.extend(content, gone) if gone else content)

    def _is_of_another_key(self, host: str, module: str, content: LogContent) -> bool:
        """Whether all fits, but for who signed it: after a disaster that took the keys too, nobody can tell."""
        directory = layout.module_directory(self._copy.path, host, module)
        coming = self._copy.copied.coming_head(host, module) if self._copy.copied else None
        if ModuleLog(directory, host, module, None, coming).verify(content):
            return False
        with suppress(FileNotFoundError, msgspec.MsgspecError):
            data = (directory / layout.HEAD).read_bytes()
            return msgspec.json.decode(data, type=Head).key != self._signer.key
        return False

    def _copy_log(self, host: str, module: str, content: LogContent) -> bytes:
        """Up to its last whole line."""
        file = layout.module_directory(self._copy.path, host, module) / layout.LOG
        return file.read_bytes()[: content.size]


@contextmanager
def _ground(place: Path, id: str, now: float) -> Iterator[None]:
    """Hold the lock of what becomes the store of that id; raises StoreError unless there is nothing, or its beginning.

    An empty store, as `init` makes it, gives way.
    """
    with translated(place):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _must_be_free(place, id)
    lock = StoreLock(place, now)
    try:
        with translated(place):
            _must_be_free(place, id)
            layout.write_durably(place / RECOVERING, id.encode())
            (place / layout.FORMAT).unlink(missing_ok=True)
            place.chmod(0o700)
            for name in (layout.OBJECTS, layout.MANIFESTS):
                layout.make_directory(place / name)
        yield
        with translated(place):
            (place / RECOVERING).unlink()
            layout.sync_directory(place)
    finally:
        lock.close()


def _must_be_free(place: Path, id: str) -> None:
    begun = place / RECOVERING
    if begun.exists():
        if (other := begun.read_text("utf-8", "replace")) != id:
            raise StoreError(
                f"in {place} a store was begun from another copy, of the store {other[:32]!r}",
                "go on with that copy, or name an empty directory as `store`",
            )
        return
    with suppress(StoreMissing):
        layout.read_format(place)
        if first := _first_content(place):
            raise StoreError(
                f"there is a store already: {place} holds {first}",
                "name an empty or a new directory as `store` in the configuration; nothing was changed",
            )
        return
    own = {layout.LOCK, layout.README, RESERVE, "lost+found"}
    # The mark itself may have been cut short.
    there = (item.name for item in place.iterdir() if not item.name.startswith(layout.TEMPORARY))
    foreign = sorted(name for name in there if name not in own)
    if foreign:
        raise StoreError(f"not empty: {place} holds {foreign[0]!r}", "name an empty or a new directory as `store`")


def _first_content(place: Path) -> str:
    """A file that a store has only where something was put into it."""
    for part in (layout.MANIFESTS, layout.OBJECTS, layout.INCOMING, layout.ASIDE):
        for directory, _, files in os.walk(place / part):
            if files:
                return str((Path(directory) / files[0]).relative_to(place))
    return ""


def _blocks(source: Path) -> Iterator[bytes]:
    """What an object's file of the copy holds. Raises StoreDamaged."""
    try:
        with open(os.open(source, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
            # What was laid there by hand, a pipe or a device, holds nobody up and fills no disk.
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise StoreDamaged("it is no regular file in the copy")
            while block := file.read(1 << 20):
                yield block
    except FileNotFoundError:
        raise StoreDamaged("it is missing in the copy") from None
    except OSError as fault:
        raise StoreDamaged(f"it cannot be read in the copy: {fault.strerror}") from fault


def _name(snapshot: Snapshot) -> str:
    return f"{snapshot.host}/{snapshot.module}@{snapshot.name}"
