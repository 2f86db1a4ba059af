"""A process that pulls, prunes, collects and does chores at a time until it is killed, by `python -m`, with JSON.

Real pulls of one module of an agent, whose files it changes between them, beside modules that are filled without a
host; all draw on few contents, so that what one removes another brings back. It says "ready" when all threads run, and
ends by itself, with words on stderr, only if something happens that must not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyrsyncbackup import identity
from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.daemon.garbage import agree
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import AgentBusy, CatalogMismatch, ConnectError, ModuleBusy, StoreError
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.ledger import ModuleMemory, StoredObject
from pyrsyncbackup_collector.store.garbage import Collector, Pace
from pyrsyncbackup_collector.store.snapshot import Change
from pyrsyncbackup_collector.store.store import Store

from tests.support.puller import Puller
from tests.support.torture_chores import Chores

CONTENTS = [random.Random(number).randbytes(200 + 50 * number) for number in range(40)]
MADE = (("web2", "etc"), ("web2", "srv"), ("web3", "etc"))
REAL = ("web1", "data")


class Torture:
    """The threads and what they share."""

    def __init__(self, puller: Puller, asked: dict[str, Any]) -> None:
        self.puller, self.asked = puller, asked
        self.store: Store = puller.store
        self.catalog: Catalog = puller.catalog
        self.random = random.Random(asked["seed"])
        self.runs = 0

    def start(self) -> None:
        chores = Chores(self.puller)
        pulls = (self.real, *(self.made(*one) for one in MADE))
        others = (chores.verify, chores.drill, chores.replicate, chores.pin)
        for number, work in enumerate((*pulls, self.prune, self.collect, *others)):
            threading.Thread(target=self.forever, args=(work, number), daemon=True).start()

    def forever(self, work: Callable[[random.Random], None], number: int) -> None:
        rng = random.Random(f"{self.asked['seed']}-{number}")
        try:
            while True:
                work(rng)
        except BaseException:  # noqa: BLE001 - told to the one who watches
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(3)

    def real(self, rng: random.Random) -> None:
        """Change the files of the host, and pull."""
        for _ in range(rng.randrange(1, 6)):
            file = Path(self.asked["data"]) / f"f{rng.randrange(20)}"
            if rng.random() < 0.2:
                file.unlink(missing_ok=True)
            else:
                file.write_bytes(rng.choice(CONTENTS))
        with contextlib.suppress(ConnectError, ModuleBusy, AgentBusy, StoreError, CatalogMismatch):
            client = self.puller.client(self.asked["address"], Path(self.asked["certificate"]).read_bytes())
            with contextlib.closing(client):
                self.puller.pull(client, REAL[1])

    def made(self, host: str, module: str) -> Callable[[random.Random], None]:
        def pull(rng: random.Random) -> None:
            run = self.catalog.run_begin(host, module)
            try:
                with contextlib.suppress(CatalogMismatch):
                    self.one_pull(run, host, module, rng)
            finally:
                self.catalog.unpin(run)

        return pull

    def one_pull(self, run: str, host: str, module: str, rng: random.Random) -> None:
        self.catalog.catch_up(self.store, host, module)
        previous = self.store.newest(host, module)
        present = {entry.path: entry for entry in self.store.entries(previous)} if previous else {}
        changes: dict[bytes, Change] = {}
        wanted: dict[bytes, bytes] = {}
        for _ in range(rng.randrange(1, 8)):
            path = b"f%02d" % rng.randrange(15)
            if path in present and rng.random() < 0.2:
                changes[path] = Change(path, None)
                wanted.pop(path, None)
            else:
                wanted[path] = rng.choice(CONTENTS)
        claims = [(hashlib.sha256(each).hexdigest(), True) for each in wanted.values()]
        granted = self.catalog.pin_claimable(run, host, claims, share=True) if rng.random() < 0.7 else set()
        missing = {each for each in wanted.values() if hashlib.sha256(each).hexdigest() not in granted}
        known = self.catalog.pin_known(run, {hashlib.sha256(each).hexdigest() for each in missing})
        stored = [self.ingest(each, known) for each in missing]
        self.store.objects.sync()
        self.catalog.record_objects(run, host, stored)
        for path, content in wanted.items():
            digest = hashlib.sha256(content).hexdigest()
            entry = Entry(
                path_text=path.decode(), size=len(content), sha256=digest, public=True, claimed=digest in granted
            )
            if present.get(path) == entry:  # no pull commits a change that is none
                changes.pop(path, None)
            else:
                changes[path] = Change(path, entry)
        ordered = sorted(changes.values(), key=lambda each: each.path)
        if not ordered:
            return
        try:
            snapshot = self.store.commit(
                host, module, time=time.time(), state="complete", changes=ordered, previous=previous
            )
        except StoreError as error:
            if "not the newest" not in str(error):
                raise
            return
        memory = ModuleMemory(snapshot.sequence, b"", b"")
        self.catalog.commit(run, snapshot, ordered, memory, previous=previous.sequence if previous else 0)

    def ingest(self, content: bytes, known: dict[str, int]) -> StoredObject:
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            found = self.store.objects.ingest(file.fileno(), 1 << 20, known.__contains__)
            return StoredObject(found.sha256, found.size, found.stored_size, True)

    def prune(self, rng: random.Random) -> None:
        host, module = rng.choice((REAL, *MADE))
        with contextlib.suppress(StoreError, CatalogMismatch):
            found = self.catalog.difference_of(self.store, host, module)
            there = [each.sequence for each in self.store.recorded(host, module)]
            if not found.lacking and len(there) > 4:
                going = rng.sample(there[:-1], rng.randrange(1, len(there) - 2))
                done = self.store.prune(host, module, dict.fromkeys(going, "torture"))
                self.catalog.drop_snapshots(host, module, [each.sequence for each in done.removed])

    def collect(self, rng: random.Random) -> None:
        clock = SystemClock()
        with contextlib.suppress(CatalogMismatch):
            agree(self.store, self.catalog, clock, Cancel())
            pace = Pace(rng.choice((0, 0, 2000)), clock, Cancel().wait)
            grace = rng.choice((0.01, 0.1, 0.5))
            Collector(self.store.objects, self.catalog, pace, grace, lambda *_: None).run()


def main() -> None:
    """Work until the end."""
    logs.configure(level="error")
    asked = json.loads(sys.argv[1])
    own = identity.load_or_create(Path(asked["identity"]), "collector")
    with Puller(Path(asked["base"]), own) as puller:
        puller._runs = asked["number"] * 1_000_000
        found = puller.store.reconcile()
        assert not [fault for fault in found.faults if "torn" not in fault and "signed" not in fault], found.faults
        puller.catalog.check_against(puller.store)
        puller.catalog.recover()
        Torture(puller, asked).start()
        print("ready", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
