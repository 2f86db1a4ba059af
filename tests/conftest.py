"""What holds for every test: nothing that it started is left when it has ended, and examples are the same each time.

`--hypothesis-profile=wide` looks at more examples, and at other ones each time.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.orphans import knowing
from tests.support.waiting import until

# How long an example takes says something of the machine alone.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("steady", _PATIENT, derandomize=True)
settings.register_profile("wide", _PATIENT, max_examples=2000)
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def _nothing_is_left_running(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail if a process that knows of the test's own directory outlives the test."""
    if "tmp_path" not in request.fixturenames:
        yield
        return
    folder = request.getfixturevalue("tmp_path")
    yield
    if left := knowing(folder):
        until(lambda: not knowing(folder), what=f"the end of {left}")
