"""Tokens of the hops, for pulls that run without the board: at most so many pass through one host at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator


class Tokens:
    """`per_hop` tokens for each host that others are reached through."""

    def __init__(self, per_hop: int) -> None:
        self._per_hop = per_hop
        self._lock = threading.Lock()
        self._hops: dict[str, threading.Semaphore] = {}

    @contextlib.contextmanager
    def held(self, hops: Iterable[str]) -> Iterator[None]:
        """Wait for a token of each of these hosts, and hold them for the block."""
        with contextlib.ExitStack() as stack:
            for hop in sorted(set(hops)):  # all in one order: nobody waits in a circle
                with self._lock:
                    tokens = self._hops.setdefault(hop, threading.Semaphore(self._per_hop))
                stack.enter_context(tokens)
            yield
