"""All figures: `python -m tests.bench [CASE...]`, where the cases are those of `pulls` and `routes`."""

from __future__ import annotations

import sys

from tests.bench import pulls, routes

unknown = set(sys.argv[1:]) - {*pulls.CASES, *routes.CASES}
if unknown:
    sys.exit(f"no case is called {' or '.join(sorted(unknown))}: there are {', '.join([*pulls.CASES, *routes.CASES])}")
for part in (pulls, routes):
    part.main([name for name in part.CASES if name in sys.argv[1:] or not sys.argv[1:]])
