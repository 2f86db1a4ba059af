"""Objects that the catalog knows and that have no file: nobody may claim them, and whoever has the content sends it.

Directories are read, no file is opened, so all are looked at in some seconds; what files hold is for `verifying`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.errors import StoreMissing
from pyrsyncbackup_collector.store.faults import NOT_MOUNTED
from pyrsyncbackup_collector.store.findings import MISSING
from pyrsyncbackup_collector.store.garbage import PARTS
from pyrsyncbackup_collector.store.store import Store

_CAUSE: Final = "its file is not there"
# Of more in one directory only the number is told.
_TOLD: Final = 3


def lost_directories(store: Store) -> list[int]:
    """The numbers of those of the 256 directories of objects that are not there.

    Raises StoreMissing if none is: that is a file system that is not mounted, not a loss of objects.
    """
    lost = [part for part in range(PARTS) if not (store.objects.path / f"{part:02x}").is_dir()]
    if len(lost) == PARTS:
        raise StoreMissing(f"there are no objects in {store.objects.path}", NOT_MOUNTED)
    return lost


def note(store: Store, catalog: Catalog, parts: Iterable[int], tick: Callable[[int], None] = lambda _: None) -> int:
    """Record the missing ones of these parts as damaged; how many. `tick` is told each part, and may raise."""
    lost_directories(store)
    return sum(_note_part(store, catalog, part, tick) for part in parts)


def _note_part(store: Store, catalog: Catalog, part: int, tick: Callable[[int], None]) -> int:
    tick(part)
    names, _ = store.objects.names(part)
    # Asked after the directory was read: what is written or removed meanwhile is looked at once more.
    found = [
        sha256
        for sha256 in sorted(catalog.with_file_in(part) - names)
        if catalog.damage_found(sha256, MISSING, _CAUSE, partial(_is_missing, store, sha256))
    ]
    for sha256 in found[:_TOLD]:
        logs.get().error("object is damaged", sha256=sha256, kind=MISSING, cause=_CAUSE)
    if len(found) > _TOLD:
        logs.get().error("more objects are missing", directory=f"objects/{part:02x}", objects=len(found) - _TOLD)
    return len(found)


def _is_missing(store: Store, sha256: str) -> bool:
    return not store.objects.stored_size(sha256)
