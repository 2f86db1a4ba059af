"""The form of a copy: where its files are, what it says of itself and of what it holds.

A copy is a store of the same layout. Beside that it has `copy/state.json.gz` (what it holds) and, for each snapshot,
`copy/refs/...` (which objects that needs), by which it is thinned out without a look into its manifests.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from pyrsyncbackup_collector.errors import CopyDamaged, CopyMissing
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.copied import GZIP, MAX_STATE
from pyrsyncbackup_collector.store.copied import STATE as STATE
from pyrsyncbackup_collector.store.snapshot import COMPLETE, Recorded, Snapshot

REFS: Final = "copy/refs"
# The key that names objects in an encrypted copy, for its readers.
NAMES: Final = "names.age"
_DIGEST: Final = 32


class Held(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot of the copy. `name` and `kind` as in its manifest's file name, `time` in seconds since 1970."""

    sequence: int
    name: str
    kind: str
    time: float
    complete: bool
    base: str = ""

    @classmethod
    def of(cls, snapshot: Snapshot) -> Held:
        """That of the source."""
        complete = snapshot.state == COMPLETE
        return cls(snapshot.sequence, snapshot.name, snapshot.kind, snapshot.time, complete, snapshot.base or "")

    @property
    def file_name(self) -> str:
        """The manifest's."""
        return f"{self.name}.{self.kind}.zst"


class ModuleState(msgspec.Struct):
    """What the copy has of a module. `log` is the size of the source's log when it was copied, in bytes.

    `held` are its snapshots; `going` those that its own rules removed and whose files and objects may still be there;
    `hidden` the stems of manifests that are there but stand for no snapshot: bases of others; `removed` the sequence
    numbers of snapshots that the source may have and the copy's rules do not want.
    """

    log: int = 0
    held: list[Held] = []
    going: list[Held] = []
    hidden: list[str] = []
    removed: list[int] = []

    def holds(self, name: str) -> bool:
        """Whether the snapshot with that stem is one of the copy."""
        return any(one.name == name for one in self.held)

    def add(self, one: Held) -> None:
        """One more, or again."""
        self.held = sorted([*(h for h in self.held if h.sequence != one.sequence), one], key=lambda h: h.sequence)
        self.going = [other for other in self.going if other.sequence != one.sequence]
        self.hidden = [stem for stem in self.hidden if stem != one.name]


class State(msgspec.Struct):
    """copy/state.json.gz. `checked` is when all that it should hold was last looked for, seconds since 1970.

    `size` is that of all objects as they lie there, in bytes, as far as it is known without asking.
    `rules` are those by which it was thinned out last: where they change, what was not wanted is looked at again.
    """

    modules: dict[str, ModuleState] = {}
    checked: float = 0.0
    rules: str = ""
    size: int = 0

    def of(self, host: str, module: str) -> ModuleState:
        """That of one module; an empty one is made."""
        return self.modules.setdefault(f"{host}/{module}", ModuleState())

    def encode(self) -> bytes:
        """As a file."""
        deflate = zlib.compressobj(6, wbits=GZIP)
        return deflate.compress(msgspec.json.encode(self)) + deflate.flush()


def read_state(data: bytes | None, where: str) -> State:
    """The state in a file's content; an empty one if there is none. Raises CopyDamaged."""
    if data is None:
        return State()
    again = "`replicate NAME --full` makes it anew"
    try:
        inflate = zlib.decompressobj(wbits=GZIP)
        state = msgspec.json.decode(inflate.decompress(data, MAX_STATE), type=State)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as fault:
        raise CopyDamaged(f"{where}: {STATE} cannot be read: {fault}", again) from None
    # Files are removed by these names: who can write there must not choose any others.
    if not all(_is_valid(key, module) for key, module in state.modules.items()):
        raise CopyDamaged(f"{where}: {STATE} holds what is no name", again)
    return state


