"""`restore --to-host`: a tree that is restored here, sent to a host, and removed here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pyrsyncbackup_collector.cli import screen
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.pull import sandbox
from pyrsyncbackup_collector.pull.send import Sent, send
from pyrsyncbackup_collector.store.snapshot import Snapshot

T = TypeVar("T")


def send_to_host(place: Workplace, host: str, snapshot: Snapshot, fill: Callable[[Path], T]) -> tuple[T, Sent]:
    """What `fill` restores into the directory that it is given, as a new directory on `host`.

    Returns what `fill` said, and where the restore is. Raises NotFound for an unknown host, and BackupError; what
    arrived then stays there for the next try.
    """
    wanted = place.fleet.host(host)
    chosen = sandbox.choose(place.config.sandbox)
    # Before anything is read: a host that refuses restores says so at once.
    with (
        place.connections() as connections,
        connections.agent(wanted, now=True) as agent,
        tempfile.TemporaryDirectory(prefix="restore-", dir=place.config.state) as scratch,
    ):
        tree = Path(scratch) / "tree"
        filled = fill(tree)
        push = agent.push(f"{snapshot.host}-{snapshot.module}-{snapshot.name}")
        with screen.err().status(f"sending to {host}"):
            return filled, send(tree.resolve(), push, chosen)
