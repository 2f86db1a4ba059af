"""Whether a module is on this host, why, and with which roots. A pure look at the host: nothing is kept."""

from __future__ import annotations

import glob
import os

from pyrsyncbackup_agent.modules import roots
from pyrsyncbackup_agent.modules.definition import Definition
from pyrsyncbackup_agent.modules.detected import DetectedModule, ModuleState, Root
from pyrsyncbackup_agent.modules.host import Host
from pyrsyncbackup_agent.modules.sources import Source
from pyrsyncbackup_agent.printable import printable

MAX_NOTES = 3  # in a reason, which is one line


def detect(source: Source, host: Host, trusted: frozenset[int]) -> DetectedModule:
    """The module that `source` defines, as it is now. `trusted` are the owners whose links are followed."""
    if source.fault:
        return _without_roots(source.name, source.name, ModuleState.INVALID, source.fault)
    definition = source.definition
    if definition is None:
        return _without_roots(source.name, source.name, ModuleState.ABSENT, f"masked by {source.file}")
    evidence = _evidence(definition, host)
    if not evidence:
        return _without_roots(source.name, definition.title, ModuleState.ABSENT, _missing(definition))
    found, notes = _find(definition, trusted)
    if not found and not definition.hooks.before:
        state = ModuleState.INVALID if notes else ModuleState.ABSENT
        reason = _noted("no path can be used", notes) if notes else f"{evidence}, but {_none_of(definition.paths)}"
        return _without_roots(source.name, definition.title, state, reason)
    return DetectedModule(
        name=source.name,
        title=definition.title,
        state=ModuleState.READY,
        reason=printable(_noted(evidence, notes)),
        roots=found,
        rules=definition.rules,
        hooks=definition.hooks,
        hints=definition.hints,
        validator=definition.validator,
        notes=tuple(map(printable, _few(notes))),
    )


def _without_roots(name: str, title: str, state: ModuleState, reason: str) -> DetectedModule:
    return DetectedModule(name=name, title=title, state=state, reason=printable(reason))


def _evidence(definition: Definition, host: Host) -> str:
    """What shows that the module is there; nothing if it is not."""
    wanted = definition.detect
    if wanted.by_paths_alone:
        return next((f"{path} exists" for path in definition.paths if glob_all(path)), "")
    for path in wanted.paths:
        if glob_all(path):
            return f"{path} exists"
    for command in wanted.commands:
        if host.has_command(command):
            return f"command {command} is installed"
    for unit in wanted.units:
        if host.has_unit(unit):
            return f"unit {unit} is installed"
    for package in wanted.packages:
        if host.has_package(package):
            return f"package {package} is installed"
    return ""


def _missing(definition: Definition) -> str:
    wanted = definition.detect
    if wanted.by_paths_alone:
        return _none_of(definition.paths)
    kinds = (("path", wanted.paths), ("command", wanted.commands), ("unit", wanted.units), ("package", wanted.packages))
    return "none found of: " + ", ".join(f"{kind} {' '.join(names)}" for kind, names in kinds if names)


def _none_of(paths: tuple[str, ...]) -> str:
    return f"{paths[0]} does not exist" if len(paths) == 1 else f"none of these exists: {' '.join(paths)}"


def _noted(text: str, notes: list[str]) -> str:
    return "; ".join([text, *_few(notes)])


def _few(notes: list[str]) -> list[str]:
    if len(notes) <= MAX_NOTES:
        return notes
    return [*notes[:MAX_NOTES], f"{len(notes) - MAX_NOTES} more paths are left out"]


def _find(definition: Definition, trusted: frozenset[int]) -> tuple[tuple[Root, ...], list[str]]:
    places: list[roots.Place] = []
    notes: list[str] = []
    for defined in definition.paths:
        for path in glob_all(defined):
            try:
                reached, note = roots.resolve(path, trusted)
            except FileNotFoundError:
                continue  # gone since the glob saw it
            except OSError as error:
                reached, note = [], f"{os.fsdecode(path)}: {error.strerror}"
            places += [place for place in reached if not _excluded(definition, place)]
            if note:
                notes.append(note)
    return roots.merge(places), notes


def _excluded(definition: Definition, place: roots.Place) -> bool:
    """A path that names a single entry is held against the rules here; a tree's entries are when it is walked."""
    return bool(place.name) and definition.rules.excluded(place.name, is_dir=False)


def glob_all(path: str) -> list[bytes]:
    """What the path, which may hold globs, stands for; links are not followed to see whether they lead somewhere."""
    raw = os.fsencode(path)
    if glob.has_magic(raw):
        return sorted(glob.glob(raw))
    return [raw] if os.path.lexists(raw) else []
