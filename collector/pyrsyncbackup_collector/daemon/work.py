"""One check of a host and one pull of a module, with what is recorded and logged of them.

Both the daemon and the commands that work without it go through here, so that a run always leaves its row, whatever
ended it. When they happen is decided by `schedule`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.catalog.journal import CANCELLED, FAILED
from pyrsyncbackup_collector.clock import iso
from pyrsyncbackup_collector.config import Limits, Policy, Space
from pyrsyncbackup_collector.daemon import mirroring
from pyrsyncbackup_collector.daemon.attempts import Attempts
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.daemon.vigil import GivenUp
from pyrsyncbackup_collector.discovery import Discovery, discover
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import BackupError, Cancelled, CatalogError
from pyrsyncbackup_collector.fleet import Host
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.deadline import GRACE, Deadline, PhaseLimits
from pyrsyncbackup_collector.pull.driver import parts_of, pull_module
from pyrsyncbackup_collector.pull.report import Progress, PullReport, Watcher
from pyrsyncbackup_collector.pull.salvage import Parts as Begins
from pyrsyncbackup_collector.pull.task import Task
from pyrsyncbackup_collector.store import room
from pyrsyncbackup_collector.transport.agent_client import AgentClient
from pyrsyncbackup_collector.transport.offer import ModuleOffer, Peer

# What follows a pull reads its row twice a second.
PROGRESS_EVERY: Final = 0.5
# What a pull leaves free in any case, for manifests, logs and the catalog. In bytes.
RESERVE: Final = 64 << 20
# Seconds in which a relay has tried all its peers, dead ones too.
LISTING: Final = 30.0


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found: `changed` ready modules differ from what is stored, `unchanged` ones do not.

    A module without a fingerprint (not asked, or it has hooks) is in neither. `peers` are what it offers as a relay;
    None if it is none, or did not say.
    """

    discovery: Discovery
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    relay: bool = False
    peers: tuple[Peer, ...] | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a pull ended: unchanged, complete, partial, failed or cancelled; with a report or an error."""

    run: str
    outcome: str
    report: PullReport | None = None
    error: BackupError | None = None


def check_host(
    parts: Parts,
    host: Host,
    names: Collection[str] | None,
    *,
    ask_info: bool = True,
    known: Discovery | None = None,
    relay: bool = False,
) -> Checked:
    """Ask for the modules of `host`, and whether those of `names` (None: all) changed; records what is offered.

    With `ask_info` the agent is also asked who it is. `known` is what was recorded the last time: the same offers are
    not written again, which costs four times as much as asking for them. `relay` is whether it was a relay when it was
    asked the last time; a relay is asked for its peers. When a check is due is not decided here: no wait after failures
    holds.

    Raises BackupError; the caller records how the check ended (`Catalog.check_done`).
    """
    with parts.connections.agent(host, now=True) as agent:
        found = discover(agent, host, check=names)
        info = agent.info() if ask_info else None
        relay = info.relay if info is not None else relay
        # One that is none any more offers nobody.
        peers = _peers(agent) if relay else () if info is not None else None
    if info is not None or known is None or _plain(known) != _plain(found):
        parts.catalog.seen(host.name, found.offers, info)
    stored = parts.catalog.fingerprints(host.name)
    asked = [(offer.name, offer.fingerprint) for offer in found.ready if offer.fingerprint is not None]
    same = {name for name, found_now in asked if found_now.settled and found_now.digest == stored.get(name)}
    return Checked(
        found,
        changed=tuple(name for name, _ in asked if name not in same),
        unchanged=tuple(name for name, _ in asked if name in same),
        relay=relay,
        peers=peers,
    )


def _peers(agent: AgentClient) -> tuple[Peer, ...] | None:
    """What it offers as a relay. That it cannot say so fails no check of its own modules."""
    try:
        return agent.relay.peers(max(agent.timeouts.call, LISTING))
    except BackupError as error:
        logs.get().warning("no list of peers", **described(error))
        return None


def _plain(discovery: Discovery) -> list[ModuleOffer]:
    return [replace(offer, fingerprint=None) for offer in discovery.offers]


@dataclass(frozen=True, slots=True)
class PullOrder:
    """What is to be pulled, and how: `trigger` is schedule, change, request or command."""

    host: Host
    module: str
    policy: Policy
    limits: Limits
    trigger: str
    space: Space = field(default_factory=Space)
    # Where the mirror of the module is kept up to date after the pull, if it has one.
    mirror: Path | None = None


def pull(
    parts: Parts,
    order: PullOrder,
    cancel: Cancel,
    *,
    watch: Watcher | None = None,
    begun: Callable[[str], None] | None = None,
    next_try: Callable[[BackupError], float | None] | None = None,
    given_up: Callable[[BackupError], None] | None = None,
    grace: float = GRACE,
) -> Ended:
    """Pull a module and record it; never raises for what goes wrong with the pull. `cancel` is of this pull alone.

    A phase that takes longer than its limit ends it; where nothing can end it, since the store does not answer, it is
    recorded as failed `grace` seconds later, which `given_up` is told from another thread, and again as what it became
    if it ever comes to its end.

    `begun` is told the run's id, `watch` the progress; `next_try` says, after a failure, when it is tried again
    (seconds since 1970). Raises CatalogError if not even the begin can be recorded.
    """
    run = parts.catalog.run_begin(order.host.name, order.module, trigger=order.trigger)
    with logs.bind(run=run, host=order.host.name, module=order.module):
        if begun:
            begun(run)
        ended = Ended(run, FAILED, error=BackupError("the pull was ended without a word"))
        overdue = GivenUp(parts, "pull", given_up, run=run)
        deadline = Deadline(f"{order.host.name}/{order.module}", _phases(order), parts.clock, cancel, overdue, grace)
        try:
            ended = Ended(run, *_outcome(parts, order, run, cancel, _Progress(parts, run, watch, deadline)))
        except Exception as error:  # noqa: BLE001 - a fault of ours is a failed run, not the end of a thread
            logs.get().exception("pull failed by a fault of the program")
            ended = Ended(run, FAILED, error=internal(error))
        finally:
            deadline.close()
            _record(parts, ended, next_try, again=overdue.told and ended.error is None)
        if ended.report is not None and order.mirror is not None:
            mirroring.follow(
                parts, order.host.name, order.module, order.mirror, order.space, cancel,
                silence=order.limits.chore, given_up=given_up, grace=grace,
            )  # fmt: skip
        return ended


def _phases(order: PullOrder) -> PhaseLimits:
    limits = order.limits
    return PhaseLimits(limits.list, limits.transfer, limits.commit, order.policy.bwlimit)


def internal(error: Exception) -> BackupError:
    """The error to record for a fault of the program."""
    return BackupError(
        f"a fault of the program: {type(error).__name__}: {error}", "please report it, with the traceback in the log"
    )


def _outcome(
    parts: Parts, order: PullOrder, run: str, cancel: Cancel, watch: _Progress
) -> tuple[str, PullReport | None, BackupError | None]:
    attempts = Attempts()
    try:
        with parts_of(run, parts.store) as kept:
            while True:
                before, began = watch.recorded, watch.began
                try:
                    report = _attempt(parts, order, run, cancel, watch, kept)
                    return report.outcome.value, report, None
                except BackupError as error:
                    cancel.check()  # what broke because of the request to stop, or a deadline, is told as that
                    pause = attempts.pause_after(
                        error, began=watch.began and not began, brought=watch.recorded > before
                    )
                    if pause is None:
                        raise
                    logs.get().warning("cut off, goes on", **described(error), attempt=attempts.made, pause=pause)
                    cancel.wait(pause)
    except BackupError as error:
        if cancel.is_set:
            return (CANCELLED, None, _stopped()) if cancel.reason is None else (FAILED, None, cancel.reason)
        return (CANCELLED if isinstance(error, Cancelled) else FAILED), None, error


def _attempt(parts: Parts, order: PullOrder, run: str, cancel: Cancel, watch: _Progress, kept: Begins) -> PullReport:
    cancel.check()
    tools = parts.tools
    watch.enter("room")
    there = room.look(parts.store.path)
    floor = room.floor(order.space, there)
    room.check(there, floor)
    # Connecting and opening have limits of their own.
    watch.enter("open")
    with (
        parts.connections.agent(order.host, now=True) as agent,
        agent.open(order.module, bwlimit=order.policy.bwlimit or 0, ends=cancel.ends) as session,
    ):
        watch.begin()
        return pull_module(_task(order, run, floor), session, tools, cancel, watch, kept)


def _stopped() -> Cancelled:
    return Cancelled("stopped on request", "run it again; what was transferred is kept")


def _task(order: PullOrder, run: str, floor: room.Floor) -> Task:
    limits = order.limits
    return Task(
        run=run,
        host=order.host.name,
        module=order.module,
        share=order.policy.share,
        timeout=int(limits.stall),
        max_file=limits.max_file_size,
        max_total=limits.max_module_size,
        reserve=max(RESERVE, floor.free),
        window_files=limits.batch_files,
        window_bytes=limits.batch_size,
    )


class _Progress:
    """Writes progress to the run's row, not more often than somebody reads it, and passes it on."""

    def __init__(self, parts: Parts, run: str, watch: Watcher | None, deadline: Deadline) -> None:
        self._parts, self._run, self._watch, self._deadline = parts, run, watch, deadline
        self._next = 0.0
        self._phase = ""
        # Whether the module was open, and how many contents came to the store, over all attempts.
        self.began = False
        self.recorded = 0
        self._present: Progress | None = None
        self._counted = 0

    def enter(self, phase: str) -> None:
        """What comes before the module is open."""
        self._deadline.enter(phase)

    def begin(self) -> None:
        """The module is open."""
        self.began = True
        self._deadline.enter("list")

    def __call__(self, progress: Progress) -> None:
        self._deadline.enter(progress.phase, progress.bytes_total if progress.phase == "transfer" else 0)
        if progress is not self._present:
            self._present, self._counted = progress, 0
        self.recorded += progress.recorded - self._counted
        self._counted = progress.recorded
        if self._watch:
            self._watch(progress)
        now = self._parts.clock.monotonic()
        if now < self._next and progress.phase == self._phase:
            return
        self._next, self._phase = now + PROGRESS_EVERY, progress.phase
        # A locked catalog is no reason to end a transfer; the commit will tell.
        with contextlib.suppress(CatalogError):
            self._parts.catalog.run_progress(
                self._run,
                phase=progress.phase,
                files_done=progress.files_done,
                files_total=progress.files_total,
                bytes_done=progress.bytes_seen,
                bytes_total=progress.bytes_total,
            )


