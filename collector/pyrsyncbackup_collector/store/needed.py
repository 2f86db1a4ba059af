"""Which objects snapshots need: a set of digests too large for memory, and the way back from a digest to snapshots.

The set is cut into 256 parts by the first byte, as the objects' directories are, so that one part at a time is looked
at. The way back is walked for the few digests alone that somebody asks for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

import msgspec

from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import BackupError, StoreDamaged
from pyrsyncbackup_collector.store.faults import translated
from pyrsyncbackup_collector.store.findings import Needing
from pyrsyncbackup_collector.store.snapshot import Recorded

if TYPE_CHECKING:
    from pyrsyncbackup_collector.store.store import Store

PARTS: Final = 256
_DIGEST: Final = 32
# What is held in memory before it goes to files, in bytes: two million digests.
_HELD: Final = 64 << 20


class Needed:
    """A set of digests; anything may be added twice. Close it."""

    def __init__(self) -> None:
        self._parts = [bytearray() for _ in range(PARTS)]
        self._held = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def add(self, sha256: str) -> None:
        """One more, hexadecimal."""
        raw = bytes.fromhex(sha256)
        self._parts[raw[0]] += raw
        self._held += _DIGEST
        if self._held >= _HELD:
            self._spill()

    def part(self, number: int) -> set[str]:
        """Those whose first byte is `number`."""
        data = bytes(self._parts[number])
        if self._folder is not None:
            with translated(self._folder.name):
                data += self._file(number).read_bytes()
        return {data[at : at + _DIGEST].hex() for at in range(0, len(data), _DIGEST)}

    def close(self) -> None:
        """Remove the files."""
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> Needed:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Close."""
        self.close()

    def _file(self, number: int) -> Path:
        assert self._folder is not None  # noqa: S101 - the caller made it
        return Path(self._folder.name, f"{number:02x}")

    def _spill(self) -> None:
        with translated(tempfile.gettempdir()):
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="pyrsyncbackup-verify-")
            for number, part in enumerate(self._parts):
                whole = {bytes(part[at : at + _DIGEST]) for at in range(0, len(part), _DIGEST)}
                with self._file(number).open("ab") as file:
                    file.write(b"".join(whole))
                part.clear()
        self._held = 0


class _Chunk(msgspec.Struct, frozen=True):
    sha256: str


_chunk = msgspec.json.Decoder(_Chunk)


class Contents:
    """Which objects make up the content of an entry. Remembers the lists of chunks that it read."""

    def __init__(self, store: Store) -> None:
        self._objects = store.objects
        self._lists: dict[str, tuple[str, ...]] = {}

    def of(self, entry: Entry) -> Iterator[str]:
        """The digests of the objects; of a list that cannot be read the list alone."""
        if not entry.chunks:
            if entry.sha256:
                yield entry.sha256
            return
        yield entry.chunks
        if entry.chunks not in self._lists:
            self._lists[entry.chunks] = tuple(self._read(entry.chunks))
        yield from self._lists[entry.chunks]

    def _read(self, sha256: str) -> Iterator[str]:
        try:
            with self._objects.open(sha256) as source:
                digests = [_chunk.decode(line).sha256 for line in source]
        except (StoreDamaged, msgspec.MsgspecError, UnicodeDecodeError):
            return  # it is found by itself
        yield from digests


def needing(
    store: Store,
    modules: Iterable[tuple[str, str]],
    digests: AbstractSet[str],
    contents: Contents,
    check: Callable[[], None],
) -> dict[str, Needing]:
    """Which snapshots of `modules` need the objects of `digests`. Those that cannot be read are left out.

    Reads each manifest once, a full one that was pruned once more for each delta. `check` is called for each.
    """
    found: dict[str, Needing] = {}
    for host, module in modules:
        for recorded, hits in _module(store, host, module, digests, contents):
            check()
            for digest, path in hits.items():
                found[digest] = found.get(digest, Needing()).with_one(f"{host}/{module}@{recorded.name}", path)
    return found


def _module(
    store: Store, host: str, module: str, digests: AbstractSet[str], contents: Contents
) -> Iterator[tuple[Recorded, dict[str, bytes]]]:
    """Each snapshot with what it needs of `digests`, and a path that does."""
    # Of each full manifest, the paths that need any.
    below: dict[str, dict[bytes, set[str]]] = {}
    for recorded in store.recorded(host, module):
        try:
            with store.manifest(recorded) as top:
                if top.header.base is None:
                    paths = _hits(((entry.path, entry) for entry in top.entries()), digests, contents)
                    below[recorded.name] = paths
                else:
                    base = top.header.base
                    if base.name not in below:
                        with store.manifest(store.base_of(recorded, base)) as lower:
                            lines = ((entry.path, entry) for entry in lower.entries())
                            below[base.name] = _hits(lines, digests, contents)
                    paths = dict(below[base.name])
                    for change in top.changes():
                        paths.pop(change.path, None)
                        if change.entry is not None:
                            paths |= _hits([(change.path, change.entry)], digests, contents)
        except BackupError:
            continue
        yield recorded, {digest: path for path, those in paths.items() for digest in those}


def _hits(
    entries: Iterable[tuple[bytes, Entry]], digests: AbstractSet[str], contents: Contents
) -> dict[bytes, set[str]]:
    found = ((path, {each for each in contents.of(entry) if each in digests}) for path, entry in entries)
    return {path: those for path, those in found if those}
