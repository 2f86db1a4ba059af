"""A copy in a directory of this machine: another disk, or whatever is mounted there."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from pyrsyncbackup_collector.copies import tasks
from pyrsyncbackup_collector.copies.proven import NO_SUMS, Proven, Sums
from pyrsyncbackup_collector.copies.target import Listed
from pyrsyncbackup_collector.errors import CopyDamaged, CopyError, CopyFull, CopyMissing, CopyRefused, CopyUnreachable
from pyrsyncbackup_collector.store.layout import TEMPORARY

# Enough to keep a disk busy while other files are opened and closed.
_WRITERS: Final = 4
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_GONE: Final = frozenset({errno.ENOTDIR, errno.ESTALE, errno.ENODEV, errno.ENOTCONN})
# File systems without hard links say one of these.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS})


class DirectoryTarget:
    """The Target below `path`, which is there already: a place that is not mounted is never made.

    Links below it are not followed: whoever can write there could have us remove or replace what they point to.
    """

    def __init__(self, path: Path, check: Callable[[], None] = tasks.nothing) -> None:
        """`check` raises to end what takes long."""
        self.path, self._check = path, check
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="copy")

    @property
    def where(self) -> str:
        """The directory."""
        return str(self.path)

    def read(self, name: str) -> bytes | None:
        """A small file; None if it is not there."""
        with _translated(self.path):
            self._must_have_no_links([name])
            try:
                with _opened(self.path / name) as file:
                    return file.read()
            except FileNotFoundError:
                return None

    def sizes(self, names: Sequence[str]) -> dict[str, int]:
        """By one stat(2) each."""
        found = {}
        with _translated(self.path):
            self._must_have_no_links(names)
            for name in names:
                try:
                    found[name] = os.lstat(f"{self.path}/{name}").st_size
                except FileNotFoundError:
                    continue
        return found

    def walk(self, prefix: str) -> Iterator[Listed]:
        """By walking the tree; links are not followed."""
        with _translated(self.path):
            top = self.path / prefix if prefix else self.path
            for directory, _, files in os.walk(top):
                below = Path(directory).relative_to(self.path)
                for file in files:
                    if not file.startswith(TEMPORARY):
                        name = str(below / file)
                        yield Listed(name, (self.path / name).lstat().st_size)

    def put(self, root: Path, names: Sequence[str], sums: Sums = NO_SUMS) -> None:
        """All as drafts, then durable, then under their names, then these durable: so none is ever cut short."""
        present = self.sizes(names)
        self._bring(root, [name for name in names if name not in present], sums, _link)

    def replace(self, root: Path, names: Sequence[str], sums: Sums = NO_SUMS) -> None:
        """Like `put`, but over what is there."""
        self._bring(root, names, sums, os.replace)

    def _bring(self, root: Path, names: Sequence[str], sums: Sums, publish: Callable[[Path, Path], object]) -> None:
        if not names:
            return
        drafts = [self._draft(name) for name in names]
        with _translated(self.path):
            try:
                self._must_have_no_links(names)
                for directory in {draft.parent for draft in drafts}:
                    self._make(directory)
                self._copy(root, names, drafts, sums)
                self._sync()
                for name, draft in zip(names, drafts, strict=True):
                    publish(draft, self.path / name)
                self._sync()
            finally:
                for draft in drafts:
                    draft.unlink(missing_ok=True)

    def _copy(self, root: Path, names: Sequence[str], drafts: Sequence[Path], sums: Sums) -> None:
        work = [
            self._writers.submit(_copy, root / name, draft, sums.get(name, ""))
            for name, draft in zip(names, drafts, strict=True)
        ]
        tasks.results(work, self._check)

    def _draft(self, name: str) -> Path:
        place = self.path / name
        return place.with_name(TEMPORARY + place.name)

    def _make(self, directory: Path) -> None:
        """Make a directory below the top, never the top itself."""
        if not directory.exists():
            if directory == self.path:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)
            self._make(directory.parent)
            directory.mkdir(mode=0o700)

    def _sync(self) -> None:
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _libc.syncfs(ctypes.c_int(directory)) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), self.path)
        finally:
            os.close(directory)

    def fetch(self, root: Path, names: Sequence[str]) -> None:
        """Copy each that is there."""
        with _translated(self.path):
            self._must_have_no_links(names)
            for name in names:
                place = root / name
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                try:
                    with _opened(self.path / name) as file, place.open("wb") as copy:
                        shutil.copyfileobj(file, copy, 1 << 20)
                except FileNotFoundError:
                    continue

    def delete(self, names: Sequence[str]) -> None:
        """Unlink each."""
        with _translated(self.path):
            self._must_have_no_links(names)
            for name in names:
                (self.path / name).unlink(missing_ok=True)

    def _must_have_no_links(self, names: Sequence[str]) -> None:
        """Raise CopyDamaged where a link stands in the place of a directory."""
        seen: set[Path] = set()
        for directory in {(self.path / name).parent for name in names}:
            while directory != self.path and directory not in seen:
                seen.add(directory)
                if directory.is_symlink():
                    raise CopyDamaged(f"the copy: {directory} is a link, where a directory should be", "remove it")
                directory = directory.parent

    def close(self) -> None:
        """End the threads."""
        self._writers.shutdown()


_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    """A regular file, opened for reading; what else stands in its place is not there: FileNotFoundError."""
    try:
        number = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as fault:
        if fault.errno != errno.ELOOP:
            raise
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file)) from fault
    with open(number, "rb") as opened:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
        yield opened


def _copy(source: Path, draft: Path, sum: str) -> None:
    draft.unlink(missing_ok=True)
    with (
        open(source, "rb", buffering=0) as file,
        open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0) as copy,
    ):
        shutil.copyfileobj(Proven(file, sum, source), copy, 1 << 20)


def _link(draft: Path, place: Path) -> None:
    """Give the draft its name, replacing nothing."""
    try:
        place.hardlink_to(draft)
    except FileExistsError:
        return
    except OSError as fault:
        if fault.errno not in _NO_LINKS:
            raise
        if not place.exists():
            draft.rename(place)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise translate(fault, path) from fault


def translate(fault: OSError, path: Path) -> CopyError:
    """The CopyError for what the operating system said of a copy in the directory `path`."""
    words = os.strerror(fault.errno) if fault.errno else str(fault)
    cause = f"the copy: {words}: {fault.filename or path}"
    if fault.errno in _FULL:
        return CopyFull(cause, "make room there, or let the copy keep less (`keep`)")
    if fault.errno in _REFUSED:
        return CopyRefused(cause, "mount it writable, and let the collector's user own it")
    if fault.errno == errno.EIO:
        return CopyUnreachable(cause, "look at the disk: `dmesg` says more")
    if (fault.errno == errno.ENOENT and not path.is_dir()) or fault.errno in _GONE:
        return CopyMissing(cause, "is its file system mounted?")
    return CopyDamaged(cause)
