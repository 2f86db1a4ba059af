"""The collector's side of one window: what arrived is checked, made an object, and every finding gets its final entry.

A content counts only if what arrived has the digest that the agent says the file has, read by its safe walk, with the
change token of the listing: then content and metadata belong together, and it is this very file of the module.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec

from pyrsyncbackup_collector.entry import FILE, Entry
from pyrsyncbackup_collector.errors import BackupError, ConnectError
from pyrsyncbackup_collector.pull.compare import Finding, Need
from pyrsyncbackup_collector.pull.fetch import Fetched, Fetcher, Session
from pyrsyncbackup_collector.pull.incoming import Incoming
from pyrsyncbackup_collector.pull.ledger import Ledger, StoredObject
from pyrsyncbackup_collector.pull.outcome import ORDINARY, failure
from pyrsyncbackup_collector.pull.report import Counts
from pyrsyncbackup_collector.pull.task import Task
from pyrsyncbackup_collector.store.objects import WHOLE, ObjectStore
from pyrsyncbackup_collector.transport.offer import ErrorKind, FileHash

# Files whose digests are asked for ahead of taking them in.
BATCH = 512

# From this size on (bytes) a file is taken in while the agent hashes it, its digest compared when both are done.
LARGE = 32 << 20


@dataclass(frozen=True, slots=True)
class Settled:
    """A finding with its final entry (None: it is not there), the token to keep, and a reason if something is wrong."""

    finding: Finding
    entry: Entry | None
    token: int = 0
    problem: str = ""
    vanished: bool = False


@dataclass(slots=True)
class Taken:
    """What became of the files of a window: those that arrived, those of them that count, and their objects."""

    arrived: set[bytes] = field(default_factory=set)
    agreed: set[bytes] = field(default_factory=set)
    stored: list[StoredObject] = field(default_factory=list)


class Answers:
    """The agent's digests, in the order they were asked for, waited for in a thread of their own."""

    def __init__(self, answers: Iterator[FileHash]) -> None:
        self._answers = answers
        self._waiter = ThreadPoolExecutor(1, thread_name_prefix="digests")

    def ask(self, count: int) -> Future[list[FileHash]]:
        """The next `count` digests; `result` raises what the connection raised."""
        return self._waiter.submit(lambda: list(itertools.islice(self._answers, count)))

    def close(self) -> None:
        """No more digests are wanted; one that is awaited ends with the session."""
        self._waiter.shutdown(wait=False, cancel_futures=True)


