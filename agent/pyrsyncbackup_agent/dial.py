"""TCP connections to peers, made within a time; why there is none in plain words."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from typing import Final

from pyrsyncbackup_agent.errors import PeerUnreachable

_WORDS: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection reset",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "no route to its network",
    errno.ETIMEDOUT: "it does not answer any more",
}


def dial(
    host: str, port: int, timeout: float, begins: Callable[[socket.socket], None] = lambda _: None
) -> socket.socket:
    """Connect to the first address of `host` that answers; PeerUnreachable says why there is none.

    `timeout` in seconds holds for all addresses together, not for looking up the name, which nothing can interrupt.
    `begins` gets the socket of each attempt: who shuts it down ends the attempt. It may raise OSError itself.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise PeerUnreachable(f"the name {host} cannot be resolved") from None
    deadline = time.monotonic() + timeout
    failure: OSError = TimeoutError()
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        attempt = None
        try:
            attempt = socket.socket(family, kind, protocol)
            begins(attempt)
            # One that swallows everything leaves time for the next.
            attempt.settimeout(max(0.05, (deadline - time.monotonic()) / (len(addresses) - number)))
            attempt.connect(address)
        except OSError as error:
            failure = error
            if attempt is not None:
                attempt.close()
        else:
            attempt.settimeout(None)
            return attempt
    if isinstance(failure, TimeoutError):
        raise PeerUnreachable(f"does not answer within {timeout:g} s")
    raise PeerUnreachable(words(failure))


def words(error: OSError) -> str:
    """What happened to a connection."""
    number = error.errno or 0
    return _WORDS.get(number) or (os.strerror(number).lower() if number else str(error))
