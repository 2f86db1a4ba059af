"""Where everything lies in a store, and which names are valid there."""

from __future__ import annotations

import os
import re
import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import msgspec

from pyrsyncbackup_collector.errors import StoreDamaged, StoreError, StoreMissing
from pyrsyncbackup_collector.store.faults import NOT_MOUNTED, translated

FORMAT_NAME = "pyrsyncbackup-store"
FORMAT_VERSION = 1
FORMAT, LOCK, README = "format.json", "lock", "README.txt"
OBJECTS, MANIFESTS, INCOMING = "objects", "manifests", "incoming"
# Objects that were found damaged.
ASIDE = "damaged"
LOG, HEAD = "log.jsonl", "log.head.json"
# A file whose name begins so was never finished.
TEMPORARY = ".tmp-"
# What a crashed creation, or a new file system, may have left in the directory of a new store.
_OWN = frozenset({LOCK, README, OBJECTS, MANIFESTS, INCOMING, "lost+found"})

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_PULL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_MANIFEST = re.compile(r"(([0-9]{6,})-[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{6}Z)\.(full|delta)\.zst")


class Format(msgspec.Struct, frozen=True, omit_defaults=True):
    """format.json. Of a second copy, `copy_of` is the id of its source, `sealed` how it is encrypted ("": not)."""

    format: str
    version: int
    id: str
    copy_of: str = ""
    sealed: str = ""


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A manifest's file name, taken apart. `name` is the stem, `kind` "full" or "delta"."""

    name: str
    sequence: int
    kind: str

    @property
    def file_name(self) -> str:
        """The name in the module's directory."""
        return f"{self.name}.{self.kind}.zst"


def parse_manifest(file_name: str) -> ManifestFile | None:
    """The parts of a manifest's file name; None for a name of another form."""
    match = _MANIFEST.fullmatch(file_name)
    return ManifestFile(match[1], int(match[2]), match[3]) if match else None


def snapshot_name(sequence: int, time: float) -> str:
    """As "000123-2026-11-22T214903Z". `time` in seconds since 1970."""
    try:
        moment = datetime.fromtimestamp(int(time), UTC)
    except (ValueError, OverflowError, OSError):
        raise StoreError(f"the clock shows an impossible time: {time}", "set the collector's clock") from None
    return f"{sequence:06d}-{moment.isoformat(timespec='seconds')[:19].replace(':', '')}Z"


def module_directory(store: Path, host: str, module: str) -> Path:
    """The directory of a module's manifests and log."""
    for name in (host, module):
        if not NAME.fullmatch(name):
            raise StoreError(f"not a name for a host or module: {name!r}")
    return store / MANIFESTS / host / module


def incoming_directory(store: Path, pull: str) -> Path:
    """The directory that the pull with this id may fill."""
    if not _PULL_ID.fullmatch(pull):
        raise StoreError(f"not an id for a pull: {pull!r}")
    return store / INCOMING / pull


def modules(store: Path) -> Iterator[tuple[str, str]]:
    """All (host, module) that the store has a directory for, in the order of their names."""
    with translated(store / MANIFESTS):
        for host in _directories(store / MANIFESTS):
            for module in _directories(store / MANIFESTS / host):
                yield host, module


def _directories(path: Path) -> list[str]:
    with os.scandir(path) as items:
        return sorted(i.name for i in items if NAME.fullmatch(i.name) and i.is_dir(follow_symlinks=False))


def create(path: Path) -> Format:
    """Make a new, empty store at `path`; refuse a directory that holds anything else. format.json comes last."""
    with translated(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        present = {item.name for item in path.iterdir()}
        if FORMAT in present:
            raise StoreError(f"there is a store already: {path}")
        if foreign := sorted(n for n in present - _OWN if not n.startswith(TEMPORARY)):
            raise StoreError(f"not empty: {path} holds {foreign[0]!r}", "name an empty or a new directory")
        path.chmod(0o700)
        value = complete(path, uuid.uuid4().hex)
        sync_directory(path.parent)
    return value


def complete(path: Path, id: str) -> Format:
    """Make what a store has beside its contents, format.json last: from then on `path` is the store of that id."""
    for name in (OBJECTS, MANIFESTS, INCOMING):
        make_directory(path / name)
    for number in range(256):
        (path / OBJECTS / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
    sync_directory(path / OBJECTS)
    text = resources.files(__package__).joinpath("README.txt").read_bytes()
    write_durably(path / README, text)
    value = Format(FORMAT_NAME, FORMAT_VERSION, id)
    write_durably(path / FORMAT, msgspec.json.encode(value) + b"\n")
    return value


def read_format(path: Path) -> Format:
    """The format of the store at `path`; StoreMissing without one, StoreError for one of another version."""
    with translated(path):
        try:
            data = (path / FORMAT).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise StoreMissing(f"no store at {path}", NOT_MOUNTED) from None
    try:
        value = msgspec.json.decode(data, type=Format)
    except msgspec.MsgspecError as fault:
        raise StoreDamaged(f"{path / FORMAT} cannot be read: {fault}") from None
    if value.format != FORMAT_NAME or value.version != FORMAT_VERSION:
        raise StoreError(
            f"{path} has format {value.format} {value.version}, this version knows {FORMAT_NAME} {FORMAT_VERSION}",
            "use the version of pyrsyncbackup that wrote it, or a newer one",
        )
    return value


def make_directory(path: Path) -> None:
    """Make `path`, 0700 whatever the umask; its parent exists. One that is there is left as it is."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    sync_directory(path.parent)


def write_durably(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all, also after a power loss. Mode 0600."""
    draft = path.with_name(f"{TEMPORARY}{path.name}")
    draft.unlink(missing_ok=True)
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        write_all(file, data)
        os.fsync(file)
    finally:
        os.close(file)
    draft.replace(path)
    sync_directory(path.parent)


def remove_tree(path: Path) -> None:
    """Remove `path` with all in it, following no link, whatever modes a transfer gave; OSError if something stays.

    No depth is too deep: directories are moved up before they are emptied.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    path.chmod(0o700)
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        pending = _empty(top, top)
        while pending:
            each = pending.pop()
            directory = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
            try:
                pending += _empty(directory, top)
            finally:
                os.close(directory)
            os.rmdir(each, dir_fd=top)
    finally:
        os.close(top)
    path.rmdir()


def _empty(directory: int, top: int) -> list[str]:
    """Remove what is in an open directory but directories, and move those into `top`; the names that they have there.

    Moving a directory takes the right to write to it.
    """
    with os.scandir(directory) as found:
        items = [(item.name, item.is_dir(follow_symlinks=False)) for item in found]
    moved = []
    for name, is_directory in items:
        if is_directory:
            moved.append(f".{secrets.token_hex(16)}")
            os.chmod(name, 0o700, dir_fd=directory)
            os.rename(name, moved[-1], src_dir_fd=directory, dst_dir_fd=top)
        else:
            os.unlink(name, dir_fd=directory)
    return moved


def write_all(file: int, data: bytes) -> None:
    """Write all of `data`: write(2) may take less."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def sync_directory(path: Path) -> None:
    """Make the names in `path` durable."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
