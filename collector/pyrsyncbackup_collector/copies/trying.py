"""Trying a configured copy out: whether it can be reached, is the store's own, and takes what is brought.

A small file is written there and removed again; nothing else is changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from typing import Final

from pyrsyncbackup_collector.config import Config, CopyConfig
from pyrsyncbackup_collector.config.copies import DirectoryPlace
from pyrsyncbackup_collector.copies import form, opening
from pyrsyncbackup_collector.copies.replicate import must_be_ours, replace
from pyrsyncbackup_collector.copies.target import Target
from pyrsyncbackup_collector.errors import CopyError, CopyRefused, CopyUnreachable
from pyrsyncbackup_collector.store.store import Store

# Never read by anybody; one name, so that what a kill left is written over.
TRIAL: Final = "copy/trial"


def try_out(config: Config, copy: CopyConfig, store: Store, check: Callable[[], None]) -> str:
    """A few words about a copy that works; raises CopyError for one that does not, after one try."""
    seal = opening.seal(config, copy)

    def no_wait(_: float) -> None:
        check()

    with closing(opening.open_target(config, copy, check, no_wait, patient=False)) as target, opening.stage() as stage:
        must_be_ours(target, store, seal)
        state = form.read_state(target.read(form.STATE), target.where)
        replace(target, stage, {TRIAL: b"This file shows that the copy can be written to.\n"})
        _remove(target)
    held = sum(len(module.held) for module in state.modules.values())
    words = [target.where, f"{held:,} snapshots", "can be written"]
    if copy.encrypt_to:
        words.append("encrypted")
    elif (copy.endpoint or "").startswith("http://"):
        words.append("in the clear: whoever is on the way can read it")
    if isinstance(copy.to, DirectoryPlace) and _same_disk(copy.to, store):
        words.append("on the same file system as the store: it is lost with that")
    return ", ".join(words)


def _remove(target: Target) -> None:
    try:
        target.delete([TRIAL])
    except CopyUnreachable:
        raise
    except CopyError as fault:
        raise CopyRefused(
            f"{target.where} takes files, and removes none: {fault.cause}",
            "without that neither `keep` nor mending works: let this account delete there",
        ) from fault


def _same_disk(place: DirectoryPlace, store: Store) -> bool:
    try:
        return os.stat(place.path).st_dev == os.stat(store.path).st_dev  # noqa: PTH116 - one line for both
    except OSError:
        return False
