"""A process that replicates once and kills itself before one call of its target: `copy_child SOURCE COPY N`.

Calls of `put` and `replace` count; before the Nth it puts only half of its files, then dies, as a SIGKILL in the middle
does. Prints how many calls there were, if it lives that long.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pyrsyncbackup_collector.copies.directory import DirectoryTarget
from pyrsyncbackup_collector.copies.proven import NO_SUMS, Sums
from pyrsyncbackup_collector.store.store import Store

from tests.support import copies


class Deadly(DirectoryTarget):
    """Counts, and dies."""

    def __init__(self, path: Path, last: int) -> None:
        super().__init__(path)
        self.calls, self._last = 0, last

    def put(self, root: Path, names: Sequence[str], sums: Sums = NO_SUMS) -> None:
        self._count(root, names, putting=True)
        super().put(root, names, sums)

    def replace(self, root: Path, names: Sequence[str], sums: Sums = NO_SUMS) -> None:
        self._count(root, names, putting=False)
        super().replace(root, names, sums)

    def _count(self, root: Path, names: Sequence[str], *, putting: bool) -> None:
        self.calls += 1
        if self.calls == self._last:
            (super().put if putting else super().replace)(root, names[: len(names) // 2])
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    source, copy, last = sys.argv[1:]
    target = Deadly(Path(copy), int(last))
    with Store.open(Path(source)) as store:
        copies.replicate(store, target)
    print(target.calls)


if __name__ == "__main__":
    main()
