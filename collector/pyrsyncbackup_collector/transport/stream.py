"""The RPCs that run for one purpose: each waits for its answers within limits, and all of them end together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc

from pyrsyncbackup_collector.errors import BackupError, Cancelled, ConnectionLost
from pyrsyncbackup_collector.transport.rpc_errors import translate
from pyrsyncbackup_collector.transport.watchdog import Guard, Watchdog


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `*_idle`: longest silence of the agent in a stream; `*_total`: longest waiting for it in all."""

    call: float = 30
    check: float = 600
    open: float = 3600
    list_idle: float = 300
    list_total: float = 6 * 3600
    # A file of a terabyte is hashed in silence.
    hash_idle: float = 3600
    hash_total: float = 24 * 3600
    # Both rsyncs may be reading a large file before the next byte.
    transfer_idle: float = 3600
    transfer_total: float = 24 * 3600
    # Longest waiting in all streams of one session: with many windows, each within its limits, it would have no end.
    session: float = 7 * 24 * 3600


class Calls:
    """What runs for one purpose, such as an open module. `cancel` may come from any thread."""

    def __init__(self, host: str, timeouts: Timeouts, watchdog: Watchdog) -> None:
        self.host, self.timeouts, self.watchdog = host, timeouts, watchdog
        self.cancelled = self.closed = False
        # Seconds that all of its streams together may still wait for the agent.
        self.waiting_left = timeouts.session
        self.running: set[Stream] = set()

    def cancel(self) -> None:
        """End everything; whoever waits in it gets Cancelled."""
        self.cancelled = True
        for stream in list(self.running):
            stream.cancel()

    def close(self) -> None:
        """End what still runs, and what another thread begins just now."""
        self.closed = True
        for stream in list(self.running):
            stream.close()


class Stream:
    """One running RPC: waits for answers within limits and names what ended it."""

    def __init__(
        self, calls: Calls, start: Callable[[], Any], idle: float = 0, total: float = 0, *, open_: bool = False
    ) -> None:
        self._calls = calls
        try:
            self.call = start()
        except ValueError as error:
            raise ConnectionLost(f"{calls.host}: the connection to the agent was closed", "it is made anew") from error
        limit = calls.timeouts.open if open_ else idle
        self._allowed = min(limit if open_ else total, calls.waiting_left)
        self._guard: Guard = calls.watchdog.watch(limit, self._allowed, self.call.cancel)
        calls.running.add(self)
        if calls.cancelled or calls.closed:
            self.call.cancel()

    def next(self) -> Any | None:
        """The next answer; None at the end of the stream."""
        self._guard.waiting()
        try:
            return next(self.call)
        except StopIteration:
            return None
        except grpc.RpcError as error:
            raise self._meaning(error) from error
        finally:
            self._guard.heard()

    def _meaning(self, error: grpc.RpcError) -> BackupError:
        if self._calls.cancelled:
            return Cancelled(f"{self._calls.host}: stopped")
        if self._guard.why:
            return ConnectionLost(f"{self._calls.host}: {self._guard.why}", "look at the agent's log on the host")
        return translate(error, self._calls.host)

    def hurry(self, seconds: float) -> None:
        """Wait so much longer for the agent, no more."""
        self._calls.watchdog.hurry(self._guard, seconds)

    def cancel(self) -> None:
        """End it, from any thread."""
        self.call.cancel()

    def close(self) -> None:
        """End it and forget it."""
        self.call.cancel()
        if self in self._calls.running:
            self._calls.waiting_left -= self._guard.waited
        self._calls.watchdog.forget(self._guard)
        self._calls.running.discard(self)

    def __enter__(self) -> Self:
        """The stream itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        """End it."""
        self.close()
