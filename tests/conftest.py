"""What holds for every test: nothing that it started is left when it has ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.orphans import knowing
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _nothing_is_left_running(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail if a process that knows of the test's own directory outlives the test."""
    if "tmp_path" not in request.fixturenames:
        yield
        return
    folder = request.getfixturevalue("tmp_path")
    yield
    if left := knowing(folder):
        until(lambda: not knowing(folder), timeout=5, what=f"the end of {left}")
