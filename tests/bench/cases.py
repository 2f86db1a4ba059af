"""Running cases, each in a directory of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path


def run_cases(cases: Mapping[str, Callable[[Path], None]], names: Iterable[str]) -> None:
    """Run the cases of these names. What they write lies below BENCH_DIR, by default /var/tmp: on a real disk."""
    for name in names:
        with tempfile.TemporaryDirectory(prefix="b-", dir=os.environ.get("BENCH_DIR", "/var/tmp")) as directory:
            cases[name](Path(directory))
