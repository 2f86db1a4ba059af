"""One round of a second copy: what the source has and the copy lacks goes there, in an order that keeps it whole.

First all objects of some snapshots, then these snapshots' manifests, then the logs that name them: at any moment, also
after a SIGKILL, the copy is a store in which all that is listed is there. Nothing is ever removed because it is gone
in the source; what the copy's own rules remove is decided in `thinning`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from pyrsyncbackup_collector.copies import checking, form, mending, thinning
from pyrsyncbackup_collector.copies.bring import Bringer
from pyrsyncbackup_collector.copies.form import Held, Refs, State
from pyrsyncbackup_collector.copies.mending import NOTHING, Unsound
from pyrsyncbackup_collector.copies.proven import NO_SUMS, Sums
from pyrsyncbackup_collector.copies.report import Round
from pyrsyncbackup_collector.copies.seal import Seal
from pyrsyncbackup_collector.copies.selection import Wanted, wanted
from pyrsyncbackup_collector.copies.target import Target
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import CopyError, NotFound, StoreDamaged
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.copied import COMING, Coming
from pyrsyncbackup_collector.store.faults import translated
from pyrsyncbackup_collector.store.snapshot import Recorded, Snapshot
from pyrsyncbackup_collector.store.store import Store

# Each holds two files open; a group's objects are brought together, so that what they share is asked for once.
_GROUP: Final = 100
# Names of a group's objects that are held in memory.
_GROUP_OBJECTS: Final = 1_000_000

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Rules:
    """What goes to the copy and stays there: patterns for names, retention (None: all), when all is looked through."""

    hosts: str = "*"
    modules: str = "*"
    keep: thinning.Keeping | None = None
    # As text: where it changes, snapshots that were not wanted are looked at again.
    keep_text: str = ""
    recheck: float = 30 * 86400.0
    full: bool = False
    # What was found not to be sound there, to be brought again.
    unsound: Unsound = NOTHING


@dataclass(slots=True)
class _Ready:
    """A snapshot whose objects are to be brought. `base` names the held one that has the others."""

    snapshot: Snapshot
    wanted: Wanted
    objects: list[str]
    base: str


class Replication:
    """One round. `stage` is an empty directory, 0700, of its own; `now` is seconds since 1970."""

    def __init__(
        self,
        store: Store,
        target: Target,
        seal: Seal,
        rules: Rules,
        stage: Path,
        now: float,
        *,
        check: Callable[[], None],
        tell: Tell,
    ) -> None:
        self._store, self._target, self._seal, self._rules = store, target, seal, rules
        self._stage, self._now, self._check, self._tell = stage, now, check, tell
        self._report = Round()
        # The state's file as it is in the copy now.
        self._written: bytes | None = None
        self._bringer = Bringer(store.objects, target, seal, stage, check, lambda done, of: tell("objects", done, of))

    def run(self) -> Round:
        """Do it. Raises CopyError, StoreError; what was done until then is done, and the next round goes on."""
        with translated(self._stage):
            return self._round()

    def _round(self) -> Round:
        try:
            must_be_ours(self._target, self._store, self._seal)
            state = self._read_state()
            self._mend(state)
            if self._rules.full or self._now - state.checked >= self._rules.recheck or state.checked > self._now:
                self._tell("looking through the copy", 0, 0)
                checking.check(self._store, self._target, self._seal, self._bringer, self._stage, state, self._report)
                state.checked = self._now
                self._report.checked = True
                self._write_state(state)
            self._bring_all(state)
            if self._rules.keep is not None:
                self._tell("thinning out", 0, 0)
                keep = self._rules.keep
                thinning.thin(self._target, self._seal, self._stage, state, keep, self._report, self._write_state)
            self._report.stored_size = state.size
            self._report.held = sum(len(module.held) for module in state.modules.values())
            return self._report
        finally:
            self._bringer.close()

    def _mend(self, state: State) -> None:
        unsound = self._rules.unsound
        if unsound == NOTHING:
            return
        mending.bring_objects(unsound, self._bringer, self._report)
        with self._staged(mending.manifests(unsound, self._store, self._report)) as (root, staged):
            self._target.replace(root, staged)
        mending.forget_logs(unsound, state)

    def _read_state(self) -> State:
        data = self._written = self._target.read(form.STATE)
        if self._rules.full:
            with contextlib.suppress(CopyError):
                return form.read_state(data, self._target.where)
            return State()
        return form.read_state(data, self._target.where)

    def _bring_all(self, state: State) -> None:
        if state.rules != self._rules.keep_text:
            state.rules = self._rules.keep_text
            for module in state.modules.values():
                module.removed = []
        plan = list(wanted(self._store, state, self._rules.hosts, self._rules.modules, self._leave_out))
        pairs = [(one, recorded) for one in plan for recorded in self._worth_it(one, state)]
        self._say_heads(plan)
        for start in range(0, len(pairs), _GROUP):
            self._check()
            self._tell("snapshots", start, len(pairs))
            with ExitStack() as locks:
                self._bring_group(pairs[start : start + _GROUP], state, locks)
        rest = [one for one in plan if one.changed and state.of(one.host, one.module).log != len(one.log)]
        if rest:
            self._bring_logs(rest, state)
        self._write_state(state)

    def _worth_it(self, one: Wanted, state: State) -> Sequence[Recorded]:
        """Those that the copy's own rules would not remove at once."""
        if self._rules.keep is None or not one.snapshots:
            return one.snapshots
        module = state.of(one.host, one.module)
        found = []
        for recorded in one.snapshots:
            with self._leaving_out(recorded):
                found.append((recorded, Held.of(self._store.snapshot(recorded))))
        together = sorted([*module.held, *(held for _, held in found)], key=lambda held: held.sequence)
        stays = self._rules.keep(one.host, one.module, together)
        module.removed += [recorded.sequence for recorded, _ in found if recorded.sequence not in stays]
        return [recorded for recorded, _ in found if recorded.sequence in stays]

    def _bring_group(self, pairs: Sequence[tuple[Wanted, Recorded]], state: State, locks: ExitStack) -> None:
        ready: list[_Ready] = []
        waiting = 0
        for one, recorded in pairs:
            with self._leaving_out(recorded):
                prepared = self._prepare(
                    one, recorded, state, [r.snapshot.name for r in ready if r.wanted is one], locks
                )
                ready.append(prepared)
                waiting += len(prepared.objects)
            if waiting >= _GROUP_OBJECTS:
                self._finish_group(ready, state)
                ready, waiting = [], 0
        self._finish_group(ready, state)

    def _prepare(
        self, one: Wanted, recorded: Recorded, state: State, beside: Sequence[str], locks: ExitStack
    ) -> _Ready:
        """Lock a snapshot, prove its manifests, and find which objects it needs."""
        snapshot = self._store.snapshot(recorded)
        locks.enter_context(self._store.reading(snapshot))
        base = snapshot.base or ""
        if base and (state.of(one.host, one.module).holds(base) or base in beside):
            changes = self._store.changes(snapshot, verify=True)
            entries: Iterator[Entry] = (change.entry for change in changes if change.entry is not None)
        else:
            base, entries = "", self._store.entries(snapshot, verify=True)
        self._check()
        return _Ready(snapshot, one, self._needed(entries), base)

    def _needed(self, entries: Iterable[Entry]) -> list[str]:
        return list(dict.fromkeys(digest for entry in entries for digest in self._objects_of(entry)))

    def _objects_of(self, entry: Entry) -> Iterator[str]:
        if entry.chunks:
            yield entry.chunks
            for chunk in self._store.objects.chunks_of(entry):
                yield chunk.sha256
        elif entry.sha256:
            yield entry.sha256

    def _finish_group(self, ready: Sequence[_Ready], state: State) -> None:
        """Objects, then lists of them, then manifests, then logs."""
        if not ready:
            return
        before = self._report.size
        rotten = self._bringer.bring((digest for one in ready for digest in one.objects), self._report)
        good: list[_Ready] = []
        for one in ready:
            if one.base and not (_holds(state, one) or any(_is_base(other, one) for other in good)):
                # Its base is left out; it may still be whole by itself.
                one.base, one.objects = "", self._needed(self._store.entries(one.snapshot, verify=True))
                rotten |= self._bringer.bring(one.objects, self._report)
            if bad := next((digest for digest in one.objects if digest in rotten), None):
                self._leave_out(_name(one.snapshot), rotten[bad])
            else:
                good.append(one)
        self._check()
        self._bring_refs(good)
        self._bring_manifests(good, state)
        logs = list({id(one.wanted): one.wanted for one in good}.values())
        self._bring_logs(logs, state)
        for one in good:
            state.of(one.snapshot.host, one.snapshot.module).add(Held.of(one.snapshot))
        state.size += self._report.size - before
        self._write_state(state)
        self._report.snapshots += len(good)

    def _bring_refs(self, good: Iterable[_Ready]) -> None:
        files = {}
        for one in good:
            name = form.refs_name(one.snapshot.host, one.snapshot.module, one.snapshot.name)
            raw = (bytes.fromhex(self._seal.object_name(digest)) for digest in one.objects)
            data = self._seal.wrap_refs(form.encode_refs(Refs.of(Held.of(one.snapshot), one.base, raw)), name)
            files[name] = data
        self._replace(files)

    def _bring_manifests(self, good: Iterable[_Ready], state: State) -> None:
        """Bases that are no snapshots of the copy are hidden first, so that nobody takes them for whole."""
        names: dict[str, Path] = {}
        hidden = False
        own = {(one.snapshot.host, one.snapshot.module, one.snapshot.name) for one in good}
        for one in good:
            snapshot = one.snapshot
            directory = layout.module_directory(self._store.path, snapshot.host, snapshot.module)
            base = snapshot.base
            stems = [f"{snapshot.name}.{snapshot.kind}.zst", *([f"{base}.full.zst"] if base else [])]
            names |= {form.module_file(snapshot.host, snapshot.module, stem): directory / stem for stem in stems}
            module = state.of(snapshot.host, snapshot.module)
            is_known = (snapshot.host, snapshot.module, base) in own or base in module.hidden
            if base and not is_known and not module.holds(base):
                module.hidden.append(base)
                hidden = True
        if hidden:
            self._write_state(state)
        sums = {form.manifest_file(Held.of(one.snapshot), *_of(one)): one.snapshot.digest for one in good}
        with self._staged(names, sums) as (root, staged):
            self._target.put(root, staged, NO_SUMS if self._seal.kind else sums)

    @contextlib.contextmanager
    def _staged(self, names: dict[str, Path], sums: Sums = NO_SUMS) -> Iterator[tuple[Path, list[str]]]:
        """The store's files as files of the copy."""
        if not self._seal.kind:
            yield self._store.path, list(names)
            return
        staged = []
        for name, source in names.items():
            place = self._stage / self._seal.file(name)
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._seal.wrap(source, place, sums.get(name, ""))
            staged.append(self._seal.file(name))
        try:
            yield self._stage, staged
        finally:
            for name in staged:
                (self._stage / name).unlink(missing_ok=True)

    def _bring_logs(self, modules: Sequence[Wanted], state: State) -> None:
        """The logs, then their heads: no place puts two files in one step."""
        logs = {form.module_file(one.host, one.module, layout.LOG): one.log for one in modules}
        heads = {
            form.module_file(one.host, one.module, layout.HEAD): one.head for one in modules if one.head is not None
        }
        self._wrap_and_replace(logs)
        self._wrap_and_replace(heads)
        for one in modules:
            state.of(one.host, one.module).log = len(one.log)

    def _say_heads(self, plan: Iterable[Wanted]) -> None:
        """Of all logs that come, before they do: so each has a head that proves it, wherever the round ends."""
        coming = [one for one in plan if one.changed or one.snapshots]
        heads: Coming = {f"{one.host}/{one.module}": one.head for one in coming if one.head is not None}
        if heads:
            self._wrap_and_replace({COMING: msgspec.json.encode(heads)})

    def _wrap_and_replace(self, plain: Mapping[str, bytes]) -> None:
        self._replace({self._seal.file(name): self._wrapped(data) for name, data in plain.items()})

    def _wrapped(self, data: bytes) -> bytes:
        if not self._seal.kind:
            return data
        plain, sealed = self._stage / "plain", self._stage / "sealed"
        plain.write_bytes(data)
        try:
            self._seal.wrap(plain, sealed)
            return sealed.read_bytes()
        finally:
            plain.unlink()
            sealed.unlink(missing_ok=True)

    def _write_state(self, state: State) -> None:
        data = state.encode()
        if data != self._written:
            if self._target.read(form.STATE) != self._written:
                raise CopyError(
                    f"{self._target.where}: somebody else wrote to this copy during the round",
                    "one collector writes to a copy: look who else has it in its configuration",
                )
            self._replace({form.STATE: data})
            self._written = data

    def _replace(self, files: dict[str, bytes]) -> None:
        replace(self._target, self._stage, files)

    @contextlib.contextmanager
    def _leaving_out(self, recorded: Recorded) -> Iterator[None]:
        """What does not fit in the source is left out; what was pruned meanwhile is no news."""
        try:
            yield
        except NotFound:
            return
        except StoreDamaged as fault:
            self._leave_out(f"{recorded.host}/{recorded.module}@{recorded.name}", fault.cause)

    def _leave_out(self, what: str, why: str) -> None:
        self._report.left_out.append((what, why))


