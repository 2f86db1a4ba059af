"""The client of the first transfer, started while the listing still goes on.

Sandbox, rsync and bridge need some thirty milliseconds to start, a third of what a pull with one changed file takes.
"""

from __future__ import annotations

from pathlib import Path

from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.pull.rsync_command import Fetch, client
from pyrsyncbackup_collector.pull.rsync_process import START, Client
from pyrsyncbackup_collector.pull.sandbox import Limits, Sandbox
from pyrsyncbackup_collector.pull.task import Task


class Early:
    """At most one client, for files without holes or old versions; used by one thread at a time."""

    def __init__(self, task: Task, sandbox: Sandbox, incoming: Path, clock: Clock) -> None:
        directory = incoming / "early"
        self._fetch = Fetch(directory / "list", directory / "data", timeout=task.timeout)
        self._task = task
        self._sandbox = sandbox
        self._clock = clock
        self._began: float | None = None
        self._client: Client | None = None

    def start(self) -> None:
        """Start it; once. rsync opens its list of names now, and reads it when it is connected."""
        if self._began is not None:
            return
        self._began = self._clock.monotonic()
        directory = self._fetch.list_file.parent
        directory.mkdir(mode=0o700)
        self._fetch.destination.mkdir(mode=0o700)
        self._fetch.list_file.touch(mode=0o600)
        limits = Limits(self._task.max_file)
        self._client = Client(
            lambda fd: self._sandbox.wrap(client(self._fetch, fd, self._task.rsync), directory, limits)
        )

    def take(self) -> tuple[Fetch, Client] | None:
        """What was started, if it did not wait for so long that rsync's own timeout comes near."""
        started, self._client = self._client, None
        if started is None or self._began is None:
            return None
        if self._clock.monotonic() - self._began > START:
            started.close()
            return None
        return self._fetch, started

    def close(self) -> None:
        """End what nobody took."""
        if self._client is not None:
            self._client.close()
            self._client = None