class TakeIn:
    """Turns fetched windows into settled findings; used by one thread."""

    def __init__(
        self, task: Task, session: Session, objects: ObjectStore, ledger: Ledger, fetcher: Fetcher, counts: Counts
    ) -> None:
        self._task = task
        self._session = session
        self._objects = objects
        self._ledger = ledger
        self._fetcher = fetcher
        self._counts = counts

    def settle(self, fetched: Fetched) -> list[Settled]:
        """The whole window in order. What did not fit together is listed again and goes round once more."""
        first = self._round(fetched)
        again = [settled.finding for settled in first if settled.entry is not None and settled.entry.changing]
        if not again:
            return first
        second = {settled.finding.path: settled for settled in self._second_round(again)}
        return [second.get(settled.finding.path, settled) for settled in first]

    def _second_round(self, again: list[Finding]) -> list[Settled]:
        window = []
        for finding, listed in zip(again, self._session.lookup([f.path for f in again]), strict=True):
            if listed.error is ErrorKind.VANISHED:
                window.append(msgspec.structs.replace(finding, entry=None, need=Need.NOTHING))
            elif listed.error is not None:
                kept = _unreadable(finding, listed.entry.error)
                window.append(
                    msgspec.structs.replace(finding, entry=kept.entry, need=Need.NOTHING, problem=kept.problem)
                )
            else:
                need = Need.CONTENT if listed.entry.type == FILE else Need.NOTHING
                window.append(
                    msgspec.structs.replace(
                        finding, entry=listed.entry, need=need, token=listed.token, young=listed.young
                    )
                )
        return self._round(self._fetcher.fetch(window, again=True))

    def _round(self, fetched: Fetched) -> list[Settled]:
        taken = self._ingest(fetched)
        lists = self._lists(fetched, taken)
        settled = [self._settle(finding, fetched, taken, lists) for finding in fetched.window]
        # Not after a failure: what had arrived may be kept (`salvage`).
        fetched.discard()
        return settled

    def _lists(self, fetched: Fetched, taken: Taken) -> dict[str, str]:
        """The lists of chunks of large contents, whether they were sent or claimed."""
        digests = {claim.sha256 for claim in fetched.claimed.values() if claim.size > WHOLE}
        digests.update(item.sha256 for item in taken.stored if item.chunked)
        return self._ledger.lists(digests) if digests else {}

    def _ingest(self, fetched: Fetched) -> Taken:
        """Make objects of what arrived and agrees with the agent's digest, and make them known."""
        taken = Taken()
        findings = {finding.path: finding for finding in fetched.window}
        answers = Answers(self._session.hash([path for run in fetched.runs for path, _ in run.names]))
        lost: BackupError | None = None
        with contextlib.closing(answers):
            for run in fetched.runs:
                with Incoming(run.data) as incoming:
                    for names in _batches(run.names, findings):
                        self._ingest_batch(incoming, names, answers.ask(len(names)), fetched, findings, taken)
                left = any(path not in taken.arrived for path, _ in run.names if fetched.hashes[path].error is None)
                if run.ended.lost is not None or (left and run.ended.code not in ORDINARY):
                    # Broken off: nothing can be said of the files that did not arrive.
                    lost = failure(run.ended, len(taken.arrived))
        if taken.stored:
            self._objects.sync()
            self._ledger.record_objects(self._task.run, self._task.host, taken.stored)
        if lost is not None:
            raise lost
        self._counts.sent_files += len(taken.stored)
        self._counts.sent_bytes += sum(item.size for item in taken.stored)
        return taken

    def _ingest_batch(
        self,
        incoming: Incoming,
        names: list[tuple[bytes, bytes]],
        asked: Future[list[FileHash]],
        fetched: Fetched,
        findings: Mapping[bytes, Finding],
        taken: Taken,
    ) -> None:
        """Take in some files of a run while the agent hashes the next ones; one large file while it hashes that."""
        try:
            if _is_large(names, findings):
                ((path, name),) = names
                self._ingest_file(incoming, name, lambda: asked.result()[0], findings[path], self._is_known, taken)
            said = asked.result()
        except ConnectError as error:
            # What broke a transfer says more than that nobody answers any more.
            raise next((run.ended.lost for run in fetched.runs if run.ended.lost is not None), error) from error
        fetched.hashes.update((answer.path, answer) for answer in said)
        if _is_large(names, findings):
            return
        known = self._ledger.pin_known(self._task.run, {answer.sha256 for answer in said if answer.sha256})
        for answer, (path, name) in zip(said, names, strict=True):
            if answer.error is None:
                self._ingest_file(incoming, name, _said(answer), findings[path], known.__contains__, taken)

    def _is_known(self, sha256: str) -> bool:
        return sha256 in self._ledger.pin_known(self._task.run, {sha256})

    def _is_relied(self, sha256: str) -> bool:
        return bool(self._ledger.pin_known(self._task.run, {sha256}))

    def _ingest_file(
        self,
        incoming: Incoming,
        name: bytes,
        asked: Callable[[], FileHash],
        finding: Finding,
        known: Callable[[str], bool],
        taken: Taken,
    ) -> None:
        source = incoming.open(name)
        if source is None:
            return
        taken.arrived.add(finding.path)
        try:
            if os.fstat(source).st_size > self._task.max_file:
                return  # it grew meanwhile: it goes round once more, and is named then
            limit = self._task.max_file
            ingested = self._objects.ingest(source, limit, known, lambda: asked().sha256, self._is_relied)
        finally:
            os.close(source)
        incoming.remove(name)
        said, entry = asked(), finding.entry
        if (ingested.sha256, ingested.size) == (said.sha256, said.size) and entry is not None:
            taken.agreed.add(finding.path)
            public = entry.public and said.token == finding.token and self._task.share
            taken.stored.append(
                StoredObject(ingested.sha256, ingested.size, ingested.stored_size, public, ingested.chunked)
            )

    def _settle(self, finding: Finding, fetched: Fetched, taken: Taken, lists: Mapping[str, str]) -> Settled:
        entry = finding.entry
        if entry is None or finding.need is Need.NOTHING:
            gone = entry is None and finding.position >= 0
            return Settled(finding, entry, 0 if finding.young else finding.token, finding.problem, vanished=gone)
        claim = fetched.claimed.get(finding.path)
        if claim is not None:
            return self._claimed(finding, entry, claim, lists.get(claim.sha256, ""))
        answer = fetched.hashes[finding.path]
        if answer.error is ErrorKind.VANISHED:
            return Settled(finding, None, problem="vanished while it was pulled", vanished=True)
        if answer.error is not None:
            return _unreadable(finding, answer.message or answer.error.value)
        if finding.path not in taken.arrived:
            return _unreadable(finding, f"rsync did not deliver it ({fetched.runs[-1].ended.quote()})")
        if finding.path not in taken.agreed:
            return _without_content(finding, entry)
        chunks = lists.get(answer.sha256, "")
        done = msgspec.structs.replace(entry, sha256=answer.sha256, size=answer.size, chunks=chunks)
        if answer.token != finding.token or answer.size != entry.size:
            # Public was what it held when it was listed; what it holds now need not be.
            done = msgspec.structs.replace(done, changing=True, public=False)
            return Settled(finding, done, problem="kept changing while it was pulled")
        return Settled(finding, done, 0 if finding.young else finding.token)

    def _claimed(self, finding: Finding, entry: Entry, claim: FileHash, listed: str) -> Settled:
        before = finding.before
        own = before is not None and before.sha256 == claim.sha256
        # The list that is whole, where the one of before need not be.
        claimed, chunks = (before.claimed, listed or before.chunks) if own and before is not None else (True, listed)
        self._counts.claimed_files += 1
        self._counts.claimed_bytes += claim.size
        done = msgspec.structs.replace(entry, sha256=claim.sha256, claimed=claimed, chunks=chunks)
        return Settled(finding, done, 0 if finding.young else finding.token)


