"""What a tortured process does beside pulls, prunes and collections: the daemon's own chores, recorded as runs.

It verifies all objects, holds drills, brings a second copy up to date, and pins and unpins. None of them may ever find
damage: what goes wrong in a store that is only killed, and never touched, is a fault of ours.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pyrsyncbackup_collector import config as configuration
from pyrsyncbackup_collector.copies.directory import DirectoryTarget
from pyrsyncbackup_collector.copies.founding import found
from pyrsyncbackup_collector.copies.seal import Plain
from pyrsyncbackup_collector.daemon import chores
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.transport.connections import Connections

from tests.support.puller import Puller

CONFIG = """
store = "store"
catalog = "catalog.sqlite"
state = "state"
[upkeep]
verify = "1s"
verify_rate = "1GiB"
[[copy]]
name = "second"
to = "{copy}"
"""
# What others do to a snapshot while a chore looks at it, and what a commit under way looks like; all else is a fault.
EXPECTED = frozenset({"NotFound", "CatalogMismatch"})


class ChoreFailed(Exception):
    """A chore found what must not be there."""


class Chores:
    """The chores of one process, on the store and the catalog of its puller."""

    def __init__(self, puller: Puller) -> None:
        file = puller.base / "collector.toml"
        file.write_text(CONFIG.format(copy=puller.base / "copy"))
        for name in ("state", "copy"):
            (puller.base / name).mkdir(mode=0o700, exist_ok=True)
        self.config = configuration.load(file)
        self.store, self.catalog = puller.store, puller.catalog
        with tempfile.TemporaryDirectory(dir=puller.base) as stage:
            found(DirectoryTarget(puller.base / "copy"), puller.store.id, Plain(), Path(stage))
        connections = cast(Connections, None)  # no chore of these opens any
        self.parts = Parts(puller.store, puller.catalog, connections, puller.tools.sandbox, puller.clock)

    def verify(self, _: random.Random) -> None:
        """Read all objects again."""
        document = self.do("verify", {})
        if document.get("damaged"):
            raise ChoreFailed(f"verify: {document}, {self.catalog.damage()}")

    def drill(self, rng: random.Random) -> None:
        """Restore a sample of each module, or of one host's."""
        document = self.do("drill", {} if rng.random() < 0.5 else {"host": rng.choice(("web1", "web2", "web3"))})
        for held in document.get("drills", ()):
            if held["differences"]:
                raise ChoreFailed(f"drill: {held}")

    def replicate(self, rng: random.Random) -> None:
        """One round of the second copy, now and then looking through all of it."""
        document = self.do("replicate", {"names": ["second"], "full": rng.random() < 0.3})
        if document.get("problems"):
            raise ChoreFailed(f"replicate: {document}")

    def pin(self, rng: random.Random) -> None:
        """Pin a snapshot, or let go of one."""
        host, module = rng.choice(list(self.store.modules()) or [("web1", "data")])
        there = [one.sequence for one in self.store.recorded(host, module)]
        pinned = list(self.store.pins(host, module))
        if pinned and (len(pinned) > 2 or rng.random() < 0.5):
            self.do("unpin", {"host": host, "module": module, "sequence": rng.choice(pinned)})
        elif there:
            self.do("pin", {"host": host, "module": module, "sequence": rng.choice(there), "why": "torture"})

    def do(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The document of a chore; empty where another process or thread was in its way."""
        done = chores.do(name, self.parts, self.config, options, Cancel(), trigger="schedule")
        if done.error is not None and type(done.error).__name__ not in EXPECTED:
            raise ChoreFailed(f"{name}: {done.error}") from done.error
        return done.document
