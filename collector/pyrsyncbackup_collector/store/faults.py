"""What the operating system says about the store, as the errors of this project: the one place that translates."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import TracebackType

from pyrsyncbackup_collector.errors import StoreError, StoreFull, StoreMissing, StoreReadOnly

NOT_MOUNTED = (
    "is its file system mounted? Where it is lost, `pyrsyncbackup recover --from COPY` makes it anew; where there was "
    "none, `pyrsyncbackup init DIR`"
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENODEV, errno.ENOTCONN})


def translate(fault: OSError, place: Path | str) -> StoreError:
    """The StoreError for `fault` that happened at `place`."""
    words = os.strerror(fault.errno) if fault.errno else str(fault)
    cause = f"the store: {words}: {place}"
    if fault.errno in _FULL:
        return StoreFull(cause, "make room on its file system, or prune")
    if fault.errno in _READ_ONLY:
        return StoreReadOnly(cause, "mount it writable, and let the collector's user own it")
    if fault.errno in _GONE:
        return StoreMissing(cause, NOT_MOUNTED)
    return StoreError(cause)


class translated:  # noqa: N801 - reads as a word in `with translated(path):`
    """Context in which an OSError becomes a StoreError that names `place`."""

    def __init__(self, place: Path | str) -> None:
        self._place = place

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None) -> None:
        """Translate."""
        if isinstance(fault, OSError):
            raise translate(fault, self._place) from fault
