"""Which snapshots a second copy has: those of its own list, whatever the source pruned since.

The logs of a copy are its source's, so that their signatures count. A prune in them does not concern the copy; what the
copy's own rules removed is no snapshot of it any more, though its manifest may still be there as the base of another.
"""

from __future__ import annotations

import contextlib
import zlib
from pathlib import Path
from typing import Final

import msgspec

from pyrsyncbackup_collector.store.faults import translated
from pyrsyncbackup_collector.store.log import Line, LogContent

STATE: Final = "copy/state.json.gz"
# Heads that are on their way: each is said here before its log comes.
COMING: Final = "copy/heads.json"
GZIP: Final = 31
MAX_STATE: Final = 1 << 30


# Heads as they are in their files, by HOST/MODULE.
Coming = dict[str, bytes]


class _Held(msgspec.Struct, array_like=True):
    sequence: int
    name: str


class _Module(msgspec.Struct):
    held: list[_Held] = []
    hidden: frozenset[str] = frozenset()


class _State(msgspec.Struct):
    modules: dict[str, _Module] = {}


class CopiedSnapshots:
    """What a copy says of itself; manifests that are `hidden` there (by stem) are no snapshots.

    With a `fault` it cannot say what it must have: what is there can be read, and not be verified.
    """

    def __init__(self, state: _State, coming: Coming, fault: str = "") -> None:
        self._state, self._coming, self.fault = state, coming, fault

    def modules(self) -> list[tuple[str, str]]:
        """Host and module of all that it must have snapshots of."""
        keys = (key.partition("/") for key, module in sorted(self._state.modules.items()) if module.held)
        return [(host, module) for host, _, module in keys]

    def names(self, host: str, module: str) -> dict[int, str]:
        """The module's snapshots that it must have, by sequence number, whatever a log says."""
        return {one.sequence: one.name for one in self._state.modules.get(f"{host}/{module}", _Module()).held}

    def coming_head(self, host: str, module: str) -> bytes | None:
        """The head that was to come after the module's log, if a round ended between the two."""
        return self._coming.get(f"{host}/{module}")

    def committed(self, host: str, module: str, content: LogContent) -> dict[int, Line]:
        """Commit lines by sequence number, pruned in the source or not, of all but the hidden."""
        hidden = self._state.modules.get(f"{host}/{module}", _Module()).hidden
        lines = (line for line in content.lines if line.op == "commit")
        return {line.sequence: line for line in lines if line.file.partition(".")[0] not in hidden}

    def held(self, host: str, module: str, content: LogContent) -> dict[int, Line]:
        """Commit lines of the snapshots that the copy has, and must have."""
        held = {one.sequence for one in self._state.modules.get(f"{host}/{module}", _Module()).held}
        return {line.sequence: line for line in content.lines if line.op == "commit" and line.sequence in held}


def read_copied(path: Path) -> CopiedSnapshots:
    """Of the copy in the directory `path`. A list that is lost is its `fault`: after a disaster nobody mends it."""
    state, fault, coming = _State(), "", Coming()
    data = _read(path / STATE)
    try:
        text = zlib.decompressobj(wbits=GZIP).decompress(data or b"", MAX_STATE)
        state = msgspec.json.decode(text, type=_State)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as wrong:
        fault = f"{STATE} is missing" if data is None else f"{STATE} cannot be read: {wrong}"
    if heads := _read(path / COMING):
        # Those that do not fit are as good as none: the logs have their own.
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            coming = msgspec.json.decode(heads, type=Coming)
    return CopiedSnapshots(state, coming, fault)


def _read(file: Path) -> bytes | None:
    with translated(file):
        try:
            return file.read_bytes()
        except FileNotFoundError:
            return None