def _is_valid(key: str, module: ModuleState) -> bool:
    host, _, name = key.partition("/")
    stems = (_is_stem(stem) for stem in module.hidden)
    return _are_names(host, name) and all(stems) and all(map(_is_held, module.held + module.going))


def _are_names(host: str, module: str) -> bool:
    return bool(layout.NAME.fullmatch(host) and layout.NAME.fullmatch(module))


def _is_stem(stem: str) -> bool:
    return layout.parse_manifest(f"{stem}.full.zst") is not None


def _is_held(one: Held) -> bool:
    return one.kind in ("full", "delta") and _is_stem(one.name) and (not one.base or _is_stem(one.base))


class Refs(msgspec.Struct, frozen=True):
    """The objects that a snapshot needs, as their names in the copy (32 bytes each); beside those that `base` needs."""

    held: Held
    base: str
    objects: bytes

    @classmethod
    def of(cls, held: Held, base: str, names: Iterable[bytes]) -> Refs:
        """From single names."""
        return cls(held, base, b"".join(names))

    def names(self) -> Iterator[bytes]:
        """One by one."""
        for at in range(0, len(self.objects), _DIGEST):
            yield self.objects[at : at + _DIGEST]


_refs = msgspec.msgpack.Decoder(Refs)


def encode_refs(refs: Refs) -> bytes:
    """As a file."""
    return msgspec.msgpack.encode(refs)


def decode_refs(data: bytes, place: str) -> Refs:
    """From a file; CopyDamaged names `place`."""
    try:
        refs = _refs.decode(data)
    except msgspec.MsgspecError as fault:
        raise CopyDamaged(f"{place} cannot be read: {fault}") from None
    if not _is_held(refs.held) or (refs.base and not _is_stem(refs.base)):
        raise CopyDamaged(f"{place} holds what is no name")
    if len(refs.objects) % _DIGEST:
        raise CopyDamaged(f"{place} is cut short")
    return refs


def refs_name(host: str, module: str, stem: str) -> str:
    """Where the list of a snapshot's objects is."""
    return f"{REFS}/{host}/{module}/{stem}.refs"


def parse_refs_name(name: str) -> tuple[str, str, str] | None:
    """The reverse: host, module and stem."""
    parts = name.removeprefix(f"{REFS}/").removesuffix(".refs").split("/")
    if len(parts) != 3 or not name.endswith(".refs") or not _are_names(parts[0], parts[1]) or not _is_stem(parts[2]):
        return None
    return parts[0], parts[1], parts[2]


def is_module_file(name: str) -> bool:
    """Whether it can be the name of a manifest, log or head as a file of a copy, plain or encrypted."""
    parts = name.removesuffix(".age").split("/")
    if len(parts) != 4 or parts[0] != layout.MANIFESTS or not _are_names(parts[1], parts[2]):
        return False
    return parts[3] in (layout.LOG, layout.HEAD) or layout.parse_manifest(parts[3]) is not None


def module_file(host: str, module: str, file: str) -> str:
    """Where a manifest, log or head is, as in any store."""
    return f"{layout.MANIFESTS}/{host}/{module}/{file}"


def object_file(name: str) -> str:
    """Where an object is; `name` is 64 hexadecimal digits."""
    return f"{layout.OBJECTS}/{name[:2]}/{name[2:]}"


def manifest_file(recorded: Recorded | Held, host: str, module: str) -> str:
    """Where a manifest is."""
    return module_file(host, module, recorded.file_name)


def decode_format(data: bytes | None, where: str) -> layout.Format:
    """What a copy says that it is. Raises CopyMissing if nothing says anything, CopyDamaged."""
    if data is None:
        raise CopyMissing(
            f"there is no copy at {where}",
            "is that the place, and is its file system mounted? A new one is made by `pyrsyncbackup copies init NAME`",
        )
    try:
        return msgspec.json.decode(data, type=layout.Format)
    except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
        raise CopyDamaged(f"{where}: {layout.FORMAT} cannot be read: {fault}") from None
