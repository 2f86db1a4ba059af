"""Verification as work on the store: reading logs, manifests and objects again in their turn, and what follows.

What is wrong with logs and manifests is recorded, and stays as it is: the next pull of the module does not rely on it.

A damaged object loses its row first, so that nobody can claim it from then on, and is moved out of the way then: a
crash between the two leaves a file without a row, which the next who has the content replaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.config.model import VERIFY_TURNS
from pyrsyncbackup_collector.daemon import absent, unsound
from pyrsyncbackup_collector.daemon.chore import Work
from pyrsyncbackup_collector.entry import Entry, printable
from pyrsyncbackup_collector.errors import StoreDamaged
from pyrsyncbackup_collector.store import aside
from pyrsyncbackup_collector.store.garbage import PARTS
from pyrsyncbackup_collector.store.prune import with_room
from pyrsyncbackup_collector.store.rehash import NO_FILE, Examined, Rehash

# Objects that are taken from the catalog, and recorded as read, at once: a transaction of a millisecond.
_BATCH: Final = 200
# What counts for the pace: an entry of a manifest is so many bytes, read by the thousand; a manifest so many more.
_ENTRY: Final = 200
_ENTRIES: Final = 1000
_MANIFEST: Final = 10_000
# A large object is read in pieces; a pause shorter than this is not worth a system call.
_PAUSE: Final = 0.02


def verify(work: Work, _: Mapping[str, Any]) -> dict[str, Any]:
    """Read again all logs, manifests and objects whose turn it is, at the configured rate; set damaged objects aside.

    Goes on where it was stopped: what was read is recorded as it goes, the oldest comes first.
    """
    upkeep, parts = work.config.upkeep, work.parts
    every = upkeep.verify or 0.0
    # Those whose time comes before the next run are due in this one.
    before = parts.clock.now() - (every - every / VERIFY_TURNS)
    pace = _Pace(work, upkeep.verify_rate)
    document = {"objects": 0, "bytes": 0, "damaged": 0, "logs": 0, "manifests": 0, "findings": 0}
    _modules(work, before, pace, document)

    def looked(part: int) -> None:
        work.cancel.check()
        work.tell("files", part, PARTS)

    document["damaged"] += absent.note(parts.store, parts.catalog, range(PARTS), looked)
    with Rehash(parts.store.objects.place) as rehash:
        while batch := parts.catalog.due_objects(before, _BATCH):
            done: list[str] = []
            try:
                for sha256, stored_size in batch:
                    work.cancel.check()
                    # A content in chunks has no file of its own; its chunks have their turns.
                    found = rehash.one(sha256, pace.took) if stored_size else Examined(sha256, "", "", 0)
                    if found.kind:
                        document["damaged"] += _handle(work, found)
                    done.append(sha256)
                    document["objects"] += 1
                    document["bytes"] += stored_size
            finally:
                parts.catalog.verified(done)
            work.tell("objects", document["objects"], 0)
    return document


def _modules(work: Work, before: float, pace: _Pace, document: dict[str, int]) -> None:
    """Logs and manifests, a module at a time."""
    due = work.parts.catalog.due_modules(before)
    entries = 0

    def read(_: Entry) -> None:
        nonlocal entries
        entries += 1
        if entries % _ENTRIES == 0:
            pace.took(_ENTRIES * _ENTRY)

    for number, (host, module) in enumerate(due):
        work.cancel.check()
        work.tell("manifests", number, len(due))
        manifests, found = unsound.look(work.parts.store, work.parts.catalog, host, module, read)
        pace.took(manifests * _MANIFEST)
        document["logs"] += 1
        document["manifests"] += manifests
        document["findings"] += len(found)


def handle_damage(work: Work, options: Mapping[str, Any]) -> dict[str, Any]:
    """Look again at the objects that `options["digests"]` names, and set aside those that are damaged.

    So it does at the logs and manifests of `options["modules"]`, pairs of names, and records what is wrong with them.
    What a command found is not believed: it may be long ago. One that is awaited and lies there, sound, is known again.
    The document says what became of each: `damaged`, or `sound`.
    """
    digests: Sequence[str] = options.get("digests", ())
    damaged: list[str] = []
    sound: list[str] = []
    with Rehash(work.parts.store.objects.place) as rehash:
        for number, sha256 in enumerate(digests):
            work.cancel.check()
            work.tell("objects", number, len(digests))
            try:
                found = rehash.one(str(sha256))
            except StoreDamaged:
                continue  # no digest
            if found.kind and _handle(work, found):
                damaged.append(found.sha256)
                continue
            sound.append(found.sha256)
            if not found.kind:
                _know_again(work, found)
    for host, module in options.get("modules", ()):
        work.cancel.check()
        unsound.look(work.parts.store, work.parts.catalog, str(host), str(module), lambda _: None)
    return {"damaged": damaged, "sound": sound}


def _know_again(work: Work, found: Examined) -> None:
    """One that was awaited and lies there now, taken from a second copy perhaps."""
    store, catalog = work.parts.store, work.parts.catalog
    store.objects.sync()
    if catalog.put_back(found.sha256, found.size, store.objects.stored_size(found.sha256)):
        logs.get().info("object is there again", sha256=found.sha256)


def _handle(work: Work, found: Examined) -> bool:
    """Record one damaged object and set it aside; whether it was one still."""
    store, catalog = work.parts.store, work.parts.catalog
    place = store.objects.place(found.sha256)
    if not catalog.damage_found(found.sha256, found.kind, found.cause, lambda: aside.is_same(place, found.file)):
        return False
    moved = None
    if found.file != NO_FILE:
        # An older copy of the catalog still takes it for known.
        with_room(store.reserve, lambda: store.objects.removals.begin(catalog))
        moved = aside.set_aside(store.path, place, found.sha256, found.file)
    fields = {"set_aside": str(moved)} if moved else {}
    logs.get().error("object is damaged", sha256=found.sha256, kind=found.kind, cause=printable(found.cause), **fields)
    return True


class _Pace:
    """Holds reading back to so many bytes a second, and ends it when stopping is asked for."""

    def __init__(self, work: Work, rate: int) -> None:
        self._clock, self._cancel, self._rate = work.parts.clock, work.cancel, rate
        self._free = self._clock.monotonic()

    def took(self, size: int) -> None:
        """So many bytes were read."""
        self._cancel.check()
        now = self._clock.monotonic()
        self._free = max(self._free, now - 1.0) + size / self._rate
        if self._free - now > _PAUSE:
            self._cancel.wait(self._free - now)
