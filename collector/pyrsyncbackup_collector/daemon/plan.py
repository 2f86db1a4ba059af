"""What a prune would do: the rules of the policies applied to what catalog and logs know. Changes nothing.

For the daemon's prune, which does it, and for the commands that show it without the store's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import tzinfo
from functools import partial
from typing import Final

from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.retention import Retained
from pyrsyncbackup_collector.config import Config, Policy, effective
from pyrsyncbackup_collector.config.zones import zone_of
from pyrsyncbackup_collector.store.findings import MANIFEST
from pyrsyncbackup_collector.store.freeze import sudden
from pyrsyncbackup_collector.store.log import LogContent
from pyrsyncbackup_collector.store.lost import NO_FILE
from pyrsyncbackup_collector.store.retention import Candidate, Decision, decide, has_rules
from pyrsyncbackup_collector.store.snapshot import COMPLETE, DAMAGED, Snapshot
from pyrsyncbackup_collector.store.store import Store

# What is older than this before the newest snapshot, in seconds, is no sudden change any more.
LATELY: Final = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class ModulePlan:
    """What becomes of each snapshot of a module, oldest first; `snapshots` has them by sequence number.

    `unusable` are the numbers of those that nobody can read: they take no place that another one could have.
    `frozen` is why nothing is removed although rules would, "" if it is not; `since` when that began, None if it is
    found just now. `judged` is the newest snapshot that was looked at for a sudden change.
    """

    host: str
    module: str
    policy: Policy
    decisions: tuple[Decision, ...]
    snapshots: Mapping[int, Snapshot]
    unusable: frozenset[int] = frozenset()
    frozen: str = ""
    since: float | None = None
    judged: int = 0

    @property
    def removed(self) -> tuple[Decision, ...]:
        """Those that go."""
        return tuple(one for one in self.decisions if not one.keep)

    @property
    def newest_complete(self) -> Snapshot | None:
        """The one that is never removed."""
        complete = (one for one in reversed(self.decisions) if one.snapshot.state == COMPLETE)
        newest = next((one for one in complete if one.snapshot.sequence not in self.unusable), None)
        return self.snapshots[newest.snapshot.sequence] if newest else None


def plans(
    store: Store, catalog: Catalog, config: Config, now: float, host: str | None = None, module: str | None = None
) -> Iterator[ModulePlan]:
    """The plans of all modules with snapshots, of a host's, or of one, by name."""
    for known in catalog.retained(host, module):
        snapshots = catalog.snapshots(known.host, known.module)
        if snapshots:
            yield plan(store, catalog, config, known, snapshots, now)


def plan(
    store: Store, catalog: Catalog, config: Config, known: Retained, snapshots: Sequence[Snapshot], now: float
) -> ModulePlan:
    """The plan of one module with `snapshots`, oldest first. `now` is in seconds since 1970."""
    policy = effective(config, known.host, known.module)
    log = store.log(known.host, known.module).read()
    known, pins = _with_log(known, log), log.pins()
    difference = catalog.difference_of(store, known.host, known.module)
    # Of what the log does not name no prune can be told: it stays until somebody decides.
    gone = {one.sequence for one in difference.lost if one.why != NO_FILE}
    unusable = frozenset(gone | difference.lost_of(known.host, known.module) | _unsound(catalog, known, snapshots))
    candidates = [
        Candidate(one.sequence, one.time, DAMAGED if one.sequence in gone else one.state, pins.get(one.sequence))
        for one in snapshots
    ]
    good = known_until(known, candidates, now)
    until = max(good, min(now, snapshots[-1].time))
    made = ModulePlan(
        known.host,
        known.module,
        policy,
        _decided(candidates, unusable, partial(decide, rules=policy.keep, until=until, zone=zone(policy), good=good)),
        {one.sequence: one for one in snapshots},
        unusable,
        frozen=known.why if known.frozen is not None else "",
        since=known.frozen,
    )
    if known.frozen is None and has_rules(policy.keep) and (lost := log.lost_lines(known.accepted)):
        made = replace(made, frozen=f"its log did not fit, so pins may be lost: {lost}")
    elif known.frozen is None and has_rules(policy.keep) and policy.freeze is not None:
        why, judged = _judged(catalog, known, snapshots, policy.freeze, min(now, snapshots[-1].time))
        made = replace(made, frozen=why, judged=judged)
    return _stopped(made) if made.frozen else made


def _with_log(known: Retained, log: LogContent) -> Retained:
    """What the log says of freezes counts too: a catalog that was made anew, or is an older copy, may not know it."""
    found, accepted = log.frozen(), log.accepted()
    made = replace(known, accepted=max(known.accepted, accepted), judged=max(known.judged, accepted))
    return replace(made, frozen=float(found.time_s), why=found.reason) if found and known.frozen is None else made


def zone(policy: Policy) -> tzinfo | None:
    """The zone whose days, weeks and months are meant; None: the collector's own."""
    return zone_of(policy.zone) if policy.zone else None


def known_until(known: Retained | None, snapshots: Iterable[Candidate], now: float) -> float:
    """The last moment, in seconds since 1970, of which all of a module is known; its rules count back from there.

    A module that is gone, cannot be reached or shows a part of itself alone stands still: nothing of it expires.
    """
    complete = [one for one in snapshots if one.state == COMPLETE]
    newest = max(complete, key=lambda one: one.sequence, default=None)
    return min(now, max(known.last_good or 0.0 if known else 0.0, newest.time if newest else 0.0))


def _unsound(catalog: Catalog, known: Retained, snapshots: Sequence[Snapshot]) -> set[int]:
    """Those of which a manifest was found damaged or missing."""
    found = catalog.unsound(known.host, known.module)
    names = {name.rpartition("@")[2] for one in found if one.what == MANIFEST for name in one.snapshots}
    return {one.sequence for one in snapshots if one.name in names}


def _decided(
    candidates: Sequence[Candidate],
    unusable: AbstractSet[int],
    rules: Callable[[Sequence[Candidate]], list[Decision]],
) -> tuple[Decision, ...]:
    """What rules keep of all, and what they keep of those that can be read."""
    decisions = rules(candidates)
    if not unusable:
        return tuple(decisions)
    usable = rules([one for one in candidates if one.sequence not in unusable])
    kept = {one.snapshot.sequence: one for one in usable if one.keep}
    return tuple(one if one.keep else kept.get(one.snapshot.sequence, one) for one in decisions)


def _judged(
    catalog: Catalog, known: Retained, snapshots: Sequence[Snapshot], share: float, until: float
) -> tuple[str, int]:
    """What is sudden about the snapshots that nobody looked at, and up to which one all is well."""
    complete = [one for one in snapshots if one.state == COMPLETE and one.sequence >= known.accepted]
    judged = known.judged
    for place, one in enumerate(complete):
        if one.sequence <= known.judged or one.time < until - LATELY:
            continue
        why = sudden(
            one,
            complete[:place],
            share,
            lambda older, newer: catalog.lost_files(known.host, known.module, older.sequence, newer.sequence),
        )
        if why:
            return why, judged
        judged = one.sequence
    return "", judged


def _stopped(made: ModulePlan) -> ModulePlan:
    """Nothing goes; that rules would remove it is said."""
    return replace(
        made,
        decisions=tuple(
            one if one.keep else Decision(one.snapshot, True, (f"frozen ({one.reasons[0]})",)) for one in made.decisions
        ),
    )
