"""What runs, what is due next, and what waits for whom: the memory of the scheduling loop.

It decides which check or pull may begin now; it runs nothing and reads no clock. All methods may be called from any
thread. Nothing is handed out twice before it was given back with `check_ended` or `pull_ended`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pyrsyncbackup_collector.config.model import Workers
from pyrsyncbackup_collector.config.policy import Policy
from pyrsyncbackup_collector.schedule import crew
from pyrsyncbackup_collector.schedule.due import due_at, retry_at
from pyrsyncbackup_collector.schedule.gates import Gate, Gates

T = TypeVar("T")

NEVER = float("inf")
# The wall clock is taken for set back when it shows this many seconds less than before; below that it is only slewed.
SET_BACK = 5.0
# A store that was mounted again, or got space, is used again after this many seconds at the latest.
STORE_CAP = 300.0
# Beyond this it does not matter how many pulls wait for a worker.
LONG_QUEUE = 1000


@dataclass(frozen=True, slots=True)
class CheckJob:
    """Ask `host` for its modules, and for the fingerprints of `modules` (None: of all)."""

    host: str
    modules: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class PullJob:
    """Pull a module; `reason` is due, changed or requested."""

    host: str
    module: str
    reason: str


Job = CheckJob | PullJob


@dataclass(frozen=True, slots=True)
class Slots:
    """How many may run at a time: checks and pulls in all, pulls of one host, pulls that pass through one host."""

    checks: int
    pulls: Workers
    per_host: int
    per_hop: int = 8


@dataclass(slots=True)
class Wait:
    """After failures of one kind in a row: no attempt before `until`."""

    failures: int = 0
    until: float = 0.0
    kind: str = ""

    def failed(self, now: float, kind: str, *key: str, retryable: bool, cap: float = NEVER) -> None:
        """Wait longer than the last time, but at most `cap` seconds; a failure of another kind begins anew."""
        self.failures = self.failures + 1 if kind == self.kind else 1
        self.until = min(retry_at(now, self.failures, *key, retryable=retryable), now + cap)
        self.kind = kind

    def clear(self) -> None:
        """It works again."""
        self.failures, self.until, self.kind = 0, 0.0, ""


@dataclass(slots=True)
class _Module:
    policy: Policy
    checked: float | None = None
    pulled: float | None = None
    # Since when there is a change that no pull has fetched yet: who waits for longest comes first.
    changed: float | None = None
    requested: bool = False
    # `pulled` and `changed` as they were when the pull that runs began.
    before: tuple[float | None, float | None] = (None, None)
    wait: Wait = field(default_factory=Wait)

    def pull_due(self, host: str, name: str) -> float:
        """When it is due by all but windows; what was asked for is due before all (-1)."""
        if self.requested:
            return -1.0
        if not self.policy.enabled:
            return NEVER
        due = due_at(self.pulled, self.policy.pull, host, name, zone=self.policy.zone)
        if self.changed is not None:
            due = min(due, self.changed)
        return max(due, self.wait.until)

    def check_due(self, host: str) -> float:
        # Its own first pull comes before: that lists it all.
        if self.policy.check is None or not self.policy.enabled or self.pulled is None:
            return NEVER
        return due_at(self.checked, self.policy.check, host)


@dataclass(slots=True)
class _Host:
    policy: Policy
    checked: float | None = None
    # What the host offers is not known since the start: ask before anything else.
    known: bool = False
    requested: bool = False
    modules: dict[str, _Module] = field(default_factory=dict)
    wait: Wait = field(default_factory=Wait)
    # When its check and its first pull are due; None: to be worked out. Ten thousand modules are not looked at twice.
    due: tuple[float, float] | None = None
    # When each of its pulls is due by all but windows, and the gate of these.
    pulls: dict[str, tuple[float, Gate | None]] = field(default_factory=dict)

    def changed(self) -> None:
        """Something that this depends on has changed."""
        self.due, self.pulls = None, {}

    def pull_due(self, host: str, name: str, gates: Gates) -> float:
        """When a module's pull is due."""
        if name not in self.pulls:
            module = self.modules[name]
            self.pulls[name] = module.pull_due(host, name), gates.of(module.policy.hours)
        due, gate = self.pulls[name]
        return due if due < 0 else gates.passes(gate, due)

    def check_due(self, name: str) -> float:
        if self.requested:
            return 0.0
        if not self.known:
            return self.wait.until
        own = due_at(self.checked, self.policy.check or self.policy.pull, name, zone=self.policy.zone)
        return max(self.wait.until, min([own, *(module.check_due(name) for module in self.modules.values())]))


