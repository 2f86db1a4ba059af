"""Pulls, prunes, collections, crashes and clock jumps in any order: what a kept snapshot names is always there.

A real store and a real catalog, in memory. A pull is taken apart into the steps between which others may come in.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import CatalogMismatch, NotFound, StoreError
from pyrsyncbackup_collector.pull.ledger import ModuleMemory, StoredObject
from pyrsyncbackup_collector.store.garbage import Collector, Pace
from pyrsyncbackup_collector.store.snapshot import Change, Snapshot
from pyrsyncbackup_collector.store.store import Store

from tests.support.estate import Content, _file
from tests.support.memory import MEMORY
from tests.support.still_clock import StillClock

GRACE = 3600.0
MODULES = (("web1", "etc"), ("web1", "nginx"), ("web2", "etc"))
# Few contents, so that they come back all the time.
CONTENTS = tuple(b"content %d" % number for number in range(6))
PATHS = tuple(b"f%d" % number for number in range(3))
contents = st.sampled_from(CONTENTS)
pulls = st.integers(0, 2)
found = st.dictionaries(st.sampled_from(PATHS), st.none() | contents, min_size=1)


class Ended(BaseException):
    """The process ends here."""


@dataclass
class Pull:
    """A pull on its way: what it found, and how far it is."""

    run: str
    host: str
    module: str
    previous: Snapshot | None
    files: dict[bytes, bytes | None]
    steps: int = 0
    entries: dict[bytes, Entry] = field(default_factory=dict)
    looked: dict[bytes, bool] = field(default_factory=dict)
    written: list[StoredObject] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    snapshot: Snapshot | None = None
    refused: bool = False


class Garbage(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir=MEMORY, prefix="model-"))
        self.clock = StillClock()
        # Every file is old at once: no grace hides what happens.
        self.clock.time = time.time() + 100 * GRACE
        Store.create(self.directory / "store")
        self.pulls: dict[int, Pull] = {}
        self.runs = 0
        with Store.open(self.directory / "store") as store:
            Catalog.create(self.directory / "catalog", store.id).close()
        self.open()
        self.gather(None, lambda: None)

    def open(self) -> None:
        self.store = Store.open(self.directory / "store", lock=True, clock=self.clock)
        self.store.reconcile()
        self.catalog = Catalog.open(self.directory / "catalog", self.store.id, clock=self.clock)
        self.catalog.check_against(self.store)
        self.catalog.recover()

    def teardown(self) -> None:
        self.catalog.close()
        self.store.close()
        shutil.rmtree(self.directory)

    # Pulls

    @rule(number=pulls, files=found, count=st.integers(1, 6), claims=st.booleans())
    def pull(self, number: int, files: dict[bytes, bytes | None], count: int, claims: bool) -> None:
        """Some steps of a pull, which begins if none runs; one that `claims` takes what others sent."""
        if number not in self.pulls:
            host, module = MODULES[number]
            self.catalog.catch_up(self.store, host, module)
            self.runs += 1
            self.pulls[number] = Pull(f"run-{self.runs}", host, module, self.store.newest(host, module), files)
        pull = self.pulls[number]
        steps = (self.claim, self.look, self.write, self.record, self.commit, self.index)
        for _ in range(count):
            done = pull.steps
            pull.steps += 1
            if done or claims:
                steps[done](pull)
            if pull.steps == len(steps) or pull.refused:
                self.abort(number)
                return

    @rule(number=pulls, files=found)
    def pull_whole(self, number: int, files: dict[bytes, bytes | None]) -> None:
        self.pull(number, files, 6, False)

    @rule(number=pulls, files=found, count=st.integers(1, 5), claims=st.booleans())
    def pull_around_a_collection(self, number: int, files: dict[bytes, bytes | None], count: int, claims: bool) -> None:
        """It stands still for so long that all goes which nothing keeps: what it relies on must not."""
        self.pull(number, files, count, claims)
        self.gather(None, lambda: None)
        self.advance(2 * GRACE)
        self.gather(None, lambda: None)
        if number in self.pulls:
            self.pull(number, files, 6 - self.pulls[number].steps, claims)

    @rule(number=pulls)
    def abort(self, number: int) -> None:
        """Also after its commit to the store."""
        if pull := self.pulls.pop(number, None):
            self.catalog.unpin(pull.run)

    def claim(self, pull: Pull) -> None:
        for path, content in pull.files.items():
            entry = _file(path, Content(content or b"", claimed=True))
            if content and self.catalog.pin_claimable(pull.run, pull.host, [(entry.sha256, True)], share=True):
                pull.entries[path] = entry

    def look(self, pull: Pull) -> None:
        """Before contents are taken in."""
        for path, content in pull.files.items():
            if content and path not in pull.entries:
                entry = pull.entries[path] = _file(path, Content(content))
                pull.looked[content] = bool(self.catalog.pin_known(pull.run, [entry.sha256]))

    def write(self, pull: Pull) -> None:
        pull.written = [self.ingest(content, known) for content, known in pull.looked.items()]

    def record(self, pull: Pull) -> None:
        if pull.written:
            self.catalog.record_objects(pull.run, pull.host, pull.written)

    def commit(self, pull: Pull) -> None:
        """To the store; the catalog comes later."""
        try:
            before = {entry.path for entry in self.store.entries(pull.previous)} if pull.previous else set()
            for path, content in sorted(pull.files.items()):
                if content or path in before:
                    pull.changes.append(Change(path, pull.entries.get(path)))
            pull.snapshot = self.store.commit(
                pull.host,
                pull.module,
                time=self.clock.now(),
                state="complete",
                changes=pull.changes,
                previous=pull.previous,
            )
        except (NotFound, StoreError):
            # The one before was pruned meanwhile.
            assert pull.previous != self.store.newest(pull.host, pull.module)
            pull.refused = True

    def index(self, pull: Pull) -> None:
        """The catalog learns of it."""
        assert pull.snapshot is not None
        memory = ModuleMemory(pull.snapshot.sequence, b"", b"")
        before = pull.previous.sequence if pull.previous else 0
        with contextlib.suppress(CatalogMismatch):
            self.catalog.commit(pull.run, pull.snapshot, pull.changes, memory, previous=before)

    def ingest(self, content: bytes, known: bool) -> StoredObject:
        with tempfile.TemporaryFile(dir=MEMORY) as file:
            file.write(content)
            file.seek(0)
            found = self.store.objects.ingest(file.fileno(), 1 << 20, lambda _: known)
            return StoredObject(found.sha256, found.size, found.stored_size, True)

    # Upkeep

    @rule(number=pulls, which=st.integers(0, 3), also_newest=st.booleans(), half=st.booleans())
    def prune(self, number: int, which: int, also_newest: bool, half: bool) -> None:
        host, module = MODULES[number]
        if self.catalog.lacking(self.store):
            return
        there = [each.sequence for each in self.store.recorded(host, module)]
        going = there[: which + 1] if also_newest else there[:-1][: which + 1]
        if not going:
            return
        self.store.prune(host, module, dict.fromkeys(going, "model"))
        if half:
            self.crash()
        self.catalog.drop_snapshots(host, module, going)

    @rule(stop=st.sampled_from([None, None, None, 100, 260, 500]))
    def collect(self, stop: int | None) -> None:
        self.gather(stop, lambda: None)

    @rule(seconds=st.sampled_from([GRACE, 3650 * 86400.0, -3650 * 86400.0]))
    def collect_while_the_clock_jumps(self, seconds: float) -> None:
        self.gather(None, lambda: self.advance(seconds))

    def gather(self, stop: int | None, at_half: Callable[[], None]) -> None:
        """A collection, unless it is refused; `stop` ends it at that pause, `at_half` is done in the middle."""
        if self.catalog.lacking(self.store):
            return
        pauses = 0

        def wait(_: float) -> None:
            nonlocal pauses
            pauses += 1
            if pauses == 256:
                at_half()
            if pauses == stop:
                raise Ended

        with contextlib.suppress(Ended):
            Collector(self.store.objects, self.catalog, Pace(0, self.clock, wait), GRACE, lambda *_: None).run()

    @rule(call=st.sampled_from(["drop", "remove"]))
    def crash_in_a_collection(self, call: str) -> None:
        """After the rows, before the files, or after both."""
        target: Any = self.catalog if call == "drop" else self.store.objects
        original = getattr(target, call)

        def instead(*arguments: object) -> None:
            original(*arguments)
            raise Ended

        setattr(target, call, instead)
        self.gather(None, lambda: None)
        self.crash()

    @rule()
    def crash(self) -> None:
        self.pulls.clear()
        self.catalog.close()
        self.store.close()
        self.open()

    @rule(seconds=st.sampled_from([GRACE / 2, GRACE, GRACE, 10 * GRACE, 3650 * 86400.0, -GRACE, -3650 * 86400.0]))
    def advance(self, seconds: float) -> None:
        self.clock.time = max(self.clock.time + seconds, 86400.0)

    # What must hold

    @invariant()
    def everything_that_a_snapshot_names_is_there(self) -> None:
        for host, module in self.store.modules():
            for snapshot in self.store.snapshots(host, module):
                for entry in self.store.entries(snapshot):
                    assert self.store.objects.read_entry(entry) in CONTENTS

    @invariant()
    def every_row_has_its_file(self) -> None:
        with self.catalog._database.reading() as raw:
            rows = raw.execute("SELECT lower(hex(sha256)) FROM objects").fetchall()
        assert [digest for (digest,) in rows if not self.store.objects.place(digest).exists()] == []

    @precondition(lambda self: not self.pulls)
    @rule()
    def everything_goes_that_nothing_names(self) -> None:
        """With time, and no pull in the way."""
        if self.catalog.lacking(self.store):
            return
        self.clock.time = max(self.clock.time, time.time() + 100 * GRACE)
        for _ in range(3):
            self.gather(None, lambda: None)
            self.clock.time += GRACE
        named = set()
        for host, module in self.store.modules():
            for snapshot in self.store.snapshots(host, module):
                named |= {entry.sha256 for entry in self.store.entries(snapshot)}
        files = {
            part + name
            for part in os.listdir(self.store.objects.path)
            if len(part) == 2
            for name in os.listdir(self.store.objects.path / part)
        }
        assert files == named


@pytest.mark.parametrize("claims", [False, True])
@pytest.mark.parametrize("count", range(1, 6))
def test_a_pull_that_stands_still_around_a_collection_loses_nothing(count: int, claims: bool) -> None:
    """After each of its steps; of contents that were garbage just before, and of new ones."""
    model = Garbage()
    try:
        model.advance(2 * GRACE)
        for content in CONTENTS[:2]:
            model.pull_whole(2, {b"f0": content})
        model.prune(2, 0, False, False)
        model.collect(None)
        model.pull_around_a_collection(0, {b"f0": CONTENTS[0], b"f1": CONTENTS[2]}, count, claims)
        model.everything_that_a_snapshot_names_is_there()
        model.every_row_has_its_file()
        assert len(model.store.snapshots(*MODULES[0])) == 1
    finally:
        model.teardown()


TestGarbage = pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")(Garbage.TestCase)
Garbage.TestCase.settings = settings(
    max_examples=int(os.environ.get("MODEL_EXAMPLES", "15")),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
