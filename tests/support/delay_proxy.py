"""A TCP proxy that stands for a long way: every byte takes a fixed time each way, whatever their number.

Setting a connection up takes the time that it would take there: what the client says is on its way after one round
trip, and the server hears of the client with the last packet of the handshake. The proxy is a process of its own, in a
node's namespace if one is given. `Delay.connections` and `Delay.turns` tell what went through.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# What may be on the way in one direction: enough for a gigabit over several seconds.
_WINDOW = 256 << 20
_PIECE = 256 << 10


@dataclass(frozen=True)
class Seen:
    """One piece that a proxy got: which connection, from which side, how many bytes, when (monotonic)."""

    connection: int
    side: str
    size: int
    time: float


class Delay:
    """A running proxy; `address` is where it listens."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, log: Path) -> None:
        self.process, self.address, self._log = process, address, log

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.rpartition(":")[2])

    def seen(self) -> list[Seen]:
        """All pieces so far, in their order."""
        lines = self._log.read_text().splitlines(keepends=True)
        return [Seen(**json.loads(line)) for line in lines if line.endswith("\n")]

    @property
    def connections(self) -> int:
        """How many were made through it so far."""
        return len({piece.connection for piece in self.seen()})


def turns(pieces: list[Seen], smallest: int = 0) -> int:
    """How often the client spoke after it had heard something: its round trips, one after the other.

    Pieces of fewer than `smallest` bytes are left out: acknowledgements of a protocol, for which nobody waits.
    """
    sides = [piece.side for piece in pieces if piece.size >= smallest]
    return sum(side == "client" and before == "server" for before, side in zip(["server", *sides], sides, strict=False))


@contextlib.contextmanager
def delay_proxy(
    log: Path, listen: str, target: str, one_way_seconds: float, prefix: tuple[str, ...] = ()
) -> Iterator[Delay]:
    """Run a proxy from `listen` to `target` (both ADDRESS:PORT; port 0 is a free one). `prefix` of a node: there.

    `log` is a new file for what it sees.
    """
    argv = [*prefix, sys.executable, __file__, str(log), listen, target, str(one_way_seconds)]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        try:
            address = process.stdout.readline().decode().strip()
            assert address, "the proxy did not start"
            yield Delay(process, address, log)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


class _Proxy:
    def __init__(self, log: Path, target: str, delay: float) -> None:
        self._host, _, port = target.rpartition(":")
        self._port, self._delay = int(port), delay
        self._log = log.open("w", buffering=1)
        self._loop = asyncio.get_running_loop()
        self._count = 0

    async def connection(self, client: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        self._count += 1
        number, accepted = self._count, self._loop.time()
        pieces = self._reading(client, number, "client", accepted + 2 * self._delay)
        await asyncio.sleep(3 * self._delay)
        try:
            server, server_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            client_writer.transport.abort()
            return
        back = self._reading(server, number, "server", 0)
        await asyncio.gather(self._write(pieces, server_writer), self._write(back, client_writer))
        for writer in (client_writer, server_writer):
            writer.close()

    def _reading(
        self, reader: asyncio.StreamReader, number: int, side: str, not_before: float
    ) -> asyncio.Queue[tuple[float, bytes]]:
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_WINDOW // _PIECE)
        task = self._loop.create_task(self._read(reader, pieces, number, side, not_before))
        pieces.reader = task  # type: ignore[attr-defined] # a task that nobody holds may be collected
        return pieces

    async def _read(
        self,
        reader: asyncio.StreamReader,
        pieces: asyncio.Queue[tuple[float, bytes]],
        number: int,
        side: str,
        not_before: float,
    ) -> None:
        data = b"-"
        while data:
            try:
                data = await reader.read(_PIECE)
            except OSError:
                data = b""
            now = self._loop.time()
            if data:
                piece = Seen(number, side, len(data), now)
                self._log.write(json.dumps(piece.__dict__) + "\n")
            await pieces.put((max(now, not_before) + self._delay, data))

    async def _write(self, pieces: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = await pieces.get()
                if (left := due - self._loop.time()) > 0:
                    await asyncio.sleep(left)
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        # A half that is closed is passed on as that; both are, when both are at their end.
        with contextlib.suppress(OSError):
            writer.write_eof()


async def _serve(log: str, listen: str, target: str, delay: str) -> None:
    host, _, port = listen.rpartition(":")
    proxy = _Proxy(Path(log), target, float(delay))
    server = await asyncio.start_server(proxy.connection, host, int(port), limit=_PIECE)
    host, port = server.sockets[0].getsockname()[:2]
    print(f"{host}:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    asyncio.run(_serve(*sys.argv[1:]))
