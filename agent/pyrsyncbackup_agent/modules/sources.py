"""Which definition file counts for each name: the package's catalogue, then the directories, a later one wins.

An empty file (or a link to /dev/null, as with systemd's units) masks the module. A file that somebody else than the
trusted users could change is not read: it would tell a privileged reader what to read and which commands to run.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pyrsyncbackup import valid_name

from pyrsyncbackup_agent.modules import definition
from pyrsyncbackup_agent.modules.definition import Definition

CATALOGUE = Path(__file__).parent.parent / "catalogue"
SUFFIX = ".toml"
MAX_SIZE = 1 << 20  # bytes; a definition has a few hundred


@dataclass(frozen=True)
class Source:
    """The file that counts for a name: a definition, or nothing and `fault`; neither: it masks the module."""

    name: str
    file: Path
    definition: Definition | None = None
    fault: str = ""


@dataclass(frozen=True)
class Sources:
    """All names, and what is wrong with files and directories that define none."""

    by_name: dict[str, Source]
    problems: tuple[str, ...]


def read(directories: Iterable[Path], trusted: frozenset[int], catalogue: Path | None = CATALOGUE) -> Sources:
    """Read the catalogue, then each directory; a missing directory is an empty one. `trusted` are user ids."""
    found: dict[str, Source] = {}
    problems: list[str] = []
    for directory in (catalogue, *directories):
        if directory is None:
            continue
        # The catalogue is as trustworthy as the code beside it.
        fault = "" if directory is catalogue else _directory_fault(directory, trusted)
        for file in _files(directory, problems):
            if not valid_name(file.stem):
                problems.append(f"{file}: `{file.stem}` is no module name: lower-case letters, digits, dots, dashes")
            elif fault:
                found[file.stem] = Source(file.stem, file, fault=f"{file}: {fault}")
            else:
                found[file.stem] = _read_one(file, None if directory is catalogue else trusted)
    return Sources(dict(sorted(found.items())), tuple(problems))


def signature(directories: Iterable[Path]) -> tuple[object, ...]:
    """A value that changes when a definition file is added, changed, replaced or removed."""
    marks: list[object] = []
    for directory in directories:
        try:
            with os.scandir(directory) as entries:
                named = sorted((entry.name, _mark(entry.stat(follow_symlinks=False))) for entry in entries)
            marks.append((_mark(directory.stat()), tuple(named)))
        except OSError as error:
            marks.append(error.errno)
    return tuple(marks)


def _mark(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size


def _files(directory: Path, problems: list[str]) -> Iterator[Path]:
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


def _directory_fault(directory: Path, trusted: frozenset[int]) -> str:
    try:
        status = directory.stat()
    except OSError:
        return ""
    return _fault(status, trusted, f"its directory {directory}")


def _fault(status: os.stat_result, trusted: frozenset[int], what: str) -> str:
    if status.st_uid not in trusted:
        return f"{what} belongs to user {status.st_uid}, not to root or the agent"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{what} can be written by others (mode {stat.S_IMODE(status.st_mode):o})"
    return ""


def _read_one(file: Path, trusted: frozenset[int] | None) -> Source:
    name = file.stem
    try:
        if trusted is not None and file.is_symlink():
            if file.readlink() == Path("/dev/null"):
                return Source(name, file)
            return Source(name, file, fault=f"{file}: is a symbolic link")
        content = _content(file, trusted)
        return Source(name, file, definition=definition.parse(name, content))
    except OSError as error:
        return Source(name, file, fault=f"{file}: {error.strerror}")
    except ValueError as error:
        return Source(name, file, fault=f"{file}: {error}")


def _content(file: Path, trusted: frozenset[int] | None) -> bytes:
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
