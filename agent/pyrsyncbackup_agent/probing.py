"""Which peers answer at this moment: a TCP connection to each, many at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from typing import Final

from pyrsyncbackup_agent.dial import dial
from pyrsyncbackup_agent.errors import PeerUnreachable
from pyrsyncbackup_agent.peers import Peer

PROBE_TIMEOUT: Final = 3.0
# A network of 254 dead peers takes four rounds of the timeout: 12 s.
MOST_THREADS: Final = 64
# What looking up names may add to that: no look-up can be interrupted.
LISTING_TIMEOUT: Final = 20.0


@dataclass(frozen=True)
class Answer:
    """Whether a peer's port took a connection, and after how many microseconds; if not, why in plain words."""

    peer: Peer
    reason: str = ""
    connect_us: int = 0

    @property
    def answers(self) -> bool:
        """Whether it did."""
        return not self.reason


def probe_all(peers: Iterable[Peer]) -> list[Answer]:
    """Try every peer, in their order; takes at most LISTING_TIMEOUT."""
    threads = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="probe")
    try:
        probes = {peer: threads.submit(probe, peer) for peer in peers}
        done, _ = wait_for(probes.values(), LISTING_TIMEOUT)
        late = f"does not answer within {LISTING_TIMEOUT:g} s"
        return [probed.result() if probed in done else Answer(peer, late) for peer, probed in probes.items()]
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def probe(peer: Peer) -> Answer:
    """Try one."""
    begun = time.perf_counter_ns()
    try:
        dial(peer.host, peer.port, PROBE_TIMEOUT).close()
    except PeerUnreachable as error:
        return Answer(peer, error.cause)
    return Answer(peer, connect_us=(time.perf_counter_ns() - begun) // 1000)
