"""Processes that make a store anew from a copy, each killed by SIGKILL one step later than the one before.

`recover_child COPY FOLDER KEYS` recovers into FOLDER/1, FOLDER/2 and so on until one lives to its end; KEYS is the
directory of the collector's keys. Steps are what makes something durable or gives it its name. Prints how many there
were.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyrsyncbackup_collector.copies.reading import opened
from pyrsyncbackup_collector.copies.recovery import RECOVERING, Recovery
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.objects import ObjectStore
from pyrsyncbackup_collector.store.signature import KeySigner
from pyrsyncbackup_collector.transport.invitations import own_identity

from tests.support import copies


class Steps:
    """Counts, and dies before the last one."""

    def __init__(self, last: int) -> None:
        self._left = last

    def watch(self, owner: Any, name: str, counts: Callable[..., bool] = lambda *_: True) -> None:
        """Each call of owner.name for whose arguments `counts` is true is a step."""
        do = getattr(owner, name)

        def step(*arguments: Any, **more: Any) -> Any:
            if counts(*arguments):
                self._left -= 1
                if not self._left:
                    os.kill(os.getpid(), signal.SIGKILL)
            return do(*arguments, **more)

        setattr(owner, name, step)


def recover(copy: Path, place: Path, signer: KeySigner, last: int) -> None:
    steps = Steps(last)
    steps.watch(layout, "write_durably")
    steps.watch(layout, "complete")
    steps.watch(ObjectStore, "sync")
    steps.watch(Path, "replace")
    steps.watch(Path, "unlink", lambda path, *_: path.name == RECOVERING)
    target = copies.directory(copy)
    with opened(target) as store, Recovery(store, place, signer, check=copies.nothing, tell=copies.nothing) as recovery:
        recovery.run(1_790_000_000.0)
    target.close()


def main() -> None:
    copy, folder, keys = map(Path, sys.argv[1:])
    signer = KeySigner(own_identity(keys).key_pem)
    number = 0
    while True:
        number += 1
        # No thread was begun here, so a fork is as good as a process of its own, and a second quicker.
        if (child := os.fork()) == 0:
            recover(copy, folder / str(number), signer, number)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            print(number)
            return
        if status != -signal.SIGKILL:
            raise SystemExit(f"the try that was to be killed at step {number} ended with {status}")


if __name__ == "__main__":
    main()
