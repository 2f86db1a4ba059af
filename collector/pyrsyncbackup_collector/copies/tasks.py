"""Waiting for work that threads do for a copy, so that a request to stop is seen meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Final, TypeVar

R = TypeVar("R")

# How soon a request to stop is seen, in seconds.
_LOOK: Final = 0.2


def nothing() -> None:
    """For who is never asked to stop."""


def results(tasks: Sequence[Future[R]], check: Callable[[], None]) -> list[R]:
    """What they return, in their order. `check` is called now and then, and raises to end it.

    The first failure ends it, too: what was not begun is not begun, and what runs has ended when this raises.
    """
    try:
        found = []
        for task in tasks:
            while not task.done() and not wait([task], _LOOK).done:
                check()
            found.append(task.result())
        return found
    finally:
        wait([task for task in tasks if not task.cancel()])
