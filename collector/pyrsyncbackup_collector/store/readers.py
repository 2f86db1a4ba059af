"""Pruned snapshots that somebody reads: their full manifest stayed as a base, and was opened before it was pruned.

What they name is live as long as they are read. All other manifests that are read belong to kept snapshots.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pyrsyncbackup_collector.errors import BackupError
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.faults import translated
from pyrsyncbackup_collector.store.snapshot import Recorded

if TYPE_CHECKING:
    from pyrsyncbackup_collector.store.store import Store


def still_read(store: Store) -> Iterator[str]:
    """The digests of the contents of pruned snapshots that somebody reads now; some of them more than once."""
    for host, module in store.modules():
        directory = layout.module_directory(store.path, host, module)
        for line in store.log(host, module).read().pruned().values():
            name = layout.parse_manifest(line.file)
            if name is None or not _is_read(directory / line.file):
                continue
            # One that cannot be read here is read by nobody.
            with contextlib.suppress(BackupError):
                snapshot = store.snapshot(Recorded(host, module, name.sequence, name.name, name.kind, line.manifest))
                yield from (entry.sha256 for entry in store.entries(snapshot) if entry.sha256)


def _is_read(path: Path) -> bool:
    """Whether somebody holds a lock on it. One that is not there is read by nobody."""
    with translated(path):
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
    return False
