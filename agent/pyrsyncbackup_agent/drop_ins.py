"""Directories of small TOML files that tell a privileged reader what to do, such as modules.d and peers.d.

A file that somebody else than the trusted users could change is not read: it would decide what is read, which commands
run, and where connections go.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".toml"
MAX_SIZE = 1 << 20  # bytes; a file has a few hundred


def files(directory: Path, problems: list[str]) -> Iterator[Path]:
    """The files in the order of names; none if there is no such directory."""
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return
    except OSError as error:
        problems.append(f"{directory}: {error.strerror}")
        return
    for name in names:
        if name.endswith(SUFFIX) and not name.startswith("."):
            yield directory / name


def directory_fault(directory: Path, trusted: frozenset[int]) -> str:
    """Why no file in `directory` may be read; empty if they may. `trusted` are user ids."""
    try:
        status = directory.stat()
    except OSError:
        return ""
    return _fault(status, trusted, f"its directory {directory}")


def content(file: Path, trusted: frozenset[int] | None) -> bytes:
    """Read it; a link to /dev/null is an empty file. ValueError or OSError if it must not or cannot be read.

    Without `trusted` whoever may change the file is trusted.
    """
    if trusted is not None and file.is_symlink():
        if file.readlink() == Path("/dev/null"):
            return b""
        raise ValueError("is a symbolic link")
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if trusted is None else os.O_NOFOLLOW)
    with open(os.open(file, flags), "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a regular file")
        if trusted is not None and (fault := _fault(status, trusted, "the file")):
            raise ValueError(fault)
        if status.st_size > MAX_SIZE:
            raise ValueError(f"is larger than {MAX_SIZE} bytes")
        return stream.read(MAX_SIZE)


def _fault(status: os.stat_result, trusted: frozenset[int], what: str) -> str:
    if status.st_uid not in trusted:
        return f"{what} belongs to user {status.st_uid}, not to root or the agent"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{what} can be written by others (mode {stat.S_IMODE(status.st_mode):o})"
    return ""
