"""A file system that does not answer, and answers again when it is thawed."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class Frozen:
    """An ext4 of its own that can be frozen: who writes then waits until it is thawed, and nothing can end that."""

    def __init__(self, base: Path) -> None:
        self.place, image = base / "disk", base / "image"
        self.place.mkdir()
        with image.open("wb") as file:
            file.truncate(256 << 20)
        _run("mkfs.ext4", "-q", image)
        _run("mount", "-o", "loop", image, self.place)
        self.is_frozen = False

    def freeze(self) -> None:
        _run("fsfreeze", "--freeze", self.place)
        self.is_frozen = True

    def thaw(self) -> None:
        if self.is_frozen:
            _run("fsfreeze", "--unfreeze", self.place)
            self.is_frozen = False

    def close(self) -> None:
        self.thaw()
        _run("umount", "-l", self.place)


@contextlib.contextmanager
def frozen(base: Path) -> Iterator[Frozen]:
    """One in `base`, thawed and unmounted at the end; skips the test where none can be made."""
    try:
        made = Frozen(base)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no loop device here: {error.stderr.decode()[:200]}")
    with contextlib.closing(made):
        yield made


def _run(*argv: str | Path) -> None:
    subprocess.run([str(word) for word in argv], check=True, capture_output=True)
