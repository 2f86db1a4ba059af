"""Reading the copy's own lists of objects, many at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from pyrsyncbackup_collector.copies import form
from pyrsyncbackup_collector.copies.form import Refs
from pyrsyncbackup_collector.copies.seal import Seal
from pyrsyncbackup_collector.copies.target import Target

# One list has 32 bytes for each object of a snapshot.
_AT_ONCE: Final = 500


def read(target: Target, seal: Seal, stage: Path, names: Sequence[str]) -> Iterator[tuple[str, Refs | None]]:
    """Each of the named lists; None for one that is not there. Raises CopyDamaged."""
    todo = iter(names)
    while some := list(islice(todo, _AT_ONCE)):
        root = stage / "fetched"
        root.mkdir(mode=0o700)
        try:
            target.fetch(root, some)
            for name in some:
                file = root / name
                if not file.exists():
                    yield name, None
                else:
                    yield name, form.decode_refs(seal.unwrap_refs(file.read_bytes(), name), f"{target.where}: {name}")
        finally:
            shutil.rmtree(root, ignore_errors=True)
