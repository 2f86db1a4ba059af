"""An empty catalog with a clock that stands still, and a store with its catalog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.catalog import Catalog

from tests.support.estate import Estate
from tests.support.still_clock import StillClock


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def catalog(tmp_path: Path, clock: StillClock) -> Iterator[Catalog]:
    with Catalog.create(tmp_path / "catalog.sqlite", "store-1", clock=clock) as made:
        yield made


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    made = Estate(tmp_path)
    yield made
    made.close()
