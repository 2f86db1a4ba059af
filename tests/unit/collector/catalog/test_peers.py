"""What relays offered at their last check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.views import PeerView
from pyrsyncbackup_collector.transport.offer import Peer

from tests.support.still_clock import StillClock


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def catalog(tmp_path: Path, clock: StillClock) -> Iterator[Catalog]:
    Catalog.create(tmp_path / "c", "store-1").close()
    with Catalog.open(tmp_path / "c", "store-1", clock=clock) as catalog:
        yield catalog


def test_what_a_relay_offered_last_replaces_what_it_offered_before(catalog: Catalog, clock: StillClock) -> None:
    began = clock.time
    catalog.peers_seen("a", [Peer("db2", "Data", True, "", 0.25), Peer("db1", answers=False, reason="refused")], {})
    clock.time += 60
    catalog.peers_seen("b", [Peer("db1")], {"db1": "not proven", "other": "x"})
    assert catalog.peers() == [
        PeerView("a", "db1", "", False, "refused", 0.0, began, ""),
        PeerView("a", "db2", "Data", True, "", 0.25, began, ""),
        PeerView("b", "db1", "", True, "", 0.0, began + 60, "not proven"),
    ]
    catalog.peers_seen("a", [Peer("db3")], {})
    assert [(peer.relay, peer.name) for peer in catalog.peers()] == [("a", "db3"), ("b", "db1")]
    catalog.peers_seen("a", [], {})
    assert catalog.peers("a") == []
    assert [peer.name for peer in catalog.peers("b")] == ["db1"]


def test_a_long_reason_is_cut(catalog: Catalog) -> None:
    catalog.peers_seen("a", [Peer("db1")], {"db1": "x" * 1_000_000})
    (peer,) = catalog.peers()
    assert 0 < len(peer.refused) < 10_000
