"""What a copy removes by its own rules: snapshots, then the objects that only these needed.

An object goes only if a snapshot that the rules removed needs it and none that stays does; what else lies in the copy
is left alone. Each step is written down before it is done, so a crash at any point leaves work, not holes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from pyrsyncbackup_collector.copies import form, refs
from pyrsyncbackup_collector.copies.form import Held, ModuleState, State
from pyrsyncbackup_collector.copies.report import Round
from pyrsyncbackup_collector.copies.seal import Seal
from pyrsyncbackup_collector.copies.target import Target
from pyrsyncbackup_collector.errors import CopyDamaged

# Of a module's snapshots (host, module, oldest first), the sequence numbers of those that stay.
Keeping = Callable[[str, str, Sequence[Held]], set[int]]

_AT_ONCE: Final = 5000


def thin(
    target: Target, seal: Seal, stage: Path, state: State, keep: Keeping, report: Round, write: Callable[[State], None]
) -> None:
    """Apply `keep`; `write` makes the state durable. Raises CopyError; the next round goes on."""
    removed = sum(_retire(key, module, keep) for key, module in state.modules.items())
    report.removed += removed
    if not any(_free(module) or _bare(module) for module in state.modules.values()):
        if removed:
            write(state)
        return
    write(state)
    objects = _only_theirs(target, seal, stage, state)
    manifests, lists = [], []
    for key, module in state.modules.items():
        host, _, name = key.partition("/")
        free = _free(module)
        lists += [form.refs_name(host, name, one.name) for one in free]
        files = [one.file_name for one in free] + [f"{stem}.full.zst" for stem in _bare(module)]
        manifests += [seal.file(form.module_file(host, name, file)) for file in files]
    names = [seal.file(form.object_file(raw.hex())) for raw in objects]
    freed = sum(target.sizes(names).values())
    _delete(target, manifests)
    _delete(target, names)
    _delete(target, lists)
    report.removed_objects += len(objects)
    state.size = max(0, state.size - freed)
    for module in state.modules.values():
        gone = {one.name for one in _free(module)} | set(_bare(module))
        module.going = [one for one in module.going if one.name not in gone]
        module.hidden = [stem for stem in module.hidden if stem not in gone]
    write(state)


def _retire(key: str, module: ModuleState, keep: Keeping) -> int:
    """Take what the rules remove out of the snapshots; how many. Its manifest counts no more from here on."""
    host, _, name = key.partition("/")
    stays = keep(host, name, module.held)
    going = [one for one in module.held if one.sequence not in stays]
    module.held = [one for one in module.held if one.sequence in stays]
    module.going += going
    module.removed += [one.sequence for one in going]
    module.hidden += [one.name for one in going]
    return len(going)


def _needed(module: ModuleState) -> set[str]:
    """Stems of the manifests that a snapshot of the copy stands on."""
    return {one.base for one in module.held if one.base}


def _free(module: ModuleState) -> list[Held]:
    """Removed snapshots that nothing stands on."""
    needed = _needed(module)
    return [one for one in module.going if one.name not in needed]


def _bare(module: ModuleState) -> list[str]:
    """Stems of bases that were never snapshots of the copy and that nothing stands on any more."""
    known = _needed(module) | {one.name for one in module.going}
    return [stem for stem in module.hidden if stem not in known]


def _only_theirs(target: Target, seal: Seal, stage: Path, state: State) -> set[bytes]:
    """Objects that removed snapshots need and no other."""
    going: list[str] = []
    staying: list[str] = []
    for key, module in state.modules.items():
        host, _, name = key.partition("/")
        free = {one.name for one in _free(module)}
        going += [form.refs_name(host, name, stem) for stem in free]
        others = [*module.held, *(one for one in module.going if one.name not in free)]
        staying += [form.refs_name(host, name, one.name) for one in others]
    found: set[bytes] = set()
    for _, one in refs.read(target, seal, stage, going):
        # One that is not there was removed before a crash, after its objects.
        found.update(one.names() if one else ())
    if not found:
        return found
    for name, one in refs.read(target, seal, stage, staying):
        if one is None:
            raise CopyDamaged(
                f"{target.where}: {name} is missing, so nothing can be removed", "`replicate NAME --full` mends it"
            )
        found.difference_update(one.names())
    return found


def _delete(target: Target, names: Iterable[str]) -> None:
    todo = list(names)
    for start in range(0, len(todo), _AT_ONCE):
        target.delete(todo[start : start + _AT_ONCE])