def replace(target: Target, stage: Path, files: dict[str, bytes]) -> None:
    """Write files whose content is at hand."""
    for name, data in files.items():
        place = stage / name
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.write_bytes(data)
    try:
        target.replace(stage, list(files))
    finally:
        for name in files:
            (stage / name).unlink(missing_ok=True)


def must_be_ours(target: Target, store: Store, seal: Seal) -> layout.Format:
    """What the place says of itself; raises CopyMissing, CopyError unless it is a copy of this store, as configured."""
    found = form.decode_format(target.read(layout.FORMAT), target.where)
    if not found.copy_of:
        raise CopyError(f"{target.where} is a store, not a copy", "name another place in `to`")
    if found.copy_of != store.id:
        raise CopyError(
            f"{target.where} is a copy of another store: {found.copy_of}", "name another place in `to` for this one"
        )
    if found.sealed != seal.kind:
        raise CopyError(
            f"{target.where} is {'encrypted' if found.sealed else 'not encrypted'}, the configuration wants otherwise",
            "name another place in `to`, or change `encrypt_to`",
        )
    return found


def _of(one: _Ready) -> tuple[str, str]:
    return one.snapshot.host, one.snapshot.module


def _name(snapshot: Snapshot) -> str:
    return f"{snapshot.host}/{snapshot.module}@{snapshot.name}"


def _holds(state: State, one: _Ready) -> bool:
    return state.of(one.snapshot.host, one.snapshot.module).holds(one.base)


def _is_base(other: _Ready, one: _Ready) -> bool:
    return other.wanted is one.wanted and other.snapshot.name == one.base
