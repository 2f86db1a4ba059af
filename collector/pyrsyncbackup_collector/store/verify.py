"""Looks whether what the store holds is what was put there: logs, manifests, and the objects that snapshots need.

Reads alone, so it works beside whoever writes, and on a copy: what was pruned meanwhile is no finding. It changes
nothing; what is done about a finding is decided by others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from pyrsyncbackup_collector.entry import Entry, printable
from pyrsyncbackup_collector.errors import StoreDamaged
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.copied import CopiedSnapshots
from pyrsyncbackup_collector.store.findings import (
    LOG,
    MISSING,
    OBJECT,
    ROTTEN,
    Finding,
    Needing,
    Tally,
    Verified,
    mended_copy,
)
from pyrsyncbackup_collector.store.lost import gone_module
from pyrsyncbackup_collector.store.needed import PARTS, Contents, Needed, needing
from pyrsyncbackup_collector.store.rehash import Examined, Rehash
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.store.verify_module import Known, ModuleCheck

_NAME: Final = 62
NEXT_OBJECT: Final = "the next pull fetches it anew from a host that still has it; else take it from a second copy"
_NOBODY: Final = "no snapshot needs it"

# A word for the phase, how much is done, how much there is (0: not known). Called often; may raise to stop.
Watch = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Scope:
    """What to verify: everything, a host, a module, or the snapshot with that sequence number.

    Names of hosts and modules may have wildcards, "" is any.
    """

    host: str = ""
    module: str = ""
    sequence: int | None = None

    @property
    def whole(self) -> bool:
        """Whether that is the whole store, objects that nobody needs included."""
        return not self.host

    def holds(self, host: str, module: str) -> bool:
        """Whether it includes that module."""
        return fnmatchcase(host, self.host or "*") and fnmatchcase(module, self.module or "*")


def verify(
    store: Store,
    scope: Scope,
    *,
    signed: bool,
    sample: float = 1.0,
    known: Mapping[tuple[str, str], Known] | None = None,
    watch: Watch,
) -> Verified:
    """Verify what is in `scope`; of the objects the share `sample`, picked at random, logs and manifests always.

    `known` is what the catalog knows, read before: without it a log that was put back whole, with its head, passes for
    sound. `signed` says whether the store was opened with the key that signs. Raises StoreError for what is no damage:
    rights, a file system that is gone; and what `watch` raises.
    """
    with ExitStack() as stack:
        needed = stack.enter_context(Needed())
        run = _Run(store, scope, needed, watch)
        run.modules(known or {})
        rehash = stack.enter_context(Rehash(store.objects.place))
        run.objects(rehash, sample)
        return run.result(signed)


class _Run:
    """One verification."""

    def __init__(self, store: Store, scope: Scope, needed: Needed, watch: Watch) -> None:
        self._store, self._scope, self._needed, self._watch = store, scope, needed, watch
        self._contents = Contents(store)
        self._tally = Tally()
        self._modules: list[tuple[str, str]] = []
        self._manifests = self._pruned = 0
        self._accepted: list[str] = []
        self._objects = self._size = self._left_out = 0
        self._entries = 0

    def modules(self, known: Mapping[tuple[str, str], Known]) -> None:
        """Logs and manifests; fills what is needed."""
        there = [each for each in self._store.modules() if self._scope.holds(*each)]
        if copied := self._store.copied:
            if copied.fault:
                again = "`pyrsyncbackup replicate NAME --full` makes it anew"
                raise StoreDamaged(f"the copy does not say what it must have: {copied.fault}", again)
            self._gone_from_the_copy(copied, set(there))
        gone = sorted(each for each in known if self._scope.holds(*each) and each not in set(there) and known[each])
        self._modules = there
        for number, (host, module) in enumerate(there):
            self._watch("manifests", number, len(there))
            check = ModuleCheck(self._store, host, module, self._need)
            check.run(known.get((host, module)), self._scope.sequence)
            for finding in check.findings:
                self._tally.add(finding)
            self._manifests += check.manifests
            self._pruned += check.pruned
            self._accepted += check.accepted
        for host, module in gone:
            names = [name for _, (name, _) in sorted(known[host, module].items())]
            self._tally.add(gone_module(host, module, names))

    def _gone_from_the_copy(self, copied: CopiedSnapshots, there: set[tuple[str, str]]) -> None:
        for host, module in copied.modules():
            if (host, module) in there or not self._scope.holds(host, module):
                continue
            needs = Needing()
            for _, name in sorted(copied.names(host, module).items()):
                needs = needs.with_one(f"{host}/{module}@{name}")
            step = mended_copy(f"{layout.MANIFESTS}/{host}/{module}")
            cause = "its directory is not there, the copy says that it has its snapshots"
            self._tally.add(Finding(MISSING, LOG, f"{host}/{module}", cause, needs, step))

    def _need(self, entry: Entry) -> None:
        self._entries += 1
        if self._entries % 50_000 == 0:
            self._watch("entries", self._entries, 0)
        for digest in self._contents.of(entry):
            self._needed.add(digest)

    def objects(self, rehash: Rehash, sample: float) -> None:
        """Objects, part by part; each damaged one a finding with the snapshots that need it."""
        damaged: dict[str, Examined] = {}
        share = _Share(sample)
        for number in range(PARTS):
            self._watch("objects", self._objects, 0)
            needed = self._needed.part(number)
            present = self._store.objects.present(f"{number:02x}", needed)
            # Those that were collected as garbage meanwhile fall out again, when it is asked who needs them.
            damaged |= {each: Examined(each, MISSING, "its file is not there", 0) for each in needed - present}
            there = sorted(present if self._scope.whole else needed & present)
            chosen = share.of(there)
            self._left_out += len(there) - len(chosen)
            self._store.objects.expect(chosen)
            for found in rehash.all(chosen):
                self._objects += 1
                self._size += found.size
                if self._objects % 256 == 0:
                    self._watch("objects", self._objects, 0)
                if found.kind:
                    damaged[found.sha256] = found
        if damaged:
            self._judge(damaged, rehash)

    def _judge(self, damaged: dict[str, Examined], rehash: Rehash) -> None:
        """Look once more, for what was written or removed meanwhile, and find out who needs what."""
        self._watch("snapshots", 0, len(damaged))
        modules = list(self._store.modules())
        needs = needing(
            self._store, modules, damaged.keys(), self._contents, lambda: self._watch("snapshots", 0, len(damaged))
        )
        for digest in sorted(damaged):
            found = rehash.one(digest)
            those = needs.get(digest, Needing())
            if not found.kind or (found.kind == MISSING and not those.count):
                continue
            cause = found.cause
            if those.path:
                cause += f" (/{printable(those.path)})"
            step = NEXT_OBJECT if those.count else _NOBODY
            if self._store.copied is not None:
                step = mended_copy(self._store.objects.file_name(digest))
            self._tally.add(Finding(found.kind, OBJECT, digest, cause, those, step))

    def result(self, signed: bool) -> Verified:
        """What was found."""
        return Verified(
            objects=self._objects,
            size=self._size,
            left_out=self._left_out,
            manifests=self._manifests,
            logs=len(self._modules),
            pruned=self._pruned,
            signatures=signed,
            accepted=tuple(self._accepted),
            findings=tuple(self._tally.findings),
            total=sum(self._tally.counts.values()),
        )


class _Share:
    """Picks a share of what comes in pieces, at random, at least one of all."""

    def __init__(self, share: float) -> None:
        self._share = share
        # From the system: who damaged something cannot know what is looked at.
        self._random = random.SystemRandom()
        self._owed = 1.0 - 1e-9

    def of(self, digests: list[str]) -> list[str]:
        """Those of `digests` that are looked at."""
        if self._share >= 1.0:
            return digests
        self._owed += self._share * len(digests)
        count = min(len(digests), int(self._owed))
        self._owed -= count
        return sorted(self._random.sample(digests, count))


def damaged_objects(verified: Verified) -> Iterator[str]:
    """The digests of the objects that were found rotten or missing."""
    return (each.name for each in verified.findings if each.what == OBJECT and each.kind in (ROTTEN, MISSING))
