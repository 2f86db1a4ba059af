"""Keeps the newest state of a module as a plain tree, MIRROR/HOST/MODULE, for other tools to read.

Files, directories and links only, of the collector's user, without set-id bits, xattrs and ACLs; its owner may read
and write each, nobody else may write. A restore like any other (`restore`), but nothing else stays in the tree. What
was the same in the snapshot before is not read again, only looked at. Beside the tree lies `.MODULE.json`, which says
what it shows; from it an update that was killed goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from pyrsyncbackup_collector.entry import DIRECTORY, FILE, SYMLINK, Entry, order
from pyrsyncbackup_collector.errors import NotFound, RestoreError
from pyrsyncbackup_collector.store import attributes, beneath, filling
from pyrsyncbackup_collector.store.overwrite import Overwrite
from pyrsyncbackup_collector.store.restore import restore_into
from pyrsyncbackup_collector.store.restore_report import Reason, RestoreReport, Shortfall
from pyrsyncbackup_collector.store.snapshot import Snapshot
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.store.survey import Rules

_HELD: Final = frozenset({FILE, DIRECTORY, SYMLINK})
_MAX_STAMP: Final = 64 * 1024


class Stamp(msgspec.Struct, frozen=True):
    """What a mirror shows: the snapshot's name, and its manifest's digest; `becoming` while it is brought up to date.

    Without `becoming` the tree is that snapshot's, but for entries that it could not be given, counted in `missing`.
    """

    snapshot: str = ""
    digest: str = ""
    becoming: str = ""
    missing: int = 0

    def is_whole(self, digest: str) -> bool:
        """Whether the tree is all of the snapshot whose manifest has this digest."""
        return self.digest == digest and not self.becoming and not self.missing


def place(mirror: Path, host: str, module: str) -> Path:
    """Where the tree of a module is."""
    return mirror / host / module


def shown(mirror: Path, host: str, module: str) -> Stamp:
    """What the mirror of a module shows; nothing where there is none, or nobody can say."""
    try:
        with (mirror / host / f".{module}.json").open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_STAMP), type=Stamp)
    except (OSError, msgspec.MsgspecError):
        return Stamp()


def update(
    store: Store, snapshot: Snapshot, mirror: Path, *, told: Callable[[int, int], None] | None = None
) -> RestoreReport | None:
    """Make the tree that of `snapshot`; None if it is already. `told` gets entries and bytes, and may raise to stop.

    What could not be written is in the report. Raises RestoreError where the mirror cannot be written.
    """
    stamp = shown(mirror, snapshot.host, snapshot.module)
    if stamp.is_whole(snapshot.digest):
        return None
    target = place(mirror, snapshot.host, snapshot.module)
    directory = _directory(mirror, target.parent)
    try:
        before = _before(store, snapshot, stamp)
        _write(directory, snapshot.module, Stamp(stamp.snapshot, stamp.digest, becoming=snapshot.digest))
        with ExitStack() as stack:
            stack.enter_context(store.reading(snapshot))
            entries = _Compared(store.entries(snapshot), _entries(store, before, stack))
            rights = attributes.Rights.of_this_process(owner=False, special=False, plain=True)
            rules = Rules(rights, Overwrite.ALWAYS, exact=True, unchanged=lambda _: entries.unchanged)
            fd = beneath.open_target(target)
            report = restore_into(fd, entries, store.objects, rules, progress=told).report(target)
        missing = sum(shortfall.count for shortfall in lacking(report))
        _write(directory, snapshot.module, Stamp(snapshot.name, snapshot.digest, missing=missing))
    except OSError as error:
        raise RestoreError(f"the mirror {target} cannot be written: {error.strerror or error}", "make room") from error
    finally:
        os.close(directory)
    return report


def lacking(report: RestoreReport) -> list[Shortfall]:
    """What the snapshot has and the mirror has not; what could not be read on the host neither of them has."""
    lost = [shortfall for shortfall in report.shortfalls if shortfall.reason.missing]
    return [shortfall for shortfall in lost if shortfall.reason is not Reason.NEVER_READ]


def _directory(mirror: Path, host: Path) -> int:
    try:
        mirror.mkdir(mode=0o750, parents=True, exist_ok=True)
        host.mkdir(mode=0o750, exist_ok=True)
        return os.open(host, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise RestoreError(
            f"the mirror {host} cannot be made: {error.strerror}", "`mirror_dir` says where mirrors are"
        ) from error


def _before(store: Store, snapshot: Snapshot, stamp: Stamp) -> Snapshot | None:
    """The snapshot whose contents lie there, unless some may be of a third one.

    Of one to which an update never came to its end, or of one from before a content that was missing.
    """
    if not stamp.digest or stamp.missing or stamp.becoming not in ("", snapshot.digest):
        return None
    known = [each for each in store.recorded(snapshot.host, snapshot.module) if each.digest == stamp.digest]
    try:
        return store.snapshot(known[0]) if known else None
    except NotFound:
        return None


def _entries(store: Store, before: Snapshot | None, stack: ExitStack) -> Iterable[Entry]:
    if before is None:
        return ()
    try:
        stack.enter_context(store.reading(before))
    except NotFound:
        return ()
    return store.entries(before)


class _Compared:
    """The entries that a mirror holds; `unchanged` says of the last one whether its content is that of before."""

    def __init__(self, entries: Iterable[Entry], before: Iterable[Entry]) -> None:
        self.unchanged = False
        self._entries = entries
        self._before = iter(before)

    def __iter__(self) -> Iterator[Entry]:
        old = next(self._before, None)
        for entry in self._entries:
            if entry.type not in _HELD:
                continue
            key = order(entry.path)
            while old is not None and order(old.path) < key:
                old = next(self._before, None)
            same = old is not None and old.path == entry.path
            self.unchanged = same and old is not None and bool(old.sha256) and old.sha256 == entry.sha256
            yield entry


def _write(directory: int, module: str, stamp: Stamp) -> None:
    with beneath.Draft(directory, beneath.temporary_name()) as draft:
        filling.write(draft.fd, msgspec.json.encode(stamp) + b"\n")
        os.fchmod(draft.fd, 0o640)
        draft.publish(b".%b.json" % module.encode(), replace=True)
