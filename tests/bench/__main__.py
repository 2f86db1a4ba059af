"""All figures: `python -m tests.bench [CASE...]`, where the cases are those of `PARTS`."""

from __future__ import annotations

import sys

from tests.bench import (
    finding,
    garbage,
    large,
    pulls,
    rebuild,
    restic,
    restores,
    routes,
    starting,
    verifying,
)

PARTS = (
    finding,
    garbage,
    large,
    pulls,
    rebuild,
    restores,
    restic,
    routes,
    starting,
    verifying,
)

known = [name for part in PARTS for name in part.CASES]
if unknown := set(sys.argv[1:]) - {*known}:
    sys.exit(f"no case is called {' or '.join(sorted(unknown))}: there are {', '.join(known)}")
for part in PARTS:
    part.main([name for name in part.CASES if name in sys.argv[1:] or not sys.argv[1:]])
