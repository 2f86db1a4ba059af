"""Which definition file counts for each name: the package's catalogue, then the directories, a later one wins.

An empty file (or a link to /dev/null, as with systemd's units) masks the module. Which files may be read at all is the
business of `drop_ins`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pyrsyncbackup import valid_name

from pyrsyncbackup_agent import drop_ins
from pyrsyncbackup_agent.modules import definition
from pyrsyncbackup_agent.modules.definition import Definition

CATALOGUE = Path(__file__).parent.parent / "catalogue"


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
        fault = "" if directory is catalogue else drop_ins.directory_fault(directory, trusted)
        for file in drop_ins.files(directory, problems):
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


def _read_one(file: Path, trusted: frozenset[int] | None) -> Source:
    name = file.stem
    try:
        return Source(name, file, definition=definition.parse(name, drop_ins.content(file, trusted)))
    except OSError as error:
        return Source(name, file, fault=f"{file}: {error.strerror}")
    except ValueError as error:
        return Source(name, file, fault=f"{file}: {error}")
