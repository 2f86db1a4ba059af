"""One pull of one module, from its listing to its snapshot.

List and compare; if anything differs: claim, transfer and take in, window after window, the agent working on the next
one while this one is taken in; then commit. What was recorded stays recorded, whatever ends the pull.
"""

from __future__ import annotations

import contextlib
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.entry import FILE, Entry
from pyrsyncbackup_collector.errors import ConnectError, ModuleError, SnapshotDamaged, StoreDamaged
from pyrsyncbackup_collector.pull import fetch, salvage
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.compare import Comparison, Finding, Need
from pyrsyncbackup_collector.pull.early import Early
from pyrsyncbackup_collector.pull.fetch import Fetched, Fetcher
from pyrsyncbackup_collector.pull.foundation import Foundation, as_it_was, entries_of, foundation_of
from pyrsyncbackup_collector.pull.ledger import Ledger, ModuleMemory
from pyrsyncbackup_collector.pull.links import Links
from pyrsyncbackup_collector.pull.report import (
    RECONNECT,
    Counts,
    Outcome,
    PlannedChange,
    Problems,
    Progress,
    PullReport,
    Watcher,
)
from pyrsyncbackup_collector.pull.salvage import Parts
from pyrsyncbackup_collector.pull.sandbox import Sandbox
from pyrsyncbackup_collector.pull.spool import Spool
from pyrsyncbackup_collector.pull.take_in import Settled, TakeIn
from pyrsyncbackup_collector.pull.task import Task
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.snapshot import Change, Facts, Snapshot
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.transport.offer import Fingerprint, Listed, ModuleOffer


class Session(fetch.Session, Protocol):
    """An open module of an agent."""

    @property
    def fingerprint(self) -> Fingerprint | None:
        """That of the last whole listing, once it was read to its end."""
        ...

    def list(self) -> Iterator[Listed]:
        """Everything the module holds, in order."""
        ...

    def close(self) -> None:
        """End everything of the session; thread-safe, at once."""
        ...


# Files that are transferred in the first window; the next ones grow, so that taking in begins soon and few runs of
# rsync do for many files.
FIRST_WINDOW = 512

# Findings in a window, whether they need content or not.
MAX_WINDOW = 50_000

# Ends of rsync runs that a report quotes.
MAX_QUOTES = 25

# Different sizes for which it is looked up whether they are known; a file of another size just travels.
MAX_SIZES = 200_000


@dataclass(frozen=True, slots=True)
class Tools:
    """What a pull works with; shared by all pulls of a collector."""

    store: Store
    ledger: Ledger
    sandbox: Sandbox
    clock: Clock


def plan_module(task: Task, session: Session, tools: Tools) -> Iterator[PlannedChange]:
    """What a pull would look at and transfer, by listing and comparing alone; nothing is recorded."""
    foundation = foundation_of(tools.store, tools.ledger, task.host, task.module)
    comparison, previous = foundation.comparison, foundation.previous
    for finding in comparison.findings(session.list(), entries_of(tools.store, previous)):
        transfer = finding.need is Need.CONTENT
        yield PlannedChange(finding.path, _kind(finding), finding.entry, finding.before, transfer)


@contextlib.contextmanager
def parts_of(run: str, store: Store) -> Iterator[Parts]:
    """Where the attempts of a pull leave the begins of large files to each other."""
    parts = Parts(layout.incoming_directory(store.path, f"{run}.parts"))
    try:
        yield parts
    finally:
        parts.discard()


def pull_module(
    task: Task, session: Session, tools: Tools, cancel: Cancel, watch: Watcher, parts: Parts | None = None
) -> PullReport:
    """Bring the module's present state into the store; one attempt.

    Raises BackupError when there is no new state to record; what was transferred until then is known to the next pull,
    and to the next attempt, if `parts` are given, the begins of large files as well.
    """
    if parts is None:
        with parts_of(task.run, tools.store) as parts:
            return pull_module(task, session, tools, cancel, watch, parts)
    incoming = tools.store.incoming(task.run)
    try:
        with cancel.ends(session.close):
            return _Pull(task, session, tools, cancel, watch, incoming, parts).run()
    except Exception:
        cancel.check()  # what broke because of the request to stop is told as that
        raise
    finally:
        try:
            tools.store.discard_incoming(task.run)
        finally:
            tools.ledger.unpin(task.run)


