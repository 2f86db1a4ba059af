"""What had arrived when a connection was lost: kept, so that the pull goes on from it.

Whole files become contents that this host sent, whatever the agent would have said of them: the next attempt asks for
digests, and finds them known. The begin of a large file is kept as it is, and laid ready for rsync, which then sends
the rest of it. What was laid ready and is there still is no file that arrived.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import deque
from pathlib import Path

from pyrsyncbackup_collector.pull.incoming import Incoming
from pyrsyncbackup_collector.pull.ledger import Ledger, StoredObject
from pyrsyncbackup_collector.pull.task import Task
from pyrsyncbackup_collector.store.layout import remove_tree
from pyrsyncbackup_collector.store.objects import ObjectStore

# Contents that are made known at a time.
_BATCH = 1000
# Runs of rsync whose files may not have been taken in yet: those of two windows, some for each root.
_RUNS = 64
# From this size on (bytes) the begin of a file is worth keeping: less than what a slow line carries in a minute.
LEAST_PART = 512 << 10


def keep(task: Task, objects: ObjectStore, ledger: Ledger, parts: Parts) -> int:
    """Keep what came of what was asked for; return how many contents are new, or came further."""
    kept = 0
    batch: list[StoredObject] = []
    for data, names in parts.take_asked():
        try:
            incoming = Incoming(data)
        except OSError:  # taken in and removed, or not as we made it
            continue
        with incoming as files:
            for name in names:
                source = files.open(name)
                if source is None:
                    kept += parts.keep(name, files)
                    continue
                try:
                    if parts.is_laid(source, name, data):
                        kept += parts.keep(name, files)
                        continue
                    if os.fstat(source).st_size > task.max_file:
                        continue
                    found = objects.ingest(
                        source,
                        task.max_file,
                        lambda sha256: bool(ledger.pin_known(task.run, {sha256})),
                        relied=lambda sha256: bool(ledger.pin_known(task.run, {sha256})),
                    )
                finally:
                    os.close(source)
                files.remove(name)
                # Nobody compared it with what the agent reads: private until a listing says otherwise.
                batch.append(StoredObject(found.sha256, found.size, found.stored_size, False, found.chunked))
                if len(batch) >= _BATCH:
                    kept += _record(task, objects, ledger, batch)
    return kept + _record(task, objects, ledger, batch)


def _record(task: Task, objects: ObjectStore, ledger: Ledger, batch: list[StoredObject]) -> int:
    """Make them known; how many were not."""
    if not batch:
        return 0
    digests = {one.sha256 for one in batch}
    new = len(digests) - len(ledger.known(digests))
    objects.sync()
    ledger.record_objects(task.run, task.host, batch)
    batch.clear()
    return new


class Parts:
    """The begins of large files, by name below their root; they live as long as the attempts of a pull.

    Of two files with one name below different roots the longer begin is kept. Whatever is laid ready, rsync makes the
    right file of it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # The size of each begin, wherever it is now.
        self._sizes: dict[bytes, int] = {}
        # What was laid ready, by its path: the inode, in whose place rsync puts another one when the file is whole.
        self._laid: dict[Path, int] = {}
        # What was asked for, not what the list of names says that lies where a taken-over rsync may write.
        self._asked: deque[tuple[Path, list[bytes]]] = deque(maxlen=_RUNS)

    def keep(self, name: bytes, files: Incoming) -> bool:
        """Keep what there is of the unfinished `name`; whether it is more than there was before."""
        before, place = self._sizes.get(name, 0), self._place(name)
        with contextlib.suppress(OSError):
            self._directory.mkdir(mode=0o700, exist_ok=True)
            if size := files.move_begin(name, max(LEAST_PART, before + 1), place):
                place.chmod(0o600)
                self._sizes[name] = size
                return True
            if before and not place.exists():
                files.move(name, place)
                os.truncate(place, before)
        return False

    def has(self, name: bytes) -> bool:
        """Whether the begin of `name` is here."""
        return self._place(name).exists()

    def lay(self, name: bytes, target: Path) -> None:
        """Move it to `target`."""
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._place(name).replace(target)

    def note_asked(self, data: Path, names: list[bytes]) -> None:
        """Rsync was asked for these names, and writes them below `data`."""
        self._asked.append((data, names))

    def take_asked(self) -> list[tuple[Path, list[bytes]]]:
        """What was asked for lately, of which some may have been taken in; once."""
        asked = list(self._asked)
        self._asked.clear()
        return asked

    def note_laid(self, target: Path) -> None:
        """What is at `target` now was laid there, and did not arrive."""
        self._laid[target] = target.stat().st_ino

    def is_laid(self, source: int, name: bytes, data: Path) -> bool:
        """Whether the open file `name` below `data` is what was laid there."""
        return self._laid.get(data / os.fsdecode(name)) == os.fstat(source).st_ino

    def discard(self) -> None:
        """Remove all. What cannot be removed now (the store became read-only) goes at the next start."""
        with contextlib.suppress(OSError):
            remove_tree(self._directory)

    def _place(self, name: bytes) -> Path:
        return self._directory / hashlib.sha256(name).hexdigest()
