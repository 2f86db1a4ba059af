"""A part of a chore in a thread of its own, so that one which nothing can end keeps no other part from its turn.

What hangs is left to itself: it is refused from then on, until it has ended. What a part does is decided elsewhere.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.daemon.chore import Work
from pyrsyncbackup_collector.daemon.vigil import Vigil
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import BackupError
from pyrsyncbackup_collector.pull.cancel import GLANCE

T = TypeVar("T")


def run(work: Work, name: str, part: Callable[[Work], T]) -> T:
    """What `part` returns, or raises; it works with the Work that it is given.

    Raises ChoreOverdue for one that gives no sign of life for `limits.chore`, also where nothing can end it; then it is
    in `work.parts.hanging` until it has ended, and is not begun again.
    """
    hanging = work.parts.hanging
    if (since := hanging.get(name)) is not None:
        raise type(since)(f"{since.cause}; it hangs still", since.hint)
    ended = threading.Event()
    results: list[T] = []
    faults: list[BaseException] = []

    def give_up(error: BackupError) -> None:
        hanging[name] = error
        logs.get().error("hangs and is given up", what=name, cause=printable(error.cause), next=printable(error.hint))
        ended.set()

    vigil = Vigil(name, work.config.limits.chore, work.parts.clock, give_up, work.grace)

    def tell(phase: str, done: int, total: int) -> None:
        vigil.check()
        work.tell(phase, done, total)

    def go() -> None:
        try:
            results.append(part(replace(work, cancel=vigil, tell=tell)))
        except BaseException as fault:  # noqa: BLE001 - raised where it is waited for
            faults.append(fault)
        finally:
            vigil.close()
            hanging.pop(name, None)
            ended.set()

    with work.cancel.ends(vigil.set), work.cancel.resting():
        # Not joined by the interpreter at its end.
        threading.Thread(target=contextvars.copy_context().run, args=(go,), name=name, daemon=True).start()
        try:
            while not ended.wait(GLANCE):
                pass
        except BaseException:
            # Ctrl-C comes here; the part ends in its order.
            vigil.set()
            ended.wait()
            raise
    if (since := hanging.get(name)) is not None:
        raise since
    if faults:
        # What broke because it was ended is told as that.
        raise vigil.reason or faults[0]
    return results[0]
