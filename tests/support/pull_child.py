"""A process that pulls once and kills itself at a given point: `python -m tests.support.pull_child JSON`.

The point is "PHASE" of the progress ("list", "transfer", "commit"), "data N" for the Nth piece that arrives, "step
NAME" of the store's commit, or "OBJECT.METHOD before|after N": the Nth call of a method of the catalog, the objects,
the session or the fetcher. Without a point it pulls to the end.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyrsyncbackup import identity
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.pull.driver import pull_module
from pyrsyncbackup_collector.pull.fetch import Fetcher
from pyrsyncbackup_collector.pull.report import Progress
from pyrsyncbackup_collector.pull.sandbox import Bubblewrap, Landlock
from pyrsyncbackup_collector.pull.task import Task
from pyrsyncbackup_collector.store.objects import ObjectStore
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.transport.agent_client import Session

from tests.support.puller import Puller

_CLASSES: dict[str, type] = {"catalog": Catalog, "objects": ObjectStore, "session": Session, "fetcher": Fetcher}


def die() -> None:
    """End at once, as by the kernel or an administrator in a hurry."""
    os.kill(os.getpid(), signal.SIGKILL)


class Point:
    """Where to die."""

    def __init__(self, text: str) -> None:
        self.name, _, rest = text.partition(" ")
        self.rest = rest.split()
        self.pieces = 0
        if "." in self.name:
            kind, _, method = self.name.partition(".")
            _patch(_CLASSES[kind], method, self.rest[0], int(self.rest[1]))

    def step(self, name: str) -> None:
        """A step of a commit."""
        if self.name == "step" and " ".join(self.rest) == name:
            die()

    def watch(self, progress: Progress) -> None:
        """Progress of the pull."""
        if progress.phase == self.name:
            die()
        if self.name == "data" and progress.phase == "transfer":
            self.pieces += 1
            if self.pieces == int(self.rest[0]):
                die()


def _patch(kind: type, method: str, when: str, number: int) -> None:
    original: Callable[..., Any] = getattr(kind, method)
    calls = 0

    @functools.wraps(original)
    def instead(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        here = calls
        if when == "before" and here == number:
            die()
        result = original(*arguments, **named)
        if when == "after" and here == number:
            die()
        return result

    setattr(kind, method, instead)


def main() -> None:
    """Pull once."""
    asked = json.loads(sys.argv[1])
    point = Point(asked["point"])
    sandbox = {"bubblewrap": Bubblewrap, "landlock": Landlock}[asked["sandbox"]]()
    own = identity.load_or_create(Path(asked["identity"]), "collector")
    with Puller(Path(asked["base"]), own, sandbox=sandbox) as puller:
        assert isinstance(puller.store, Store)
        puller.store._step = point.step
        client = puller.client(asked["address"], Path(asked["certificate"]).read_bytes())
        task = Task(run="killed", host="web1", module=asked["module"], window_files=asked["window"])
        with client.open(asked["module"], bwlimit=asked["bwlimit"]) as session:
            report = pull_module(task, session, puller.tools, puller.cancel, point.watch)
        client.close()
        print(report.outcome.value, flush=True)


if __name__ == "__main__":
    main()
