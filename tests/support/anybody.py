"""Directories of tests that a user other than root can get to: pytest's own are private."""

from __future__ import annotations

import os
from pathlib import Path


def let_through(directory: Path) -> None:
    """Let every user pass to `directory`, and read it; not write: what others may write to is trusted by nobody."""
    for path in (directory, *directory.parents):
        status = path.stat()
        if status.st_uid == os.geteuid() and str(path).startswith("/tmp/"):
            path.chmod(status.st_mode & 0o7777 | 0o055)


def open_directory(directory: Path) -> Path:
    """Make `directory`, which every user may write to; the way there lets everybody through."""
    directory.mkdir()
    let_through(directory)
    directory.chmod(0o777)
    return directory
