"""Making a copy: its own description in an empty place, last of all; from then on it is known as a copy."""

from __future__ import annotations

import uuid
from importlib import resources
from pathlib import Path

import msgspec

from pyrsyncbackup_collector.copies import form
from pyrsyncbackup_collector.copies.replicate import replace
from pyrsyncbackup_collector.copies.seal import Seal, Sealed
from pyrsyncbackup_collector.copies.target import Target
from pyrsyncbackup_collector.errors import CopyError
from pyrsyncbackup_collector.store import layout

# What a file system has of its own.
_FOREIGN_BUT_FINE = "lost+found"


def found(target: Target, source: str, seal: Seal, stage: Path) -> bool:
    """Make an empty copy of the store with the id `source`; False if it is there already. Raises CopyError."""
    there = target.read(layout.FORMAT)
    if there is not None:
        known = form.decode_format(there, target.where)
        if known.copy_of == source and known.sealed == seal.kind:
            return False
        what = "a copy of another store, or of another kind" if known.copy_of else "a store"
        raise CopyError(f"{target.where} is {what} already", "name another place in `to`")
    # A try that was cut short left these; names.age is made anew with them.
    own = {"README.txt", form.NAMES, form.STATE}
    foreign = (item.name for item in target.walk("") if item.name not in own)
    if first := next((name for name in foreign if not name.startswith(_FOREIGN_BUT_FINE)), None):
        raise CopyError(f"{target.where} is not empty: it holds {first!r}", "name an empty or a new place in `to`")
    files = {"README.txt": _readme(seal), form.STATE: form.State().encode()}
    if isinstance(seal, Sealed):
        files[form.NAMES] = seal.names()
    replace(target, stage, files)
    value = layout.Format(layout.FORMAT_NAME, layout.FORMAT_VERSION, uuid.uuid4().hex, source, seal.kind)
    replace(target, stage, {layout.FORMAT: msgspec.json.encode(value) + b"\n"})
    return True


def _readme(seal: Seal) -> bytes:
    if seal.kind:
        return resources.files(__package__).joinpath("README-sealed.txt").read_bytes()
    return resources.files("pyrsyncbackup_collector.store").joinpath("README.txt").read_bytes()
