"""The daemon: starts what the board says is due, each in a thread of its own, until it is asked to end.

It decides nothing about times (`schedule`) and does nothing itself (`work`): it carries results from one to the other,
answers signals, and keeps going whatever happens to one host, to the store or to the catalog.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from typing import Final

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.clock import iso
from pyrsyncbackup_collector.config import Config, Policy, effective
from pyrsyncbackup_collector.daemon import reload, retention
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.daemon.fullness import LOOK_EVERY, Fullness
from pyrsyncbackup_collector.daemon.newcomers import take_in
from pyrsyncbackup_collector.daemon.notify import Notifier
from pyrsyncbackup_collector.daemon.requests import Desk
from pyrsyncbackup_collector.daemon.upkeep import Upkeep
from pyrsyncbackup_collector.daemon.wakeup import Wakeup
from pyrsyncbackup_collector.daemon.work import PullOrder, check_host, described, internal, pull
from pyrsyncbackup_collector.discovery import Discovery
from pyrsyncbackup_collector.errors import (
    AgentBusy,
    BackupError,
    Cancelled,
    CatalogError,
    CatalogFull,
    ClockDoubtful,
    ConfigError,
    ConnectError,
    NotFound,
    SandboxUnavailable,
    StoreDamaged,
    StoreError,
)
from pyrsyncbackup_collector.fleet import Fleet, Host
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.schedule import Board, CheckJob, Job, PullJob, Slots
from pyrsyncbackup_collector.transport.offer import Peer

# A command that asks for a pull waits this long at most until it is seen; one query costs a fifth of a millisecond.
POLL: Final = 0.5
HEARTBEAT: Final = 10.0
DAY: Final = 86400.0
# Runs are remembered for a year and a month.
KEEP_RUNS: Final = 400 * DAY
# How often an agent is asked for its version and system.
INFO_EVERY: Final = 3600.0
# After SIGTERM: for pulls to end in order, then for what hangs in a connection that was closed. In seconds.
GRACE: Final = 5.0

_TRIGGERS: Final = {"due": "schedule", "changed": "change", "requested": "request"}


class Service:
    """A running daemon. `run` returns when it was asked to stop; `stop` and `ask_reload` may be called by handlers."""

    def __init__(self, config: Config, parts: Parts, notifier: Notifier | None = None) -> None:
        self._config, self._parts = config, parts
        self._fleet = Fleet.from_config(config)
        self._notifier = notifier or Notifier()
        self._wakeup = Wakeup()
        self._board = Board(_slots(config), self._passes)
        self._desk = Desk(parts.catalog, self._board, self._cancel_run)
        self._upkeep = Upkeep(parts, config)
        self._fullness = Fullness(parts.store.path, self._board, parts.clock)
        self._threads: set[threading.Thread] = set()
        self._cancels: dict[str, tuple[Host, Cancel]] = {}
        self._offers: dict[str, Discovery] = {}
        self._ask_info: dict[str, float] = {}
        self._relays: dict[str, bool] = {}
        # Only those whose way leads through others.
        self._behind = _behind(self._fleet)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._stopping = False
        self._reload_asked = False
        self._catalog_fault = ""
        self._next_heartbeat = self._next_trim = self._next_alive = 0.0

    def stop(self) -> None:
        """End soon: running pulls are cancelled, what they transferred stays known."""
        self._stopping = True
        self._wakeup.set()

    def ask_reload(self) -> None:
        """Read the configuration again."""
        self._reload_asked = True
        self._wakeup.set()

    def run(self) -> None:
        """Work until `stop`; then end everything that runs."""
        self._recall()
        logs.get().info(
            "ready", hosts=len(self._config.hosts), store=str(self._config.store), sandbox=self._parts.sandbox_kind
        )
        if isinstance(self._parts.sandbox, SandboxUnavailable):
            logs.get().error("pulls are refused", **described(self._parts.sandbox))
        self._notifier.ready()
        books = threading.Thread(target=self._keep_books, name="books", daemon=True)
        books.start()
        threading.Thread(target=self._watch_room, name="room", daemon=True).start()
        try:
            while not self._stopping:
                self._turn()
                self._wakeup.wait(self._pause())
        finally:
            self._end(books)

    # One turn of the loop

    def _turn(self) -> None:
        if self._reload_asked:
            self._reload_asked = False
            self._reload()
        monotonic = self._parts.clock.monotonic()
        if self._notifier.watchdog_every and monotonic >= self._next_alive:
            self._next_alive = monotonic + self._notifier.watchdog_every
            self._notifier.alive()
        _, before = self._board.workers()
        jobs = self._board.take(self._parts.clock.now())
        if (workers := self._board.workers()[1]) != before:
            logs.get().info("workers changed", workers=workers, before=before)
        for job in jobs:
            self._start(job)

    def _pause(self) -> float:
        due = self._board.next_due() - self._parts.clock.now()
        return max(0.0, min(POLL, due))

    # What the catalog needs now and then, in a thread of its own: a locked one must not stop the loop

    def _keep_books(self) -> None:
        while not self._stopping:
            try:
                self._with_catalog(self._housekeeping)
            except Exception:  # noqa: BLE001 - requests are still wanted the next time
                logs.get().exception("housekeeping failed by a fault of the program")
            self._ended.wait(POLL)

    def _watch_room(self) -> None:
        """In a thread of its own: a file system that does not answer must not keep requests from being heard."""
        while not self._ended.is_set():
            if self._fullness.look(self._config.space):
                self._wakeup.set()
            self._ended.wait(LOOK_EVERY)

    def _housekeeping(self) -> None:
        monotonic = self._parts.clock.monotonic()
        if self._desk.poll(self._fleet):
            self._wakeup.set()
        self._upkeep.poll()
        if monotonic >= self._next_heartbeat:
            self._next_heartbeat = monotonic + HEARTBEAT
            pulls, workers = self._board.workers()
            self._parts.catalog.heartbeat(os.getpid(), self._parts.sandbox_kind, pulls=pulls, workers=workers)
            self._notifier.status(f"{len(self._config.hosts)} hosts, {self._board.running()} checks and pulls running")
        if monotonic >= self._next_trim:
            self._next_trim = monotonic + DAY
            # By a clock that is years ahead, all that was ever recorded would be old.
            with contextlib.suppress(ClockDoubtful):
                retention.check_clock(self._parts)
                self._parts.catalog.trim(self._parts.clock.now() - KEEP_RUNS)

    def _with_catalog(self, work: Callable[[], None]) -> None:
        """A catalog that is locked or gone is told once, and tried again at the next turn."""
        try:
            work()
        except CatalogError as error:
            if isinstance(error, CatalogFull):
                # Whoever asks for room has to be heard.
                self._parts.store.reserve.lend(self._config.catalog.parent)
            if error.cause != self._catalog_fault:
                self._catalog_fault = error.cause
                logs.get().error("the catalog cannot be used", **described(error))
        else:
            if self._catalog_fault:
                self._catalog_fault = ""
                logs.get().info("the catalog can be used again")

    # Jobs, each in its thread

    def _start(self, job: Job) -> None:
        if isinstance(job, CheckJob):
            name, work = f"check {job.host}", lambda: self._check(job)
        else:
            name, work = f"pull {job.host}/{job.module}", lambda: self._pull(job)
        # Not joined by the interpreter at its end: what hangs beyond all grace must not keep the service from ending.
        thread = threading.Thread(target=lambda: self._in_thread(work), name=name, daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _in_thread(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # noqa: BLE001 - one host never stops the others
            logs.get().exception("a job ended by a fault of the program")
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())
            self._wakeup.set()

    def _check(self, job: CheckJob) -> None:
        begin = self._parts.clock.now()
        error: BackupError | None = None
        changed: tuple[str, ...] = ()
        unchanged: tuple[str, ...] = ()
        peers: tuple[Peer, ...] | None = None
        with logs.bind(host=job.host):
            try:
                monotonic = self._parts.clock.monotonic()
                ask_info = monotonic >= self._ask_info.get(job.host, monotonic)
                checked = check_host(
                    self._parts,
                    self._fleet.host(job.host),
                    job.modules,
                    ask_info=ask_info,
                    known=self._offers.get(job.host),
                    relay=self._relays.get(job.host, False),
                )
                if ask_info:
                    self._ask_info[job.host] = monotonic + INFO_EVERY
                self._learn(job.host, checked.discovery)
                self._relays[job.host], peers = checked.relay, checked.peers
                changed, unchanged = checked.changed, checked.unchanged
            except BackupError as failure:
                error = failure
            except Exception as fault:  # noqa: BLE001 - recorded as a failed check
                logs.get().exception("check failed by a fault of the program")
                error = internal(fault)
            now = self._parts.clock.now()
            again = self._board.check_ended(
                job, now, failure=_kind(error), retryable=error is None or error.retryable, changed=changed
            )
            if self._stopping and error is not None:
                return
            if error is not None:
                logs.get().warning("check failed", **described(error), next_try=iso(again))
                self._desk.check_failed(job.host, error)
            elif changed:
                logs.get().info("changed", modules=list(changed))
            self._tell(
                lambda: self._parts.catalog.check_done(
                    job.host, begin=begin, unchanged=unchanged, error=error, next_try=again
                )
            )
            if peers is not None:
                self._meet(job.host, peers)

    def _pull(self, job: PullJob) -> None:
        cancel = Cancel()
        given_back = False
        runs: list[str] = []

        def begun(run: str) -> None:
            runs.append(run)
            with self._lock:
                self._cancels[run] = host, cancel
                late = self._stopping
            if late:
                cancel.set()
            if job.reason == "requested":
                self._desk.pull_begun(job.host, job.module, run)

        def failed(error: BackupError) -> float | None:
            nonlocal given_back
            given_back = True
            return self._board.pull_ended(
                job, self._parts.clock.now(), failure=_kind(error), retryable=error.retryable, blame=_blame(error)
            )

        def given_up(error: BackupError) -> None:
            self._desk.pull_given_up(job.host, job.module, error)

        try:
            host = self._fleet.host(job.host)
            policy = self._policy(job.host, job.module)
            config = self._config
            mirror = config.mirror_dir if policy.mirror else None
            trigger = _TRIGGERS[job.reason]
            order = PullOrder(host, job.module, policy, config.limits, trigger, config.space, mirror)
            ended = pull(self._parts, order, cancel, begun=begun, next_try=failed, given_up=given_up)
            self._desk.pull_ended(job.host, job.module, ended)
            if ended.report and ended.report.snapshot and self._config.upkeep.prune is not None:
                retention.after_pull(self._parts, self._config, job.host, job.module)
        except (CatalogError, NotFound) as error:
            failed(error)
            self._desk.pull_lost(job.host, job.module, error)
            logs.get().error("pull could not begin", host=job.host, module=job.module, **described(error))
        finally:
            with self._lock:
                for run in runs:
                    self._cancels.pop(run, None)
            if not given_back:
                self._board.pull_ended(job, self._parts.clock.now())

    def _learn(self, host: str, discovery: Discovery) -> None:
        before = set(self._board.modules(host)) if host in self._offers else None
        told = self._offers[host].problems if host in self._offers else ()
        for problem in discovery.problems:
            if problem not in told:
                logs.get().warning("module left out", cause=problem)
        self._offers[host] = discovery
        names = {offer.name for offer in discovery.ready}
        self._board.offered(host, self._policies(host, discovery))
        if before is None:
            logs.get().info("modules found", modules=sorted(names))
        elif names != before:
            logs.get().info("modules changed", appeared=sorted(names - before), gone=sorted(before - names))
        self._desk.checked(host, discovery)

    def _meet(self, relay: str, peers: Sequence[Peer]) -> None:
        """Record what a relay offers, and take in whom it should. What goes wrong here is not the relay's fault."""
        refused: dict[str, str] = {}
        try:
            taken, refused = take_in(self._parts, self._config, self._fleet.host(relay), peers)
            if taken:
                self.ask_reload()
        except BackupError as error:
            logs.get().warning("nobody is taken in", **described(error))
        self._tell(lambda: self._parts.catalog.peers_seen(relay, peers, refused))

    def _passes(self, host: str) -> tuple[str, ...]:
        behind = self._behind.get(host)
        return self._parts.connections.passes(behind) if behind is not None else ()

    def _policies(self, host: str, discovery: Discovery) -> dict[str, Policy]:
        return {offer.name: effective(self._config, host, offer.name, offer.hints) for offer in discovery.ready}

    def _policy(self, host: str, module: str) -> Policy:
        known = self._offers.get(host)
        offer = known.offer(module) if known else None
        return effective(self._config, host, module, offer.hints if offer else None)

    def _tell(self, work: Callable[[], None]) -> None:
        try:
            work()
        except CatalogError as error:
            logs.get().error("could not be recorded", **described(error))

    # Begin, reload, end

    def _recall(self) -> None:
        """What the catalog knows from before, so that a restart shifts nothing."""
        self._board.set_hosts(self._host_policies())
        for host in self._parts.catalog.hosts():
            modules = [one for one in self._parts.catalog.modules(host.name) if one.state == "ready"]
            self._board.remember(host.name, host.checked, {one.name: one.last_listed for one in modules})

    def _host_policies(self) -> dict[str, Policy]:
        return {host.name: effective(self._config, host.name, "") for host in self._fleet.hosts if host.enabled}

    def _reload(self) -> None:
        self._notifier.reloading(self._parts.clock.monotonic())
        try:
            new = reload.read(self._config)
        except ConfigError as error:
            for problem in error.problems:
                logs.get().error("configuration refused", problem=problem)
            logs.get().error("the configuration before stays in force", file=str(self._config.file))
        else:
            self._apply(new.config, new.difference)
            for key in new.kept:
                logs.get().warning("changed in the configuration, but needs a restart", key=key)
            logs.get().info("configuration reloaded", **new.difference.counts())
        finally:
            self._notifier.ready()

    def _apply(self, config: Config, difference: reload.Difference) -> None:
        self._config, self._fleet = config, Fleet.from_config(config)
        self._upkeep.set_config(config)
        self._behind = _behind(self._fleet)
        self._board.set_slots(_slots(config))
        self._board.set_hosts(self._host_policies())
        for name in difference.removed:
            self._offers.pop(name, None)
        for name in (*difference.changed, *difference.added):
            self._offers.pop(name, None)
            self._ask_info.pop(name, None)
            self._board.forget(name)
        for name, discovery in list(self._offers.items()):
            self._board.offered(name, self._policies(name, discovery))
        with self._lock:
            going = [run for run, (host, _) in self._cancels.items() if host.name in difference.removed]
        for run in going:
            self._cancel_run(run)

    def _cancel_run(self, run: str) -> None:
        with self._lock:
            _, cancel = self._cancels.get(run, (None, None))
        if cancel is not None:
            # What ends a session may wait for the network; whoever asks does not.
            threading.Thread(target=cancel.set, name=f"cancel {run}", daemon=True).start()

    def _end(self, books: threading.Thread) -> None:
        self._notifier.stopping()
        self._ended.set()
        with self._lock:
            runs = list(self._cancels)
        logs.get().info("stopping", pulls=len(runs))
        for run in runs:
            self._cancel_run(run)
        self._upkeep.stop()
        if not self._joined(GRACE):
            self._parts.close_connections()
            if not self._joined(GRACE):
                with self._lock:
                    left = sorted(thread.name for thread in self._threads)
                logs.get().error("ends although something still runs", jobs=left)
        if not self._upkeep.joined(GRACE):
            logs.get().error("ends although a chore still runs")
        books.join(GRACE)
        with contextlib.suppress(CatalogError):
            self._parts.catalog.daemon_ended(os.getpid())
        logs.get().info("stopped")
        self._wakeup.close()

    def _joined(self, seconds: float) -> bool:
        """Whether all jobs ended within that time."""
        deadline = self._parts.clock.monotonic() + seconds
        while True:
            with self._lock:
                thread = next(iter(self._threads), None)
            if thread is None:
                return True
            rest = deadline - self._parts.clock.monotonic()
            if rest <= 0:
                return False
            thread.join(min(rest, POLL))


def _slots(config: Config) -> Slots:
    limits = config.limits
    return Slots(limits.checks, limits.pulls, limits.per_host, limits.per_hop)


def _behind(fleet: Fleet) -> dict[str, Host]:
    return {host.name: host for host in fleet.hosts if host.via or host.ssh.jump}


def _kind(error: BackupError | None) -> str:
    return type(error).__name__ if error is not None else ""


def _blame(error: BackupError) -> str:
    """Who waits after this failure."""
    if isinstance(error, Cancelled):
        return "nobody"
    if isinstance(error, StoreError | CatalogError | SandboxUnavailable) and not isinstance(error, StoreDamaged):
        return "store"
    return "host" if isinstance(error, ConnectError | AgentBusy) else "module"
