"""Looking through a copy for what it should hold and does not: by names and sizes, not by contents.

What is missing is brought again by the round that looks, if the source still has it; otherwise it is lost, and said.
Contents are proven by `verify`, which reads them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from pyrsyncbackup_collector.copies import form, refs
from pyrsyncbackup_collector.copies.bring import Bringer
from pyrsyncbackup_collector.copies.form import Held, ModuleState, State
from pyrsyncbackup_collector.copies.report import Round
from pyrsyncbackup_collector.copies.seal import Seal, Sealed
from pyrsyncbackup_collector.copies.target import Target
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.store import Store


def check(store: Store, target: Target, seal: Seal, bringer: Bringer, stage: Path, state: State, report: Round) -> None:
    """Take out of `state` what is not whole in the copy, and take in what is and is not named there."""
    _bring_names(target, seal, stage, report)
    files = {item.name: item.size for item in target.walk(layout.MANIFESTS)}
    lists = [item.name for item in target.walk(form.REFS)]
    objects = _objects(store, target, seal, bringer, report)
    state.size = sum(objects.values())
    _take_in(target, seal, stage, state, files, lists)
    mend = partial(_mended, store, seal, bringer, report)
    missing = _incomplete(target, seal, stage, state, objects, mend)
    for key, module in state.modules.items():
        host, name = _apart(key)
        if module.log and seal.file(form.module_file(host, name, layout.LOG)) not in files:
            module.log = 0
        source = {one.sequence for one in store.recorded(host, name)}
        for held in list(module.held):
            why = missing.get((key, held.name)) or _no_manifest(seal, host, name, held, files)
            if not why:
                continue
            module.held.remove(held)
            if held.sequence not in source:
                report.lost.append((f"{key}@{held.name}", f"{why}, and the source does not have it any more"))


def _bring_names(target: Target, seal: Seal, stage: Path, report: Round) -> None:
    """The key that names the objects of an encrypted copy, where it is gone: without it none can be found there."""
    if isinstance(seal, Sealed) and not target.sizes([form.NAMES]).get(form.NAMES):
        (stage / form.NAMES).write_bytes(seal.names())
        target.replace(stage, [form.NAMES])
        (stage / form.NAMES).unlink()
        report.repaired += 1


def _objects(store: Store, target: Target, seal: Seal, bringer: Bringer, report: Round) -> dict[str, int]:
    """The objects that are there with their sizes; a damaged one is removed, and counts as missing."""
    found = {}
    for item in target.walk(layout.OBJECTS):
        digest = item.name.removeprefix(f"{layout.OBJECTS}/").replace("/", "")
        if not seal.kind and store.objects.place(digest).exists():
            if bringer.mends(digest, item.name, item.size, report):
                continue
        elif not item.size:
            continue
        found[item.name] = item.size
    return found


def _take_in(target: Target, seal: Seal, stage: Path, state: State, files: Mapping[str, int], lists: list[str]) -> None:
    """Snapshots whose manifest and list are there, and which the state does not know: it was lost, or never written."""
    unknown = []
    for name in lists:
        parsed = form.parse_refs_name(name)
        if parsed is None:
            continue
        host, module, stem = parsed
        known = state.modules.get(f"{host}/{module}", ModuleState())
        if not known.holds(stem) and stem not in known.hidden and stem not in {one.name for one in known.going}:
            unknown.append(name)
    for name, found in refs.read(target, seal, stage, unknown):
        parsed = form.parse_refs_name(name)
        if found and parsed and not _no_manifest(seal, parsed[0], parsed[1], found.held, files):
            state.of(parsed[0], parsed[1]).add(found.held)


def _incomplete(
    target: Target,
    seal: Seal,
    stage: Path,
    state: State,
    objects: Mapping[str, int],
    mend: Callable[[set[str]], set[str]],
) -> dict[tuple[str, str], str]:
    """Snapshots that lack an object, by module and stem, and which one; `mend` brings what can be, by name."""
    names = {
        form.refs_name(*_apart(key), held.name): (key, held.name)
        for key, module in state.modules.items()
        for held in module.held + module.going
    }
    missing: dict[tuple[str, str], str] = {}
    bases: dict[tuple[str, str], str] = {}
    lacking: dict[tuple[str, str], set[str]] = {}
    for name, found in refs.read(target, seal, stage, list(names)):
        key, stem = names[name]
        if found is None:
            missing[key, stem] = "its list of objects is missing in the copy"
            continue
        bases[key, stem] = found.base
        gone = {raw.hex() for raw in found.names() if seal.file(form.object_file(raw.hex())) not in objects}
        if gone:
            lacking[key, stem] = gone
    left = mend(set().union(*lacking.values())) if lacking else set()
    for place, gone in lacking.items():
        if first := min(gone & left, default=""):
            missing[place] = f"object {first} is missing in the copy"
    for (key, stem), base in bases.items():
        if base and (why := missing.get((key, base))):
            missing.setdefault((key, stem), why)
    return missing


def _mended(store: Store, seal: Seal, bringer: Bringer, report: Round, names: set[str]) -> set[str]:
    """Bring objects by their names in the copy, whichever snapshots of the source need them; those it cannot have."""
    digests = set(_digests(store, seal, names)) if seal.kind else names
    rotten = bringer.bring(sorted(digests), report)
    return names - {seal.object_name(digest) for digest in digests if digest not in rotten}


def _digests(store: Store, seal: Seal, names: set[str]) -> Iterator[str]:
    """Which objects of the source have these keyed names."""
    for shard in range(256):
        for digest in store.objects.present(f"{shard:02x}", frozenset()):
            if seal.object_name(digest) in names:
                yield digest


def _apart(key: str) -> tuple[str, str]:
    host, _, module = key.partition("/")
    return host, module


def _no_manifest(seal: Seal, host: str, module: str, held: Held, files: Mapping[str, int]) -> str:
    wanted = [held.file_name] + ([f"{held.base}.full.zst"] if held.base else [])
    for name in wanted:
        if not files.get(seal.file(form.module_file(host, module, name))):
            return f"the manifest {name} is missing in the copy"
    return ""
