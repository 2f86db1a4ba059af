"""How kinds of differences are shown."""

from __future__ import annotations

from typing import Final

from pyrsyncbackup_collector.cli import screen

MARKS: Final = {
    "added": ("+", screen.GOOD),
    "removed": ("-", screen.BAD),
    "type": ("!", screen.DOUBT),
    "content": ("M", screen.DOUBT),
    "metadata": ("m", screen.QUIET),
}
WORDS: Final = {
    "added": "added",
    "removed": "removed",
    "content": "changed",
    "metadata": "with other metadata",
    "type": "of another type",
}
