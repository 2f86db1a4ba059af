"""What OpenSSH's client says on its stderr, line by line: the last lines, and which connections were not forwarded.

Much of it comes from the server, which may say anything: lines are cut, counted and made printable, and nothing but the
words of an error depends on them.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from pyrsyncbackup_collector.entry import printable

# Lines that are kept, and bytes of one of them.
TAIL_LINES = 25
LINE_BYTES = 500
_MAX_OFFERED = 5
_DEBUG = "debug1: "
_REQUESTED = re.compile(r"debug1: Connection to port \S+ forwarding to (\S+) port (\d+) requested")
_OPENED = re.compile(r"debug1: channel (\d+): new .*direct-tcpip")
_FREED = re.compile(r"debug1: channel (\d+): free: ")
_REFUSED = re.compile(r"channel (\d+): open failed: ([^:]*)(?:: (.*))?")
_OFFERED = re.compile(r"debug1: Offering public key: (.*) \S+ SHA256:\S+")
_ACCEPTED = re.compile(r"debug1: Server accepts key: (.*) \S+ SHA256:\S+")
# The client shows no more of an address than this.
_ADDRESS = 100

Target = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the server opened no connection: the protocol's reason, and its own words."""

    forbidden: bool
    words: str


@dataclass(frozen=True, slots=True)
class Said:
    """The last lines, without the client's remarks on what it does, and what is known from those.

    `offered` are the keys that it tried, `accepted` the one that the server would take; `partial`: it took one, and
    wants more than that.
    """

    lines: tuple[str, ...] = ()
    offered: tuple[str, ...] = ()
    accepted: str = ""
    partial: bool = False


class Messages:
    """Takes stderr as it comes. Not thread-safe."""

    def __init__(self) -> None:
        self._offered: tuple[str, ...] = ()
        self._accepted = ""
        self._partial = False
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._rest = b""
        self._cut = False
        self._next: Target | None = None
        self._channels: dict[str, Target] = {}
        self._refusals: dict[Target, Refusal] = {}

    @property
    def said(self) -> Said:
        """What was said so far."""
        return Said(tuple(self._tail), self._offered, self._accepted, self._partial)

    def feed(self, data: bytes) -> None:
        """More of it."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            if not self._cut:
                self._line(line[:LINE_BYTES])
            self._cut = False
        if len(self._rest) > LINE_BYTES:  # what follows of a long line is dropped
            if not self._cut:
                self._line(self._rest[:LINE_BYTES])
            self._rest, self._cut = b"", True

    def finish(self) -> None:
        """Nothing more will come."""
        if self._rest and not self._cut:
            self._line(self._rest)
        self._rest = b""

    def logged_in(self) -> None:
        """What was said before may be the server's own text; it does not count as the client's any more."""
        self._tail.clear()
        self._channels.clear()
        self._refusals.clear()

    def refusal(self, address: str, port: int) -> Refusal | None:
        """Why the last connection to there failed, if it did."""
        return self._refusals.get((address[:_ADDRESS], port))

    def _line(self, raw: bytes) -> None:
        line = printable(raw.strip(b"\r \t"))
        if found := _REFUSED.match(line):
            target = self._channels.pop(found[1], None)
            if target is not None:
                forbidden = found[2] == "administratively prohibited"
                self._refusals[target] = Refusal(forbidden, found[3] or found[2])
        elif line.startswith(_DEBUG):
            self._remark(line)
            return
        elif line.startswith("Authenticated ") and line.endswith(" with partial success."):
            self._partial = True
        if line:
            self._tail.append(line)

    def _remark(self, line: str) -> None:
        if found := _REQUESTED.match(line):
            self._next = (found[1], int(found[2]))
        elif (found := _OPENED.match(line)) and self._next:
            self._channels[found[1]] = self._next
            self._refusals.pop(self._next, None)
            self._next = None
        elif found := _FREED.match(line):
            self._channels.pop(found[1], None)
        elif (found := _OFFERED.match(line)) and len(self._offered) < _MAX_OFFERED:
            self._offered += (found[1],)
        elif found := _ACCEPTED.match(line):
            self._accepted = found[1]
