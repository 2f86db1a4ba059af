"""A zip archive with Unix modes, links, owners by number and UTF-8 names, by Python's own zipfile.

Zip has no holes, no hard links, no xattrs, no devices, and names that are text; its times end in 2107.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import BinaryIO, Final

import msgspec

from pyrsyncbackup_collector.entry import DIRECTORY, FILE, SYMLINK, Entry

Extents = list[tuple[int, int]]

_FORMATS: Final = {FILE: stat.S_IFREG, DIRECTORY: stat.S_IFDIR, SYMLINK: stat.S_IFLNK}
_MS_DOS_DIRECTORY: Final = 0x10
# Names longer than this do not fit the field that holds their length.
_MAX_NAME: Final = 65_535
_FIRST: Final = (1980, 1, 1, 0, 0, 0)
_LAST: Final = (2107, 12, 31, 23, 59, 58)
# A deflated member may be larger than its content; what comes near 4 GiB gets the large form.
_LARGE: Final = 4_000_000_000
# Members whose entries of the directory are packed together.
_BLOCK: Final = 1_000
_FACTS: Final = (
    *("filename", "date_time", "create_system", "create_version", "extract_version", "flag_bits", "compress_type"),
    *("external_attr", "extra", "header_offset", "CRC", "compress_size", "file_size"),
)


class ZipWriter:
    """Writes to `file`, which somebody else closes and which may be a pipe; see `archive.Writer`."""

    held = frozenset(_FORMATS)
    knows_holes = False
    knows_links = False
    knows_xattrs = False

    def __init__(self, file: BinaryIO) -> None:
        self._zip = _Zip(file)

    def cannot_hold(self, entry: Entry) -> str:
        """Names that are not text."""
        if entry.path_b64:
            return "a name that is not UTF-8"
        return "a name too long" if len(entry.path) >= _MAX_NAME else ""

    def add(
        self,
        entry: Entry,
        mode: int,
        xattrs: dict[str, bytes],
        size: int,
        content: Iterable[bytes],
        holes: Extents | None,
    ) -> None:
        """One member; xattrs have no place in it."""
        del xattrs, holes
        info = _info(entry, mode)
        if entry.type == SYMLINK:
            self._zip.writestr(info, entry.target, zipfile.ZIP_STORED)
            return
        with self._zip.open(info, "w", force_zip64=size > _LARGE) as member:
            for piece in content:
                member.write(piece)

    def link(self, entry: Entry, mode: int, xattrs: dict[str, bytes], first: bytes) -> None:
        """Never asked for: zip knows no links."""
        raise ValueError(entry.path, mode, xattrs, first)

    def end(self) -> None:
        """The directory of all members."""
        self._zip.close()


class _Zip(zipfile.ZipFile):
    """One that was not ended gets no directory when it is thrown away: its file is closed by then."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, "w", zipfile.ZIP_DEFLATED, allowZip64=True)
        # Both are zipfile's own: the directory is written from the first; the second knows names that came before.
        self.filelist = _Members()  # type: ignore[assignment]
        self.NameToInfo = _NoNames()

    def __del__(self) -> None:
        """Nothing."""


class _NoNames(dict[str, zipfile.ZipInfo]):
    """Remembers none: a snapshot has no name twice."""

    def __setitem__(self, name: str, info: zipfile.ZipInfo) -> None:
        """Nothing."""


class _Members:
    """What the directory at the end needs of each member, packed: of 30 bytes each where zipfile holds 600."""

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._last: list[zipfile.ZipInfo] = []

    def append(self, info: zipfile.ZipInfo) -> None:
        """One more, which is complete."""
        self._last.append(info)
        if len(self._last) == _BLOCK:
            facts = [[getattr(each, name) for name in _FACTS] for each in self._last]
            self._packed.append(zlib.compress(msgspec.msgpack.encode(facts), 1))
            self._last = []

    def __len__(self) -> int:
        return len(self._packed) * _BLOCK + len(self._last)

    def __iter__(self) -> Iterator[zipfile.ZipInfo]:
        for packed in self._packed:
            for facts in msgspec.msgpack.decode(zlib.decompress(packed)):
                info = zipfile.ZipInfo()
                for name, value in zip(_FACTS, facts, strict=True):
                    setattr(info, name, value)
                yield info
        yield from self._last


def _info(entry: Entry, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(entry.path_text + "/" * (entry.type == DIRECTORY), _dos_time(entry.mtime_s))
    info.create_system = 3  # Unix: the upper half of the attributes is a mode
    info.external_attr = (_FORMATS[entry.type] | mode) << 16
    if entry.type == DIRECTORY:
        info.external_attr |= _MS_DOS_DIRECTORY
    else:
        info.compress_type = zipfile.ZIP_DEFLATED
    # Info-ZIP's fields: the time in seconds since 1970, where it fits, and owner and group by number.
    if -(2**31) <= entry.mtime_s < 2**31:
        info.extra += struct.pack("<HHBi", 0x5455, 5, 1, entry.mtime_s)
    info.extra += struct.pack("<HHBBIBI", 0x7875, 11, 1, 4, entry.uid & 0xFFFFFFFF, 4, entry.gid & 0xFFFFFFFF)
    return info


def _dos_time(seconds: int) -> tuple[int, int, int, int, int, int]:
    try:
        moment = datetime.fromtimestamp(seconds, tz=UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        return _LAST if seconds > 0 else _FIRST
    written = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)
    return min(max(written, _FIRST), _LAST)
