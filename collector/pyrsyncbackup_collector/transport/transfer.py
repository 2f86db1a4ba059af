"""One rsync connection through an RPC: the client's sockets on this side, the agent's daemon on the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import AgentMisbehaved, Cancelled, ConnectionLost, TransferFailed
from pyrsyncbackup_collector.transport.offer import DaemonExit
from pyrsyncbackup_collector.transport.pump import LocalEnd, Pace
from pyrsyncbackup_collector.transport.stream import Calls, Stream

_MAX_MESSAGES = 8000
# Once our rsync has ended, the agent's has no reason to go on: what is on the way may still come, and its farewell.
_AFTER_CLIENT = 60.0
_MAX_UNWANTED = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Rpc:
    """The RPC that carries the bytes: what starts it with its requests, its first request, and what makes others."""

    start: Callable[[Iterator[Any]], Any]
    first: Any
    request: Callable[..., Any]


class Transfer:
    """One rsync connection. `received` and `sent` count its bytes while it runs, as the collector sees them."""

    def __init__(self, calls: Calls, rpc: Rpc, pace: Pace) -> None:
        self._calls = calls
        self._rpc = rpc
        self._pace = pace
        # What the agent said in its last message.
        self.last: Any = None
        self._local: LocalEnd | None = None
        self._started = threading.Event()
        self._stream: Stream | None = None
        self._cancelled = False

    @property
    def received(self) -> int:
        """Bytes that came from the agent and were taken by the rsync client."""
        return self._local.received if self._local else 0

    @property
    def sent(self) -> int:
        """Bytes that the rsync client sent."""
        return self._local.sent if self._local else 0

    def run(
        self,
        ends: Callable[[], tuple[int, int] | None],
        on_data: Callable[[int], None] | None = None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> DaemonExit | None:
        """Pump between the rsync client's two stream sockets and the agent's daemon until both ends are done.

        The agent starts its daemon while `ends` waits for the client to start; it returns the client's descriptors
        (from it, to it; may be the same), owned and closed here, or None, as this does then. `on_data` is told the size
        of each piece that comes from the agent; what it raises ends the transfer. `on_failure` is called when it breaks
        off, before the client's ends are closed. The caller's copies of them must be closed, or no end of file is ever
        seen.
        """
        timeouts = self._calls.timeouts
        try:
            with Stream(
                self._calls,
                lambda: self._rpc.start(self._requests()),
                timeouts.transfer_idle,
                timeouts.transfer_total,
            ) as stream:
                self._stream = stream
                if self._cancelled:
                    stream.cancel()
                found = ends()
                if found is None:
                    return None
                local = self._local = LocalEnd(*found)
                self._started.set()
                end = self._receive(stream, local, on_data)
                local.finish()
                return end
        except BaseException:
            on_failure()
            raise
        finally:
            self._pace.stop()
            self._started.set()
            if self._local is not None:
                self._local.close()

    def _requests(self) -> Iterator[Any]:
        yield self._rpc.first
        self._started.wait()
        if self._local is None:
            return
        for data in self._local.chunks():
            yield self._rpc.request(data=data)
        if self._stream is not None:
            self._stream.hurry(_AFTER_CLIENT)

    def _receive(self, stream: Stream, local: LocalEnd, on_data: Callable[[int], None] | None) -> DaemonExit:
        end: DaemonExit | None = None
        unwanted = 0
        try:
            while (message := stream.next()) is not None:
                if end is not None:
                    raise AgentMisbehaved(f"{self._calls.host}: the agent goes on after the end of its rsync")
                if message.data:
                    self._pace.take(len(message.data))
                    if on_data is not None:
                        on_data(len(message.data))
                    if unwanted or not local.write(message.data):
                        unwanted += len(message.data)
                        stream.hurry(_AFTER_CLIENT)
                    if unwanted > _MAX_UNWANTED:
                        raise TransferFailed(f"{self._calls.host}: the rsync client ended in the middle")
                if message.HasField("exit"):
                    self.last = message
                    end = DaemonExit(message.exit.code, _lines(message.exit.messages))
        except ConnectionLost as error:
            if self._cancelled:
                raise Cancelled(f"{self._calls.host}: stopped") from error
            raise
        if end is None:
            raise AgentMisbehaved(f"{self._calls.host}: the agent did not say how its rsync ended")
        return end

    def cancel(self) -> None:
        """End it from any thread; `run` raises Cancelled."""
        self._cancelled = True
        self._pace.stop()
        if self._stream is not None:
            self._stream.cancel()
        if self._local is not None:
            self._local.wake()


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text[-_MAX_MESSAGES:].splitlines())