def _record(parts: Parts, ended: Ended, next_try: Callable[[BackupError], float | None] | None, *, again: bool) -> None:
    report, error = ended.report, ended.error
    later = next_try(error) if error is not None and next_try is not None else None
    facts: dict[str, Any] = {}
    if report is not None:
        facts = {
            "sequence": report.snapshot.sequence if report.snapshot else None,
            "rsync_tail": "\n".join(report.rsync),
            "counters": asdict(report.counts),
            "problems": [(problem.path, problem.message or problem.kind) for problem in report.problems],
            "note": report.note,
        }
    try:
        parts.catalog.run_end(ended.run, ended.outcome, error=error, next_try=later, again=again, **facts)
    except CatalogError as fault:
        logs.get().error("the end of a pull could not be recorded", **described(fault))
    _log(ended, later)


def _log(ended: Ended, again: float | None) -> None:
    report = ended.report
    if report is None:
        assert ended.error is not None  # noqa: S101 - one of both is there
        level = logs.get().info if ended.outcome == CANCELLED else logs.get().warning
        level(f"pull {ended.outcome}", **described(ended.error), next_try=iso(again))
        return
    counts = report.counts
    fields = {"snapshot": report.snapshot.name} if report.snapshot else {}
    logs.get().info(
        "pull ended",
        outcome=ended.outcome,
        **fields,
        added=counts.added,
        modified=counts.modified,
        removed=counts.removed,
        sent_files=counts.sent_files,
        sent_bytes=counts.sent_bytes,
        problems=report.problems_total,
    )


def described(error: BackupError) -> dict[str, str]:
    """The fields of a log line for an expected failure: no traceback, nothing that could paint a terminal."""
    fields = {"error": type(error).__name__, "cause": printable(error.cause)}
    return fields | {"next": printable(error.hint)} if error.hint else fields
