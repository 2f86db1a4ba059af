"""What a place for a copy must be able to do. `directory`, `ssh` and `s3` can, and pass one contract suite.

Names are relative, with "/" between parts; what they mean is decided by `form`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from pyrsyncbackup_collector.copies.proven import NO_SUMS, Sums


class Listed(NamedTuple):
    """A file of the copy; `size` in bytes."""

    name: str
    size: int


class Target(Protocol):
    """Files at another place, each there whole or not at all. One thread uses it at a time; `close` ends it.

    Every method raises a CopyError and nothing else for what is wrong with the place; failures that can pass are tried
    again within limits before. What `put` and `replace` return from survives a power loss, as far as the place can
    promise that. All but `put` of the same names may be repeated.
    """

    @property
    def where(self) -> str:
        """As a person would name the place."""
        ...

    def read(self, name: str) -> bytes | None:
        """A small file; None if it is not there."""
        ...

    def sizes(self, names: Sequence[str]) -> dict[str, int]:
        """Which of these are there, with their sizes in bytes."""
        ...

    def walk(self, prefix: str) -> Iterator[Listed]:
        """All files below the directory `prefix` ("" for all), in no order; leftovers of unfinished work are none."""
        ...

    def put(self, root: Path, names: Sequence[str], sums: Sums = NO_SUMS) -> None:
        """Create each name from the file root/name; one that is there is left as it is.

        What was read here with another digest than `sums` says becomes no file there: StoreDamaged. Where a program of
        its own reads the files (rsync), that is not looked at.
        """
        ...

    def replace(self, root: Path, names: Sequence[str], sums: Sums = NO_SUMS) -> None:
        """Like `put`, but in the place of what is there."""
        ...

    def fetch(self, root: Path, names: Sequence[str]) -> None:
        """Write each file that is there to root/name, whose directories are made; one that is not there is left out."""
        ...

    def delete(self, names: Sequence[str]) -> None:
        """Remove each; one that is not there is no failure."""
        ...

    def close(self) -> None:
        """End it."""
        ...
