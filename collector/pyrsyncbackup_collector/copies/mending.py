"""What `verify` found not to be sound in a copy is brought again from the source, over what lies there.

Nothing is removed: what the source has no sound one of stays as it is, and is told as lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from pyrsyncbackup_collector.copies import form
from pyrsyncbackup_collector.copies.bring import Bringer
from pyrsyncbackup_collector.copies.form import State
from pyrsyncbackup_collector.copies.report import Round
from pyrsyncbackup_collector.errors import UsageError
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.faults import translated
from pyrsyncbackup_collector.store.findings import LOG, MANIFEST, OBJECT
from pyrsyncbackup_collector.store.store import Store

_HEXADECIMAL: Final = frozenset("0123456789abcdef")
_GONE: Final = "damaged in the copy, and the source has it no more"


class Unsound(msgspec.Struct, frozen=True):
    """What to bring again: digests of objects, snapshots as HOST/MODULE@NAME, modules whose logs do not fit."""

    objects: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()


NOTHING: Final = Unsound()


class _Finding(msgspec.Struct):
    what: str
    name: str


class _Findings(msgspec.Struct):
    findings: list[_Finding]


def parse(document: bytes, source: str) -> Unsound:
    """From what `verify --json` wrote. Raises UsageError: it may have come from anywhere."""
    try:
        findings = msgspec.json.decode(document, type=_Findings).findings
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise UsageError(
            f"{source} is not what `verify --json` writes", "pyrsyncbackup verify --from COPY --json > FILE"
        ) from None
    named: dict[str, list[str]] = {OBJECT: [], MANIFEST: [], LOG: []}
    for one in findings:
        if not _is_named(one):
            raise UsageError(f"{source} names what no copy has", "pyrsyncbackup verify --from COPY --json > FILE")
        named[one.what].append(one.name)
    return Unsound(tuple(named[OBJECT]), tuple(named[MANIFEST]), tuple(named[LOG]))


def _is_named(one: _Finding) -> bool:
    if one.what == OBJECT:
        return len(one.name) == 64 and set(one.name) <= _HEXADECIMAL
    host, module, stem = _apart(one.name)
    if not (layout.NAME.fullmatch(host) and layout.NAME.fullmatch(module)):
        return False
    return one.what == LOG if not stem else one.what == MANIFEST and bool(layout.parse_manifest(f"{stem}.full.zst"))


def _apart(name: str) -> tuple[str, str, str]:
    whole, _, stem = name.partition("@")
    host, _, module = whole.partition("/")
    return host, module, stem


def bring_objects(unsound: Unsound, bringer: Bringer, report: Round) -> None:
    """Those objects that the source has sound, over what lies in the copy."""
    rotten = bringer.bring_again(unsound.objects, report)
    report.lost += [(f"object {digest}", f"{_GONE}: {why}") for digest, why in rotten.items()]


def manifests(unsound: Unsound, store: Store, report: Round) -> dict[str, Path]:
    """The store's files for those of the copy that are to be replaced, each as its log names it."""
    found: dict[str, Path] = {}
    for snapshot in unsound.snapshots:
        files = dict(_files(store, snapshot))
        if not files:
            report.lost.append((snapshot, _GONE))
        found |= files
    report.repaired += len(found)
    return found


def _files(store: Store, snapshot: str) -> Iterator[tuple[str, Path]]:
    host, module, stem = _apart(snapshot)
    directory = layout.module_directory(store.path, host, module)
    for line in store.log(host, module).read().lines:
        place = directory / line.file
        if line.op != "commit" or line.file.partition(".")[0] != stem or not layout.parse_manifest(line.file):
            continue
        with translated(place):
            data = place.read_bytes() if place.exists() else b""
        if hashlib.sha256(data).hexdigest() == line.manifest:
            yield form.module_file(host, module, line.file), place


def forget_logs(unsound: Unsound, state: State) -> None:
    """Let the round that follows bring them again."""
    for name in unsound.logs:
        host, module, _ = _apart(name)
        state.of(host, module).log = -1
