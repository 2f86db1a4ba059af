"""The agent's side of one window of findings: claim what is known, transfer the rest, have it hashed again.

Nothing here trusts what arrived: `take_in` does the looking.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Protocol

from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import AgentMisbehaved, StoreDamaged, StoreFull
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.compare import Finding, Need
from pyrsyncbackup_collector.pull.early import Early
from pyrsyncbackup_collector.pull.ledger import Ledger
from pyrsyncbackup_collector.pull.outcome import Ended
from pyrsyncbackup_collector.pull.report import Counts
from pyrsyncbackup_collector.pull.rsync_command import Fetch, client
from pyrsyncbackup_collector.pull.rsync_process import Client, Pump
from pyrsyncbackup_collector.pull.salvage import Parts
from pyrsyncbackup_collector.pull.sandbox import Limits, Sandbox
from pyrsyncbackup_collector.pull.task import Task
from pyrsyncbackup_collector.store import room
from pyrsyncbackup_collector.store.layout import remove_tree
from pyrsyncbackup_collector.store.objects import ObjectStore
from pyrsyncbackup_collector.transport.offer import ErrorKind, FileHash, Listed, ModuleOffer, Root

# A file of which less than one eighth is allocated goes with compression: its holes are sent as zeros.
SPARSE = 8

# Up to this size (bytes) holes are not worth a run of their own.
DENSE = 1 << 20

# From this size on (bytes) the stored old version is laid ready, so that rsync sends only the differences.
BASIS = 4 << 20

# How much more than listed may arrive before the agent is cut off: files grow while they are read.
GROWTH = 64 << 20

# Old versions are copied in pieces of so many bytes.
_PIECE = 1 << 20

TOO_LARGE = "it is larger than max_file_size"


class Session(Protocol):
    """An open module of an agent, as a pull uses it. Methods may be called from two threads at a time."""

    @property
    def offer(self) -> ModuleOffer:
        """The module as it was opened, with its roots."""
        ...

    def lookup(self, paths: Iterable[bytes]) -> Iterator[Listed]:
        """Their entries now, one each, in their order."""
        ...

    def hash(self, paths: Iterable[bytes]) -> Iterator[FileHash]:
        """Digests of their contents now, one each, in their order."""
        ...

    def transfer(self, root_id: int) -> Pump:
        """A connection to an rsync daemon that serves this root."""
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """One run of rsync: where it wrote, (path, name relative to its root) of what was asked for, how it ended."""

    data: Path
    names: list[tuple[bytes, bytes]]
    ended: Ended


@dataclass(slots=True)
class Fetched:
    """A window after the agent did its part.

    `claimed` are digests of contents that need no transfer; `hashes` what the agent said of contents that
    cannot be had; `runs` are the runs of rsync, with the directory that each filled and its names.
    """

    window: list[Finding]
    directory: Path
    claimed: dict[bytes, FileHash] = field(default_factory=dict)
    hashes: dict[bytes, FileHash] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)

    def discard(self) -> None:
        """Remove what is left in the incoming directory."""
        remove_tree(self.directory)


class Fetcher:
    """Does the agent's part, one window at a time.

    `known_sizes` are the sizes (bytes) of contents that the host may claim, as of the pull's start: what it sends in
    this pull has other names for the same sizes by the thousand, and asking for the digest of each would find nothing.
    """

    def __init__(
        self,
        task: Task,
        session: Session,
        objects: ObjectStore,
        ledger: Ledger,
        sandbox: Sandbox,
        incoming: Path,
        early: Early,
        parts: Parts,
        known_sizes: AbstractSet[int],
        counts: Counts,
        on_data: Callable[[int], None],
        cancel: Cancel,
    ) -> None:
        self._task = task
        self._session = session
        self._objects = objects
        self._ledger = ledger
        self._sandbox = sandbox
        self._incoming = incoming
        self._early = early
        self._parts = parts
        self._known_sizes = known_sizes
        self._counts = counts
        self._on_data = on_data
        self._cancel = cancel
        # Counted by two threads: a second round goes on beside the window ahead.
        self._windows = itertools.count(1)

    def fetch(self, window: list[Finding], *, again: bool = False) -> Fetched:
        """Claim and transfer all of `window` that needs content; `again`: its content may have arrived just before."""
        self._cancel.check()
        directory = self._incoming / f"{next(self._windows):06d}"
        directory.mkdir(mode=0o700)
        fetched = Fetched(window, directory)
        wanted = [finding for finding in window if finding.need is not Need.NOTHING]
        for finding in wanted:
            if _entry(finding).size > self._task.max_file:
                fetched.hashes[finding.path] = FileHash(finding.path, "", 0, 0, ErrorKind.IO, TOO_LARGE)
        wanted = [finding for finding in wanted if finding.path not in fetched.hashes]
        missing = self._claim(wanted, fetched, again)
        if missing:
            self._transfer(missing, fetched)
        return fetched

    def _claim(self, wanted: list[Finding], fetched: Fetched, again: bool) -> list[Finding]:
        """Ask for digests where the content may be known; return what has to be transferred."""
        task = self._task
        candidates = [f for f in wanted if again or f.need is Need.HASH or _entry(f).size in self._known_sizes]
        if not candidates:
            return wanted
        said = {answer.path: answer for answer in self._session.hash([f.path for f in candidates])}
        sound = [f for f in candidates if _belongs(f, said[f.path])]
        claims = [(said[f.path].sha256, _entry(f).public) for f in sound]
        granted = self._ledger.pin_claimable(task.run, task.host, claims, share=task.share) if claims else set()
        # What was recorded before may have been claimed, so that it is not granted again; it must still be an object.
        relied_on = {*granted, *(f.before.sha256 for f in sound if f.before and f.before.sha256)}
        sizes_of = self._ledger.pin_known(task.run, relied_on) if relied_on else {}
        for finding in sound:
            answer, before = said[finding.path], finding.before
            own = before is not None and (before.sha256, before.size) == (answer.sha256, answer.size)
            if (own or answer.sha256 in granted) and sizes_of.get(answer.sha256) == answer.size:
                fetched.claimed[finding.path] = answer
        unreadable = {path: answer for path, answer in said.items() if answer.error is not None}
        fetched.hashes.update(unreadable)
        return [f for f in wanted if f.path not in fetched.claimed and f.path not in unreadable]

    def _transfer(self, missing: list[Finding], fetched: Fetched) -> None:
        self._check_space(missing)
        groups: dict[tuple[int, bool, bool], list[Finding]] = defaultdict(list)
        for finding in missing:
            entry = _entry(finding)
            holes = entry.size > DENSE and entry.allocated < entry.size
            groups[finding.root, holes, holes and entry.allocated * SPARSE < entry.size].append(finding)
        roots = {root.id: root for root in self._session.offer.roots}
        for number, ((root_id, sparse, compress), findings) in enumerate(sorted(groups.items(), key=_first)):
            if root_id not in roots:
                raise AgentMisbehaved(f"the agent listed files of a root it does not offer: {root_id}")
            self._cancel.check()
            directory = fetched.directory / str(number)
            fetch = Fetch(directory / "list", directory / "data", sparse, compress, self._task.timeout)
            self._run(fetch, roots[root_id], findings, fetched)

    def _check_space(self, missing: list[Finding]) -> None:
        """Content, its compressed copy and the old version beside it must fit before anything is asked for."""
        needed = sum(2 * min(_entry(f).size, _entry(f).allocated) for f in missing)
        needed += sum(f.before.size for f in missing if _has_basis(f) and f.before is not None)
        free = self._free()
        if needed + self._task.reserve > free:
            raise StoreFull(
                f"the store has {free >> 20} MiB free; this transfer needs up to {needed >> 20} MiB and "
                f"{self._task.reserve >> 20} MiB stay free",
                room.HINT,
            )

    def _free(self) -> int:
        return room.look(self._incoming).free

    def _run(self, fetch: Fetch, root: Root, findings: list[Finding], fetched: Fetched) -> None:
        """One rsync for files of one root, added to `fetched.runs`."""
        names = [below(root, f.path) for f in findings]
        fetch, started = self._started(fetch, findings, names)
        self._parts.note_asked(fetch.destination, names)
        budget = sum(_entry(f).size for f in findings) * 5 // 4 + len(findings) * 1024 + GROWTH

        def count(received: int) -> None:
            nonlocal budget
            budget -= received
            self._counts.wire_bytes += received
            self._on_data(received)
            if budget < 0:
                raise AgentMisbehaved("the agent sends far more than it listed", "look at what runs on that host")
            # What was listed as sparse, or is compressed on the way, may grow to more than was counted.
            if self._free() < self._task.reserve:
                raise StoreFull(
                    f"the store has less than {self._task.reserve >> 20} MiB free in the middle of a transfer",
                    room.HINT,
                )

        ended = started.run(self._session.transfer(root.id), count)
        asked = [(f.path, name) for f, name in zip(findings, names, strict=True)]
        fetched.runs.append(Run(fetch.destination, asked, ended))
        if ended.lost is not None:
            self._cancel.check()

    def _started(self, fetch: Fetch, findings: list[Finding], names: list[bytes]) -> tuple[Fetch, Client]:
        """A client for these names: the one that waits already if it will do, else a new one."""
        content = b"".join(name + b"\0" for name in names)
        begun = [self._parts.has(name) for name in names]
        plain = not fetch.sparse and not any(begun) and not any(map(_has_basis, findings))
        early = self._early.take() if plain else None
        if early is not None:
            early[0].list_file.write_bytes(content)
            return early
        directory = fetch.list_file.parent
        directory.mkdir(mode=0o700)
        fetch.destination.mkdir(mode=0o700)
        fetch.list_file.write_bytes(content)
        for finding, name, is_begun in zip(findings, names, begun, strict=True):
            target = fetch.destination / os.fsdecode(name)
            # From an old version only the differences travel, from a begin all that follows.
            if is_begun:
                self._parts.lay(name, target)
            if _has_basis(finding):
                self._lay_basis(_before(finding), target)
            if is_begun or _has_basis(finding):
                self._parts.note_laid(target)
        largest = max(_entry(f).size for f in findings)
        limits = Limits(file_size=largest + largest // 4 + GROWTH)
        argv = partial(client, fetch, rsync=self._task.rsync)
        return fetch, Client(lambda fd: self._sandbox.wrap(argv(fd), directory, limits))

    def _lay_basis(self, before: Entry, target: Path) -> None:
        """Lay the old version ready, or the rest of it behind the begin of the new one that lies there."""
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with target.open("ab") as new:
            begin = new.tell()
            try:
                with self._objects.open_entry(before) as old:
                    if old.seekable():
                        old.seek(begin)
                    else:
                        _skip(old, begin)
                    shutil.copyfileobj(old, new, _PIECE)
            except StoreDamaged:
                # Then the whole file travels, or what follows its begin, and its new content is right.
                new.truncate(begin)


def _skip(source: IO[bytes], size: int) -> None:
    while size and (data := source.read(min(size, _PIECE))):
        size -= len(data)


def _first(item: tuple[tuple[int, bool, bool], list[Finding]]) -> tuple[int, bool, bool]:
    return item[0]


def below(root: Root, path: bytes) -> bytes:
    """`path` relative to its root; AgentMisbehaved if it is not below it."""
    prefix = root.path + b"/" if root.path else b""
    name = path[len(prefix) :]
    if not path.startswith(prefix) or not name or (root.names and name not in root.names):
        raise AgentMisbehaved("the agent listed a file under a root that does not hold it")
    return name


def _belongs(finding: Finding, answer: FileHash) -> bool:
    """Digest and listed metadata are of the same state of the same inode."""
    return answer.error is None and answer.token == finding.token and answer.size == _entry(finding).size


def _has_basis(finding: Finding) -> bool:
    before = finding.before
    return before is not None and bool(before.sha256) and before.size >= BASIS


def _entry(finding: Finding) -> Entry:
    assert finding.entry is not None  # noqa: S101 - what needs content has an entry
    return finding.entry


def _before(finding: Finding) -> Entry:
    assert finding.before is not None  # noqa: S101 - only asked for a basis
    return finding.before
