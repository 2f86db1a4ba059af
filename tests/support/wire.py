"""Everything that passes an interface of a node, packet by packet, to look for what must not be there."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.network import Node

_ALL_PROTOCOLS = 0x0003
_SO_RCVBUFFORCE = 33
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_ETHERNET, _IPV4, _TCP, _SYN = 14, 0x0800, 6, 0x02
# The types of a TLS record.
CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = range(20, 24)


@dataclass(frozen=True)
class Segment:
    """What one packet adds to one direction of a TCP connection."""

    source: tuple[str, int]
    target: tuple[str, int]
    number: int
    syn: bool
    data: bytes


class Recording:
    """What was seen so far; whole only after the end of `record`'s block, which fails if a packet was missed."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []

    @property
    def size(self) -> int:
        """Bytes, headers included."""
        return sum(map(len, self.packets))

    def shows(self, text: bytes) -> bool:
        """Whether `text` stands in one packet. What is split over two is not found: look for what comes often."""
        return any(text in packet for packet in self.packets)

    def streams(self, port: int) -> list[bytes]:
        """All bytes to and from a TCP port, each direction of each connection that began while it was recorded."""
        begin: dict[object, int] = {}
        pieces: dict[object, dict[int, bytes]] = defaultdict(dict)
        for segment in filter(None, map(_segment, self.packets)):
            key = (segment.source, segment.target)
            if segment.syn:
                begin[key] = segment.number + 1
            elif segment.data and key in begin and port in (segment.source[1], segment.target[1]):
                offset = (segment.number - begin[key]) % (1 << 32)
                pieces[key][offset] = max(segment.data, pieces[key].get(offset, b""), key=len)
        return [_joined(parts) for parts in pieces.values()]


def tls_records(stream: bytes) -> list[tuple[int, int]]:
    """Type and length of each TLS record; fails if there is a byte that belongs to none."""
    records, position = [], 0
    while position < len(stream):
        kind, version, length = struct.unpack_from(">BHH", stream.ljust(position + 5, b"\0"), position)
        assert CHANGE_CIPHER_SPEC <= kind <= APPLICATION_DATA, f"no TLS record at byte {position}: type {kind}"
        assert version in (0x0301, 0x0303), f"no TLS record at byte {position}: version {version:#x}"
        records.append((kind, length))
        position += 5 + length
    return records


@contextlib.contextmanager
def record(node: Node, interface: str) -> Iterator[Recording]:
    """Record an interface until the end of the block, both directions; a neighbour's name stands for the way to it."""
    recording = Recording()
    with node.inside():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
    with tap:
        tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 256 << 20)
        tap.bind((node.interfaces.get(interface, interface), _ALL_PROTOCOLS))
        tap.settimeout(0.1)
        ended = threading.Event()
        reader = threading.Thread(target=_read, args=(tap, recording, ended))
        reader.start()
        try:
            yield recording
        finally:
            ended.set()
            reader.join()
        _seen, missed = struct.unpack("II", tap.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        assert missed == 0, f"{missed} packets were not recorded"


def _read(tap: socket.socket, recording: Recording, ended: threading.Event) -> None:
    """Until nothing more comes after the end."""
    while True:
        try:
            recording.packets.append(tap.recv(1 << 17))
        except TimeoutError:
            if ended.is_set():
                return


def _segment(packet: bytes) -> Segment | None:
    if len(packet) < _ETHERNET + 40 or int.from_bytes(packet[12:14], "big") != _IPV4:
        return None
    internet = packet[_ETHERNET:]
    if internet[9] != _TCP:
        return None
    tcp = internet[(internet[0] & 15) * 4 : int.from_bytes(internet[2:4], "big")]
    ports = struct.unpack_from(">HH", tcp)
    ends = [(socket.inet_ntoa(internet[at : at + 4]), port) for at, port in zip((12, 16), ports, strict=True)]
    number = int.from_bytes(tcp[4:8], "big")
    return Segment(ends[0], ends[1], number, bool(tcp[13] & _SYN), tcp[(tcp[12] >> 4) * 4 :])


def _joined(pieces: dict[int, bytes]) -> bytes:
    """The parts at their offsets; what was sent again overlaps."""
    stream = bytearray()
    for offset, data in sorted(pieces.items()):
        assert offset <= len(stream), f"bytes {len(stream)} to {offset} were not recorded"
        stream += data[len(stream) - offset :]
    return bytes(stream)
