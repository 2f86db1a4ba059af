"""A copy as an open store, wherever it is: to list, to look into, to verify and to restore from it.

A copy in a directory is one already. Of others the manifests and logs are fetched into a private directory, and each
object when it is asked for; what is read is verified as in any store, so the place of a copy need not be trusted.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from pyrsyncbackup_collector.copies import form
from pyrsyncbackup_collector.copies.directory import DirectoryTarget
from pyrsyncbackup_collector.copies.seal import SUFFIX, Opener, Sealed
from pyrsyncbackup_collector.copies.target import Target
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import CopyDamaged, CopyMissing, CopySealed
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.chunks import ChunkList
from pyrsyncbackup_collector.store.copied import COMING
from pyrsyncbackup_collector.store.objects import ObjectStore
from pyrsyncbackup_collector.store.signature import Signer
from pyrsyncbackup_collector.store.snapshot import Snapshot
from pyrsyncbackup_collector.store.store import Store

# Entries that are read ahead of who restores them, so that many objects come at a time.
_AHEAD: Final = 1000
_MOST: Final = 256
# What is kept of fetched objects, in bytes: duplicates come soon after each other or not at all.
_KEPT: Final = 1 << 30
_FILES: Final = 1000


@contextlib.contextmanager
def opened(
    target: Target, identity: Path | None = None, only: str = "", signer: Signer | None = None
) -> Iterator[Store]:
    """The copy at `target`, opened for reading; `only` is HOST or HOST/MODULE, where no other is needed.

    `identity` is the file with the secret key of an encrypted copy; with `signer` the heads of logs can be proven.
    Raises CopyError, StoreError.
    """
    found = form.decode_format(target.read(layout.FORMAT), target.where)
    if not found.copy_of:
        if isinstance(target, DirectoryTarget):
            with Store.open(target.path, signer=signer) as store:
                yield store
            return
        raise CopyMissing(f"{target.where} is no second copy", "name the place of one")
    if found.sealed and identity is None:
        raise CopySealed(f"the copy at {target.where} is encrypted", "give the secret key with --identity FILE")
    if isinstance(target, DirectoryTarget) and not found.sealed:
        with Store.open(target.path, signer=signer) as store:
            yield store
        return
    opener = Opener(identity) if found.sealed and identity else None
    with tempfile.TemporaryDirectory(prefix="pyrsyncbackup-copy-") as folder:
        cache = Path(folder)
        _fetch_manifests(target, cache, opener, only)
        plain = layout.Format(found.format, found.version, found.id, found.copy_of)
        (cache / layout.FORMAT).write_bytes(msgspec.json.encode(plain))
        (cache / layout.OBJECTS).mkdir()
        (cache / layout.MANIFESTS).mkdir(exist_ok=True)
        with _CopyStore.open(cache, signer=signer) as store:
            store.objects = FetchedObjects(target, cache, opener)
            yield store


def _fetch_manifests(target: Target, cache: Path, opener: Opener | None, only: str) -> None:
    prefix = f"{layout.MANIFESTS}/{only}" if only else layout.MANIFESTS
    # A place that is not ours may name what it likes, and each is written to a path.
    names = [item.name for item in target.walk(prefix) if form.is_module_file(item.name)]
    coming = COMING + SUFFIX if opener else COMING
    target.fetch(cache, [form.STATE, coming])
    if opener:
        # Before all else: whether it is the right key.
        _naming_key(target, opener)
        with contextlib.suppress(CopyDamaged):
            _unwrap(opener, cache, coming)
    for start in range(0, len(names), _FILES):
        some = names[start : start + _FILES]
        target.fetch(cache, some)
        if opener:
            for name in some:
                try:
                    _unwrap(opener, cache, name)
                except CopyDamaged:
                    # A manifest or a log like any that is not what it should be; the others are none the worse.
                    (cache / name.removesuffix(SUFFIX)).write_bytes(b"")


def _naming_key(target: Target, opener: Opener) -> bytes:
    if not (data := target.read(form.NAMES)):
        raise CopyDamaged(
            f"{target.where}: {form.NAMES} is missing, by which objects are found there",
            "`replicate NAME --full` at its collector brings it again; it is STATE/copies/NAME.key, encrypted",
        )
    return opener.names(data)


def _unwrap(opener: Opener, root: Path, name: str) -> None:
    """Decrypt root/NAME.age to root/NAME; what is not there is not there."""
    sealed = root / name
    if not sealed.exists() or not name.endswith(SUFFIX):
        return
    place = root / name.removesuffix(SUFFIX)
    try:
        with sealed.open("rb") as source, place.open("wb") as file:
            opener.unwrap(source, file, name)
    except BaseException:
        place.unlink(missing_ok=True)
        raise
    finally:
        sealed.unlink()


class FetchedObjects(ObjectStore):
    """Objects that come to a private directory when they are asked for, and others that are expected with them.

    The first comes alone; while what is asked for is what is expected, more and more come at a time. So one file costs
    one request, and ten thousand do not cost ten thousand.
    """

    def __init__(self, target: Target, cache: Path, opener: Opener | None) -> None:
        super().__init__(cache / layout.OBJECTS)
        self._target, self._cache, self._opener = target, cache, opener
        self._seal = Sealed((), _naming_key(target, opener)) if opener else None
        self._expected: deque[str] = deque(maxlen=64 * _AHEAD)
        self._at_once = 1
        self._kept: OrderedDict[str, int] = OrderedDict()
        self._size = 0
        self._fetching = threading.RLock()

    def expect(self, digests: Iterable[str]) -> None:
        """What will be asked for, in that order."""
        with self._fetching:
            self._expected.extend(digests)

    def present(self, shard: str, needed: AbstractSet[str]) -> set[str]:  # noqa: ARG002 - names may be keyed
        """Those of `needed` that the copy has: what else it has is its own business."""
        names = {self._name(digest): digest for digest in needed}
        return {names[name] for name in self._target.sizes(list(names))}

    def place(self, sha256: str) -> Path:
        """Where the object is now, fetched if need be."""
        with self._fetching:
            self._bring(sha256)
        return super().place(sha256)

    def file_name(self, sha256: str) -> str:
        """As the copy has it, where names may be keyed."""
        return self._name(sha256)

    def open(self, sha256: str, size: int | None = None) -> io.BufferedReader:
        """As of any store, fetched before."""
        with self._fetching:
            self._bring(sha256)
            return super().open(sha256, size)

    def read(self, sha256: str, size: int, *, proven: bool = True) -> bytes:
        """As of any store, fetched before."""
        with self._fetching:
            self._bring(sha256)
            return super().read(sha256, size, proven=proven)

    def chunks_of(self, entry: Entry) -> ChunkList:
        """As of any store; its chunks are expected next."""
        chunks = super().chunks_of(entry)
        with self._fetching:
            self._expected.extendleft(reversed([chunk.sha256 for chunk in islice(chunks, _AHEAD)]))
        return chunks

    def _bring(self, sha256: str) -> None:
        """See that the object is here, if the copy has it; what is not is told by who opens it."""
        place = super().place(sha256)
        if place.exists():
            self._kept.move_to_end(sha256)
            return
        together = [sha256]
        try:
            at = self._expected.index(sha256)
        except ValueError:
            self._at_once = 1
        else:
            for _ in range(at + 1):
                self._expected.popleft()
            ahead = islice(self._expected, self._at_once - 1)
            together += [one for one in ahead if not super(FetchedObjects, self).place(one).exists()]
            self._at_once = min(_MOST, self._at_once * 2)
        self._fetch(list(dict.fromkeys(together)))

    def _fetch(self, digests: list[str]) -> None:
        names = {digest: self._name(digest) for digest in digests}
        self._target.fetch(self._cache, list(names.values()))
        for digest, name in names.items():
            fetched, place = self._cache / name, super().place(digest)
            if not fetched.exists():
                continue
            if self._opener:
                place.parent.mkdir(mode=0o700, exist_ok=True)
                try:
                    _unwrap(self._opener, self._cache, name)
                    (self._cache / name.removesuffix(SUFFIX)).replace(place)
                except CopyDamaged:
                    # An object like any that does not hold what its name says; the others are none the worse.
                    place.write_bytes(b"")
            self._kept[digest] = place.stat().st_size
            self._size += self._kept[digest]
        while self._size > _KEPT and len(self._kept) > len(digests):
            oldest, size = self._kept.popitem(last=False)
            super().place(oldest).unlink(missing_ok=True)
            self._size -= size

    def _name(self, digest: str) -> str:
        if self._seal is None:
            return form.object_file(digest)
        return self._seal.file(form.object_file(self._seal.object_name(digest)))


class _CopyStore(Store):
    """A store whose objects are told what will be asked for."""

    def entries(self, snapshot: Snapshot, *, verify: bool = False) -> Iterator[Entry]:
        """As of any store, a little ahead."""
        source = super().entries(snapshot, verify=verify)
        while some := list(islice(source, _AHEAD)):
            if isinstance(self.objects, FetchedObjects):
                self.objects.expect(entry.chunks or entry.sha256 for entry in some if entry.sha256)
            yield from some
