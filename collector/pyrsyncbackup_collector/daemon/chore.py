"""What a chore is: a function that works on the store, stops when it is asked to, and returns what it did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyrsyncbackup_collector.config import Config
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.deadline import GRACE

# What a chore says while it works: a word for the phase, how much is done, and how much there is (0: not known).
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Work:
    """What a chore works with. It calls `cancel.check` often, which is its sign of life, and `tell` as it likes.

    What hangs is given up `grace` seconds after it was asked to end.
    """

    parts: Parts
    config: Config
    cancel: Cancel
    tell: Tell
    grace: float = GRACE


# Takes the options of the request, and returns a JSON document; its `problems`, where that is a number above zero,
# says that not all could be done. Raises BackupError.
Chore = Callable[[Work, Mapping[str, Any]], dict[str, Any]]