def _said(answer: FileHash) -> Callable[[], FileHash]:
    return lambda: answer


def _is_large(names: list[tuple[bytes, bytes]], findings: Mapping[bytes, Finding]) -> bool:
    entry = findings[names[0][0]].entry
    return entry is not None and entry.size >= LARGE


def _batches(
    names: list[tuple[bytes, bytes]], findings: Mapping[bytes, Finding]
) -> Iterator[list[tuple[bytes, bytes]]]:
    """The names in order, each large file alone."""
    batch: list[tuple[bytes, bytes]] = []
    for name in names:
        large = _is_large([name], findings)
        if batch and (large or len(batch) == BATCH):
            yield batch
            batch = []
        batch.append(name)
        if large:
            yield batch
            batch = []
    if batch:
        yield batch


def _unreadable(finding: Finding, reason: str) -> Settled:
    """Content that was known is carried forward, never given up for something that cannot be read now."""
    before = finding.before
    if before is not None and before.sha256:
        return Settled(finding, msgspec.structs.replace(before, stale=True), problem=reason)
    assert finding.entry is not None  # noqa: S101 - the caller looked
    return Settled(finding, msgspec.structs.replace(finding.entry, error=reason), problem=reason)


def _without_content(finding: Finding, entry: Entry) -> Settled:
    """What arrived never was what the agent's walk reads: content is not taken; an earlier one stays."""
    problem = "what rsync delivered was never what the file holds; its content is not taken"
    before = finding.before
    if before is not None and before.sha256:
        return Settled(finding, msgspec.structs.replace(before, stale=True, changing=True), problem=problem)
    return Settled(finding, msgspec.structs.replace(entry, changing=True), problem=problem)