class Board:
    """The memory of the loop. Times are seconds since 1970, as the caller's clock shows them."""

    def __init__(self, slots: Slots, passes: Callable[[str], tuple[str, ...]] = lambda _: ()) -> None:
        """`passes` tells through which other hosts the way to one leads."""
        self._slots, self._passes = slots, passes
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.RLock()
        # What is under way; kept apart from the hosts, which may be removed and come back meanwhile.
        self._checks: set[str] = set()
        self._pulls: dict[tuple[str, str], tuple[str, ...]] = {}
        self._begun: dict[tuple[str, str], float] = {}
        self._crew, self._load = crew.first(slots.pulls), crew.Load()
        # Since when there was always a pull that only waited for a worker.
        self._queued: float | None = None
        # Pulls that pass through a host: the tokens of each hop.
        self._passing: Counter[str] = Counter()
        self._gates = Gates()
        self._latest: float | None = None
        # The store cannot be written: no pulls, checks go on.
        self.store = Wait()

    def set_slots(self, slots: Slots) -> None:
        """Other limits from now on; what runs goes on."""
        with self._lock:
            self._slots = slots

    def set_hosts(self, policies: Mapping[str, Policy]) -> None:
        """Exactly these hosts are scheduled from now on. What is known of those that were there already stays."""
        with self._lock:
            self._hosts = {name: self._hosts.get(name) or _Host(policy) for name, policy in policies.items()}
            for name, policy in policies.items():
                self._hosts[name].policy = policy
                self._hosts[name].changed()

    def forget(self, host: str) -> None:
        """Its definition changed: waiting ends, and what it offers is asked anew."""
        with self._lock:
            if entry := self._hosts.get(host):
                entry.known = False
                entry.changed()
                entry.wait.clear()

    def remember(self, host: str, checked: float | None, pulled: Mapping[str, float | None]) -> None:
        """What the catalog knows from before: begin of the last check, and of the last full listing by module."""
        with self._lock:
            if entry := self._hosts.get(host):
                entry.checked = checked
                entry.changed()
                for name, moment in pulled.items():
                    entry.modules[name] = _Module(entry.policy, checked, moment)

    def offered(self, host: str, policies: Mapping[str, Policy]) -> None:
        """The host now has exactly these ready modules."""
        with self._lock:
            if entry := self._hosts.get(host):
                old = entry.modules
                entry.modules = {name: old.get(name) or _Module(policy) for name, policy in policies.items()}
                for name, policy in policies.items():
                    entry.modules[name].policy = policy
                entry.known = True
                entry.changed()

    def modules(self, host: str) -> tuple[str, ...]:
        """The ready modules of a host, as far as known."""
        with self._lock:
            entry = self._hosts.get(host)
            return tuple(sorted(entry.modules)) if entry else ()

    def request_check(self, host: str) -> None:
        """Check now, whatever the schedule says."""
        with self._lock:
            if entry := self._hosts.get(host):
                entry.requested = True
                entry.changed()

    def request_pull(self, host: str, module: str) -> None:
        """Pull now, whatever the schedule says; while it runs already: once more afterwards."""
        with self._lock:
            if (entry := self._hosts.get(host)) and module in entry.modules:
                entry.modules[module].requested = True
                entry.changed()

    def withdraw(self, host: str, module: str) -> None:
        """Nobody asks for it any more."""
        with self._lock:
            if (entry := self._hosts.get(host)) and module in entry.modules:
                entry.modules[module].requested = False
                entry.changed()

    def take(self, now: float) -> list[Job]:
        """What may begin at `now`; the oldest due first. It counts as running from here on."""
        with self._lock:
            self._notice_clock(now)
            if self._gates.turned(now):
                for entry in self._hosts.values():
                    entry.due = None  # windows count for this alone
            jobs: list[Job] = []
            for _, name in _ripe(self._due_checks(), now):
                if len(self._checks) >= self._slots.checks:
                    break
                jobs.append(self._begin_check(name, now))
            ripe = _ripe(self._due_pulls(now), now)
            self._crew = crew.step(self._crew, self._load, self._slots.pulls, now)
            queue: Counter[str] = Counter()
            for _, (name, module) in ripe:
                hops = self._passes(name)
                if not self._has_slot(name, hops, queue[name]):
                    continue
                if len(self._pulls) < self._crew.number:
                    jobs.append(self._begin_pull(name, module, now, hops))
                else:
                    queue[name] += 1
                    if queue.total() >= LONG_QUEUE:
                        break
            self._count_queue(queue.total(), now)
            return jobs

    def next_due(self) -> float:
        """When something becomes due that does not wait for a free slot; infinity if nothing ever does."""
        with self._lock:
            found = [NEVER]
            if len(self._checks) < self._slots.checks:
                found += [due for due, _ in self._due_checks()]
            if len(self._pulls) < self._crew.number:
                found += [
                    self._first_pull(name, entry)
                    for name, entry in self._hosts.items()
                    if self._has_slot(name, self._passes(name))
                ]
            return min(found)

    def check_ended(
        self, job: CheckJob, now: float, *, failure: str = "", retryable: bool = True, changed: Iterable[str] = ()
    ) -> float | None:
        """The check is over; `changed` modules need a pull. After a `failure` (its kind): when it is tried again."""
        with self._lock:
            self._checks.discard(job.host)
            entry = self._hosts.get(job.host)
            if entry is None:
                return None
            entry.changed()
            if failure:
                entry.wait.failed(now, failure, job.host, retryable=retryable)
                return entry.wait.until
            entry.wait.clear()
            for name in changed:
                if (module := entry.modules.get(name)) and module.changed is None:
                    module.changed = now
            return None

    def pull_ended(
        self, job: PullJob, now: float, *, failure: str = "", retryable: bool = True, blame: str = "module"
    ) -> float | None:
        """The pull is over. After a `failure` (its kind): when it is tried again.

        `blame` says who waits: the "module", the whole "host", for the "store" all pulls, or "nobody" (cancelled).
        """
        with self._lock:
            self._passing.subtract(self._pulls.pop((job.host, job.module), ()))
            if (begun := self._begun.pop((job.host, job.module), None)) is not None:
                self._load = crew.ended(self._load, now - begun)
            entry = self._hosts.get(job.host)
            module = entry.modules.get(job.module) if entry else None
            if entry is not None:
                entry.changed()
            if entry is None or module is None:
                return None
            if not failure:
                self.store.clear()
                entry.wait.clear()
                module.wait.clear()
                return None
            if blame == "nobody" and job.reason == "requested":
                # Who asked for it stopped it: it is due again when it would have been without.
                module.pulled, module.changed = module.before
                return None
            if module.changed is None:
                module.changed = now
            if blame == "nobody":
                return None
            if blame == "store":
                if now >= self.store.until:  # of pulls that fail together the first counts
                    self.store.failed(now, failure, retryable=True, cap=STORE_CAP)
                return self.store.until
            wait = entry.wait if blame == "host" else module.wait
            wait.failed(now, failure, job.host, job.module, retryable=retryable)
            return wait.until

    def hold_pulls(self, until: float) -> bool:
        """Let pulls that nobody asked for wait longer, if one failed because of the store; whether one did."""
        with self._lock:
            if self.store.failures:
                self.store.until = max(self.store.until, until)
            return self.store.failures > 0

    def release_pulls(self) -> None:
        """The store can be written again: pulls wait for it no longer."""
        with self._lock:
            self.store.clear()

    def running(self) -> int:
        """How many checks and pulls are under way."""
        with self._lock:
            return len(self._checks) + len(self._pulls)

    def workers(self) -> tuple[int, int]:
        """How many pulls are under way, and how many may be at present."""
        with self._lock:
            return len(self._pulls), self._crew.number

    def _count_queue(self, queue: int, now: float) -> None:
        if not queue or self._queued is None:
            self._queued = now if queue else None
        waiting = 0.0 if self._queued is None else now - self._queued
        self._load = replace(self._load, queue=queue, waiting=waiting)

    def _due_checks(self) -> list[tuple[float, str]]:
        return [(self._due(name, entry)[0], name) for name, entry in self._hosts.items() if name not in self._checks]

    def _due_pulls(self, now: float) -> list[tuple[float, tuple[str, str]]]:
        """The pulls that are due at `now`, waiting ones left out."""
        found = []
        for name, entry in self._hosts.items():
            if self._first_pull(name, entry) > now:
                continue
            for module_name in entry.modules:
                if (name, module_name) not in self._pulls:
                    due = entry.pull_due(name, module_name, self._gates)
                    if due >= 0:
                        due = max(due, entry.wait.until, self.store.until)
                    found.append((due, (name, module_name)))
        return found

    def _first_pull(self, name: str, entry: _Host) -> float:
        due = self._due(name, entry)[1]
        return max(due, entry.wait.until, self.store.until) if due >= 0 else due

    def _due(self, name: str, entry: _Host) -> tuple[float, float]:
        """When the host's check and its first pull are due, whatever waits; a requested pull is before all (-1)."""
        if entry.due is None:
            pulls = [NEVER]
            for module_name in entry.modules if entry.known else ():
                if (name, module_name) not in self._pulls:
                    pulls.append(entry.pull_due(name, module_name, self._gates))
            entry.due = (entry.check_due(name), min(pulls))
        return entry.due

    def _has_slot(self, host: str, hops: tuple[str, ...], more: int = 0) -> bool:
        """Whether a pull of this host may begin besides those that run, and `more` that are to."""
        if sum(1 for name, _ in self._pulls if name == host) + more >= self._slots.per_host:
            return False
        return all(self._passing[hop] < self._slots.per_hop for hop in hops)

    def _begin_check(self, name: str, now: float) -> CheckJob:
        entry = self._hosts[name]
        due = tuple(sorted(key for key, module in entry.modules.items() if module.check_due(name) <= now))
        everything = bool(due) and len(due) == len(entry.modules)
        for key in due:
            entry.modules[key].checked = now
        entry.checked, entry.requested = now, False
        self._checks.add(name)
        entry.changed()
        return CheckJob(name, None if everything else due)

    def _begin_pull(self, name: str, module_name: str, now: float, hops: tuple[str, ...]) -> PullJob:
        module = self._hosts[name].modules[module_name]
        reason = "requested" if module.requested else "changed" if module.changed is not None else "due"
        module.before = module.pulled, module.changed
        module.requested, module.changed = False, None
        module.pulled = module.checked = now
        self._pulls[name, module_name] = hops
        self._begun[name, module_name] = now
        self._passing.update(hops)
        self._hosts[name].changed()
        return PullJob(name, module_name, reason)

    def _notice_clock(self, now: float) -> None:
        """When the clock was set back, also before the start, moments that lie ahead now count as the present one."""
        if self._latest is None or now < self._latest - SET_BACK:
            for entry in self._hosts.values():
                entry.changed()
                entry.checked = _not_after(entry.checked, now)
                entry.wait.until = min(entry.wait.until, now)
                for module in entry.modules.values():
                    module.checked, module.pulled = _not_after(module.checked, now), _not_after(module.pulled, now)
                    module.changed = _not_after(module.changed, now)
                    module.wait.until = min(module.wait.until, now)
            self.store.until = min(self.store.until, now)
            self._queued = _not_after(self._queued, now)
            self._begun = {key: min(begun, now) for key, begun in self._begun.items()}
        elif len(self._pulls) or self._load.busy:
            self._load = crew.worked(self._load, len(self._pulls), now - self._latest)
        self._latest = now


def _not_after(moment: float | None, now: float) -> float | None:
    return None if moment is None else min(moment, now)


def _ripe(due: list[tuple[float, T]], now: float) -> list[tuple[float, T]]:
    return sorted(((moment, what) for moment, what in due if moment <= now), key=lambda pair: pair[0])
