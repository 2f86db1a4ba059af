"""Who writes an object waits for who removes one of the same digest.

A remover closes the gate for some digests before it asks the catalog whether they may go, and opens it when their files
are gone. A writer pins a digest before it writes it, and passes the gate when it gives the file its name. So either the
remover's transaction sees the pin and leaves the file alone, or the writer's file comes after the removal.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager


class Gate:
    """Open for all digests but those that are being removed. Any number of writers, one remover at a time."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._closed: frozenset[str] = frozenset()

    @contextmanager
    def closed(self, digests: Collection[str]) -> Iterator[None]:
        """Nobody passes with one of `digests` meanwhile."""
        with self._turn:
            self._set(frozenset(digests))
            try:
                yield
            finally:
                self._set(frozenset())

    def wait(self, digest: str) -> None:
        """Wait until `digest` is not being removed."""
        if digest in self._closed:
            with self._changed:
                self._changed.wait_for(lambda: digest not in self._closed)

    def _set(self, digests: frozenset[str]) -> None:
        with self._changed:
            self._closed = digests
            self._changed.notify_all()