class _Pull:
    """The state of one running pull."""

    def __init__(
        self,
        task: Task,
        session: Session,
        tools: Tools,
        cancel: Cancel,
        watch: Watcher,
        incoming: Path,
        parts: Parts,
    ) -> None:
        self._task = task
        self._session = session
        self._tools = tools
        self._cancel = cancel
        self._watch = watch
        self._incoming = incoming
        self._parts = parts
        self._counts = Counts()
        self._problems = Problems()
        self._progress = Progress()
        self._quotes: list[str] = []
        self._sizes: set[int] = set()
        self._early = Early(task, tools.sandbox, incoming, tools.clock)
        self._unreadable: SnapshotDamaged | None = None
        self._lost: AbstractSet[str] = frozenset()

    def run(self) -> PullReport:
        task, store, ledger = self._task, self._tools.store, self._tools.ledger
        try:
            return self._run(foundation_of(store, ledger, task.host, task.module))
        except SnapshotDamaged as error:
            # Nothing of it is taken over: a full snapshot comes in its place, and it stays where it is.
            self._unreadable = error
            logs.get().warning("snapshot damaged, a full one is made", snapshot=error.name, cause=error.cause)
            ledger.catch_up(store, task.host, task.module)
            missing = not isinstance(error.__cause__, StoreDamaged)
            ledger.unusable(task.host, task.module, error.name, error.cause, missing=missing)
            self._counts, self._problems, self._progress = Counts(), Problems(), Progress()
            self._sizes, self._quotes = set(), []
            return self._run(Foundation(Comparison(array("Q")), None, error.sequence))

    def _run(self, foundation: Foundation) -> PullReport:
        task, tools = self._task, self._tools
        comparison, previous = foundation.comparison, foundation.previous
        self._lost = foundation.lost
        if previous is not None and not comparison.remembers:
            # A commit that did not reach the catalog is one reason for that; the next would be refused.
            tools.ledger.catch_up(tools.store, task.host, task.module)
        findings: Spool[Finding] = Spool(Finding, self._incoming)
        changes: Spool[Change] = Spool(Change, self._incoming)
        try:
            links = self._list(comparison, previous, findings)
            tokens = comparison.tokens
            if findings:
                dropped = self._settle(findings, changes, tokens, links)
                tokens = array("Q", (token for place, token in enumerate(tokens) if place not in dropped))
            return self._finish(foundation, changes, tokens)
        except ConnectError:
            # All transfers have ended by now.
            store, ledger = tools.store, tools.ledger
            self._progress.recorded += salvage.keep(task, store.objects, ledger, self._parts)
            self._tell(RECONNECT)
            raise
        finally:
            self._early.close()
            findings.close()
            changes.close()

    def _list(self, comparison: Comparison, previous: Snapshot | None, findings: Spool[Finding]) -> Links:
        """Phase one: the whole listing, compared; afterwards the totals are known."""
        self._tell("list")
        links = Links(lambda: entries_of(self._tools.store, previous))
        for finding in comparison.findings(self._session.list(), entries_of(self._tools.store, previous)):
            findings.append(finding)
            links.note(finding)
            if (size := self._wanted(finding)) is not None:
                self._early.start()
                self._progress.files_total += 1
                self._progress.bytes_total += size
                if len(self._sizes) < MAX_SIZES:
                    self._sizes.add(size)
                self._check_total()
            if len(findings) % 4096 == 0:
                self._cancel.check()
                self._tell("list")
        self._progress.entries = len(comparison.tokens)
        self._counts.same = comparison.same
        return links

    def _wanted(self, finding: Finding) -> int | None:
        """Size (bytes) of the content that is to come for it; None if there is none, or none that is taken."""
        if finding.need is not Need.CONTENT or finding.entry is None or finding.entry.size > self._task.max_file:
            return None
        return finding.entry.size

    def _check_total(self) -> None:
        if self._progress.bytes_total > self._task.max_total:
            raise ModuleError(
                f"{self._task.host}/{self._task.module}: more than {self._task.max_total} bytes to transfer",
                "raise `limits.max_module_size` if that is right, or exclude something",
            )

    def _settle(self, findings: Spool[Finding], changes: Spool[Change], tokens: array[int], links: Links) -> set[int]:
        """Phase two: contents, window after window; fills `changes`; returns the places of what is gone after all."""
        self._tell("transfer")
        store, ledger = self._tools.store, self._tools.ledger
        sizes = ledger.claimable_sizes(self._task.host, self._sizes, share=self._task.share) if self._sizes else set()
        fetcher = Fetcher(
            self._task, self._session, store.objects, ledger, self._tools.sandbox, self._incoming, self._early,
            self._parts, sizes, self._counts, self._received, self._cancel,
        )  # fmt: skip
        take_in = TakeIn(self._task, self._session, store.objects, ledger, fetcher, self._counts)
        dropped: set[int] = set()
        with contextlib.closing(_ahead(fetcher.fetch, self._windows(findings, sizes))) as windows:
            try:
                for fetched in windows:
                    self._quotes += [run.ended.quote() for run in fetched.runs if run.ended.code != 0]
                    for settled in take_in.settle(fetched):
                        self._record(settled, changes, tokens, links, dropped)
                    self._progress.recorded = self._counts.sent_files
                    self._tell("transfer")
            except BaseException:
                self._session.close()  # so that the window ahead ends now
                raise
        return dropped

    def _windows(self, findings: Iterable[Finding], known_sizes: AbstractSet[int]) -> Iterator[list[Finding]]:
        """Findings in pieces of bounded work; a content that is probably known is a tenth of one that must travel."""
        window: list[Finding] = []
        work = size = 0
        most = 10 * min(FIRST_WINDOW, self._task.window_files)
        for finding in findings:
            window.append(finding)
            if finding.need is not Need.NOTHING and finding.entry is not None:
                new = finding.need is Need.CONTENT and finding.entry.size not in known_sizes
                work += 10 if new else 1
                size += finding.entry.size
            if work >= most or size >= self._task.window_bytes or len(window) >= MAX_WINDOW:
                yield window
                window, work, size = [], 0, 0
                most = min(2 * most, 10 * self._task.window_files)
        if window:
            yield window

    def _record(
        self, settled: Settled, changes: Spool[Change], tokens: array[int], links: Links, dropped: set[int]
    ) -> None:
        finding = settled.finding
        before = finding.before
        if settled.vanished:
            self._counts.vanished += 1
            dropped.add(finding.position)
        elif finding.position >= 0:
            tokens[finding.position] = settled.token
        entry = settled.entry
        problem = settled.problem
        if entry is None:
            links.gone(finding.path)
        elif entry.link_to and entry.type == FILE:
            entry, problem = links.resolve(entry, finding, problem)
        else:
            links.settled(entry, finding.token)
        if (size := self._wanted(finding)) is not None:
            self._progress.files_done += 1
            self._progress.bytes_done += size
        if problem:
            self._problems.add(finding.path, entry, problem)
        if before is not None and entry is not None and before.sha256 in self._lost:
            entry = as_it_was(entry, before)
        self._count(before, entry)
        if entry != before:
            changes.append(Change(finding.path, entry))

    def _count(self, before: Entry | None, entry: Entry | None) -> None:
        counts = self._counts
        if entry is None:
            counts.removed += before is not None
            return
        counts.stale += entry.stale
        counts.changing += entry.changing
        counts.unreadable += bool(entry.error)
        if before is None:
            counts.added += 1
        elif entry == before:
            counts.same += 1
        elif entry.type != before.type or entry.sha256 != before.sha256 or entry.target != before.target:
            counts.modified += 1
        else:
            counts.metadata += 1

    def _finish(self, foundation: Foundation, changes: Spool[Change], tokens: array[int]) -> PullReport:
        previous = foundation.previous
        self._tell("commit")
        self._cancel.check()
        counts = self._counts
        task = self._task
        partial = counts.stale > 0
        clean = not partial and not counts.changing and not counts.vanished
        fingerprint = self._session.fingerprint
        kept = fingerprint.digest if clean and fingerprint is not None and fingerprint.settled else b""
        known = previous is not None and (previous.state == "partial") == partial
        if not changes and previous is not None and known:
            memory = ModuleMemory(previous.sequence, tokens.tobytes(), kept)
            self._tools.ledger.remember(task.host, task.module, memory)
            return self._report(Outcome.PARTIAL if partial else Outcome.UNCHANGED, None)
        snapshot = self._tools.store.commit(
            task.host,
            task.module,
            time=self._tools.clock.now(),
            state="partial" if partial else "complete",
            changes=changes,
            previous=previous,
            after=foundation.sequence,
            facts=_facts(self._session.offer, self._problems, task.share),
        )
        memory = ModuleMemory(snapshot.sequence, tokens.tobytes(), kept)
        whole = self._unreadable is not None
        self._tools.ledger.commit(
            task.run, snapshot, changes, memory, previous=foundation.sequence, share=task.share, whole=whole
        )
        return self._report(Outcome.PARTIAL if partial else Outcome.COMPLETE, snapshot)

    def _report(self, outcome: Outcome, snapshot: Snapshot | None) -> PullReport:
        problems = self._problems
        return PullReport(
            outcome,
            snapshot,
            self._counts,
            tuple(problems.listed),
            problems.total,
            tuple(self._quotes[:MAX_QUOTES]),
            self._unreadable.note if self._unreadable else "",
        )

    def _received(self, size: int) -> None:
        self._cancel.check()
        self._progress.bytes_received += size
        self._watch(self._progress)

    def _tell(self, phase: str) -> None:
        self._progress.phase = phase
        self._watch(self._progress)


def _ahead(work: Callable[[list[Finding]], Fetched], windows: Iterable[list[Finding]]) -> Generator[Fetched]:
    """Results of `work` in order, one window ahead of the consumer, in a thread that ends with the iteration."""
    with ThreadPoolExecutor(1, thread_name_prefix="fetch") as pool:
        running: deque[Future[Fetched]] = deque()
        for window in windows:
            running.append(pool.submit(work, window))
            if len(running) == 2:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _facts(offer: ModuleOffer, problems: Problems, share: bool) -> Facts:
    aliases = tuple((alias, root.path) for root in offer.roots for alias in root.aliases)
    roots = tuple(root.path for root in offer.roots)
    return Facts(offer.title, roots, aliases, offer.excludes, offer.includes, tuple(problems.listed), share)


def _kind(finding: Finding) -> str:
    before, entry = finding.before, finding.entry
    if entry is None:
        return "removed"
    if before is None:
        return "added"
    if entry.type != before.type:
        return "type"
    if finding.problem:
        return "unreadable"
    if entry.type == FILE and finding.need is Need.HASH and entry.mtime_s == before.mtime_s:
        return "metadata"
    return "content" if finding.need is not Need.NOTHING else "metadata"
