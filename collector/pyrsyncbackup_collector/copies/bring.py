"""Bringing objects to a copy: those it lacks, each proven by its digest first, in batches of bounded size."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

from pyrsyncbackup_collector.copies.form import object_file
from pyrsyncbackup_collector.copies.proven import NO_SUMS, Sums
from pyrsyncbackup_collector.copies.report import Round
from pyrsyncbackup_collector.copies.seal import Seal
from pyrsyncbackup_collector.copies.target import Target
from pyrsyncbackup_collector.errors import StoreError
from pyrsyncbackup_collector.store.objects import ObjectStore
from pyrsyncbackup_collector.store.rehash import Rehash

# What one batch holds at most: so much is staged, and so much may travel twice after a cut.
_BATCH_FILES: Final = 2000
_BATCH_SIZE: Final = 256 << 20
_ASKED: Final = 20_000
_READERS: Final = 4


class Bringer:
    """Brings objects of one store to one target; `stage` is a directory of its own. Close it."""

    def __init__(
        self,
        objects: ObjectStore,
        target: Target,
        seal: Seal,
        stage: Path,
        check: Callable[[], None],
        tell: Callable[[int, int], None],
    ) -> None:
        self._objects, self._target, self._seal, self._stage = objects, target, seal, stage
        self._check, self._tell = check, tell
        self._rehash = Rehash(objects.place)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="prove")

    def close(self) -> None:
        """End the threads."""
        self._readers.shutdown(cancel_futures=True)
        self._rehash.close()

    def name(self, sha256: str) -> str:
        """The file of an object in the copy."""
        return self._seal.file(object_file(self._seal.object_name(sha256)))

    def bring(self, digests: Iterable[str], report: Round) -> dict[str, str]:
        """See that the copy has all these objects; return those that it cannot have, with the reason."""
        rotten: dict[str, str] = {}
        todo = iter(dict.fromkeys(digests))
        done = 0
        while asked := list(islice(todo, _ASKED)):
            self._check()
            missing = self._missing(asked, report)
            for batch in self._batches(missing, rotten):
                self._check()
                self._upload(batch, report, self._target.put)
                done += len(batch)
                self._tell(done, 0)
        return rotten

    def bring_again(self, digests: Iterable[str], report: Round) -> dict[str, str]:
        """Bring these over what lies in the copy; return those that are not sound here, with the reason."""
        rotten: dict[str, str] = {}
        for batch in self._batches(list(dict.fromkeys(digests)), rotten):
            self._check()
            self._upload(batch, report, self._target.replace)
            report.repaired += len(batch)
        return rotten

    def _missing(self, digests: Sequence[str], report: Round) -> list[str]:
        """Those that are not there, or not whole, which are removed."""
        names = {self.name(digest): digest for digest in digests}
        present = self._target.sizes(list(names))
        for name, size in list(present.items()):
            if self.mends(names[name], name, size, report):
                del present[name]
        return [digest for name, digest in names.items() if name not in present]

    def mends(self, digest: str, name: str, size: int, report: Round) -> bool:
        """Whether an object of the copy was damaged, by its size in bytes, and so was removed to be brought anew."""
        if self._fits(digest, size) or not self._is_damaged(digest, name):
            return False
        self._target.delete([name])
        report.repaired += 1
        return True

    def _fits(self, digest: str, size: int) -> bool:
        """Whether an object of so many bytes can be ours; the size of an encrypted one says little."""
        if self._seal.kind:
            return size > 0
        try:
            return os.stat(self._objects.place(digest)).st_size == size  # noqa: PTH116 - one of many
        except OSError:
            return True

    def _is_damaged(self, digest: str, name: str) -> bool:
        """Whether what lies in the copy is not what its name says: another size may also be another compressor's."""
        if self._seal.kind:
            return True
        self._target.fetch(self._stage, [name])
        try:
            with Rehash(lambda _: self._stage / name) as rehash:
                return bool(_fault(rehash, digest, _Stored()))
        finally:
            (self._stage / name).unlink(missing_ok=True)

    def _batches(self, digests: Sequence[str], rotten: dict[str, str]) -> Iterator[Mapping[str, _Stored]]:
        """Digests with what their files are, each proven; the others go to `rotten`."""
        batch: dict[str, _Stored] = {}
        size = 0
        for digest, (fault, stored) in zip(digests, self._readers.map(self._prove, digests), strict=True):
            if fault:
                rotten[digest] = fault
                continue
            if batch and (len(batch) >= _BATCH_FILES or size + stored.size > _BATCH_SIZE):
                yield batch
                batch, size = {}, 0
            batch[digest] = stored
            size += stored.size
        if batch:
            yield batch

    def _prove(self, digest: str) -> tuple[str, _Stored]:
        stored = _Stored()
        return _fault(self._rehash, digest, stored), stored

    def _upload(self, batch: Mapping[str, _Stored], report: Round, put: _Put) -> None:
        if self._seal.kind:
            names = []
            for digest, stored in batch.items():
                name = self.name(digest)
                place = self._stage / name
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._seal.wrap(self._objects.place(digest), place, stored.sum)
                names.append(name)
            try:
                put(self._stage, names)
            finally:
                for name in names:
                    (self._stage / name).unlink(missing_ok=True)
        else:
            sums = {object_file(digest): stored.sum for digest, stored in batch.items()}
            put(self._objects.path.parent, list(sums), sums)
        report.objects += len(batch)
        report.size += sum(stored.size for stored in batch.values())


class _Stored:
    """An object's file as it was when its content was proven: size in bytes, SHA-256 (hexadecimal)."""

    def __init__(self) -> None:
        self.size = 0
        self._digest = hashlib.sha256()

    @property
    def sum(self) -> str:
        return self._digest.hexdigest()

    def __call__(self, data: bytes) -> None:
        self.size += len(data)
        self._digest.update(data)


class _Put(Protocol):
    def __call__(self, root: Path, names: Sequence[str], sums: Sums = NO_SUMS) -> None: ...


def _fault(rehash: Rehash, digest: str, stored: Callable[[bytes], None]) -> str:
    """Why an object is not what its name says; nothing if it is, and `stored` got the bytes of its file."""
    try:
        found = rehash.one(digest, raw=stored)
    except StoreError as fault:
        return fault.cause
    return f"object {digest} is {found.kind}: {found.cause}" if found.kind else ""
