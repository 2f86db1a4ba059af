"""How a snapshot comes to be: a draft of its lines, the manifest under its final name, its line in the log.

The order of the steps is what makes a crash leave either no snapshot or a whole one. Each step is announced by name
before it is done, so that a test can end the process there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from pyrsyncbackup_collector.entry import Entry, printable
from pyrsyncbackup_collector.errors import BackupError, StoreError
from pyrsyncbackup_collector.store.faults import translated
from pyrsyncbackup_collector.store.layout import TEMPORARY, sync_directory
from pyrsyncbackup_collector.store.manifest import (
    Base,
    BodyWriter,
    Count,
    Header,
    checked,
    merged,
    overlay,
    read_body,
    write_header,
)
from pyrsyncbackup_collector.store.snapshot import Change, Totals

STEPS: Final = ("draft", "manifest", "sync manifest", "link", "sync directory", "remove draft", "log", "head", "done")
Step = Callable[[str], None]
# A delta of more than a quarter of its base's entries gives way to a new full manifest.
DELTA_SHARE: Final = 4
_COPY: Final = 1 << 20


def no_step(_: str) -> None:
    """Announce to nobody."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Lines that lie ready in the file `body`, without a header. `base` is None for a full manifest."""

    body: Path
    lines: int
    totals: Totals
    base: Base | None


@dataclass(frozen=True, slots=True)
class Foundation:
    """What a new snapshot stands on: the full manifest, and the changes from it to the newest snapshot."""

    base: Base
    size: int
    entries: Callable[[], Iterator[Entry]]
    changes: Callable[[], Iterator[Change]]


def unfit(cause: str) -> BackupError:
    """What a commit raises for entries that are no sound snapshot."""
    return StoreError(f"not committed: {cause}")


def draft_first(directory: Path, changes: Iterable[Change]) -> Draft:
    """A full manifest from the changes to nothing."""
    return _draft_full(directory, _additions(changes))


def draft_next(directory: Path, foundation: Foundation, changes: Iterable[Change]) -> Draft:
    """A delta to the foundation's full manifest, or a new full one where the delta would be too large."""
    body = directory / f"{TEMPORARY}delta"
    count = Count()
    with _new_file(body) as file:
        writer = BodyWriter(file)
        together = merged(foundation.changes(), changes)
        entries = overlay(foundation.entries(), together, writer.add)
        for _ in count.through(checked(entries, "the new snapshot", unfit)):
            pass
        writer.close()
    if writer.lines * DELTA_SHARE <= foundation.size:
        return Draft(body, writer.lines, count.totals(), foundation.base)
    with body.open("rb") as file:
        delta = read_body(file, str(body), writer.lines)
        full = _draft_full(directory, overlay(foundation.entries(), delta))
    body.unlink()
    return full


def publish(directory: Path, file_name: str, header: Header, draft: Draft, step: Step) -> str:
    """Give the draft its header and its final name, durably, never replacing another file; return its SHA-256."""
    whole = directory / f"{TEMPORARY}{file_name}"
    with translated(directory):
        step("manifest")
        with _new_file(whole) as file:
            write_header(file, header)
            with draft.body.open("rb") as body:
                while block := body.read(_COPY):
                    file.write(block)
            step("sync manifest")
            file.flush()
            os.fsync(file.fileno())
        with whole.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        step("link")
        try:
            (directory / file_name).hardlink_to(whole)
        except FileExistsError:
            raise StoreError(f"not committed: there is a manifest {directory / file_name} already") from None
        try:
            step("sync directory")
            sync_directory(directory)
            step("remove draft")
            whole.unlink()
            draft.body.unlink()
        except BaseException:
            (directory / file_name).unlink(missing_ok=True)
            raise
    return digest


def discard_drafts(directory: Path) -> None:
    """Remove what unfinished commits left in a module's directory."""
    with translated(directory), os.scandir(directory) as items:
        drafts = [directory / item.name for item in items if item.name.startswith(TEMPORARY)]
        for draft in drafts:
            draft.unlink(missing_ok=True)


def _draft_full(directory: Path, entries: Iterable[Entry]) -> Draft:
    body = directory / f"{TEMPORARY}full"
    count = Count()
    with _new_file(body) as file:
        writer = BodyWriter(file)
        writer.extend(count.through(checked(entries, "the new snapshot", unfit)))
        writer.close()
    return Draft(body, writer.lines, count.totals(), None)


def _additions(changes: Iterable[Change]) -> Iterator[Entry]:
    for change in changes:
        if change.entry is None:
            raise StoreError(f"not committed: nothing to remove in a first snapshot: {printable(change.path[:200])}")
        yield change.entry


def _new_file(path: Path) -> BinaryIO:
    path.unlink(missing_ok=True)
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
