"""Which policy counts for one module of one host: a pure function over what is written and what the host proposes.

From weakest to strongest: built-in defaults, the module's hints, [policy], each matching [[rule]] in its order; for
`bwlimit` also the host's own. A key counts as a whole: a later `keep` replaces an earlier one. Hints come from the
host, so they are bounded, and none for `keep` is taken: a host that was taken over cannot shorten its history.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol

from pyrsyncbackup_collector.config import quantities
from pyrsyncbackup_collector.config.calendar import Calendar
from pyrsyncbackup_collector.config.model import Config, Keep, PolicySettings
from pyrsyncbackup_collector.config.spans import Hours, Span

# What happens where nobody wrote anything.
DEFAULT_CHECK: Final = 15 * 60.0
DEFAULT_PULL: Final = 86400.0
DEFAULT_FREEZE: Final = 0.5

# Keys for which None is a value: "off".
_MAY_BE_OFF: Final = frozenset({"check", "freeze"})

KEEP_ALL: Final = Keep()

# A hint below this would let a host keep the collector busy, one above would let it hide from being listed.
_SHORTEST_HINT: Final = 60.0
_LONGEST_HINT: Final = 30 * 86400.0


class Hints(Protocol):
    """What a module's definition proposes, as it came from the host."""

    @property
    def check(self) -> str | None:
        """Duration between checks, as text."""
        ...

    @property
    def pull(self) -> str | None:
        """Duration between full listings, as text."""
        ...


@dataclass(frozen=True, slots=True)
class Policy:
    """What counts for one module. Durations in seconds, `bwlimit` in bytes a second.

    `check` None: no checks, it is pulled by `pull` only, an interval or moments of the calendar of `zone` (None: the
    machine's). Pulls begin in `windows`, if there are any, and in no blackout. `freeze` is the share of a module that
    may be gone or changed at once before its retention stops; None: any. `share` says whether content that other hosts
    published may stand in for a transfer, `mirror` whether the newest state is kept as a plain tree too, `validators`
    whether the programs that modules name are run in restore drills.
    """

    check: float | None = DEFAULT_CHECK
    pull: float | Calendar = DEFAULT_PULL
    zone: str | None = None
    windows: tuple[Span, ...] = ()
    blackouts: tuple[Span, ...] = ()
    keep: Keep = KEEP_ALL
    freeze: float | None = DEFAULT_FREEZE
    share: bool = True
    validators: bool = True
    enabled: bool = True
    mirror: bool = False
    bwlimit: int | None = None

    @property
    def hours(self) -> Hours:
        """When its pulls may begin."""
        return Hours(self.zone, self.windows, self.blackouts)


def effective(config: Config, host: str, module: str, hints: Hints | None = None) -> Policy:
    """The policy of `module` on `host`; a host that is not configured gets rules by its name alike."""
    values: dict[str, Any] = dict(_hinted(hints)) if hints else {}
    for settings in _written(config, host, module):
        values.update(
            (key, value)
            for key in PolicySettings.model_fields
            if key in settings.model_fields_set
            and ((value := getattr(settings, key)) is not None or key in _MAY_BE_OFF)
        )
    own = config.by_name.get(host)
    if own is not None and own.bwlimit is not None:
        values["bwlimit"] = own.bwlimit
    return Policy(**values)


def retention_rules(config: Config) -> str:
    """All that is written of what stays, as text: two configurations with the same keep the same of the same store."""
    keys = {"hosts", "modules", "keep", "freeze", "zone"}
    written = (config.policy, *config.rules)
    return json.dumps([one.model_dump(include=keys, exclude_unset=True) for one in written], sort_keys=True)


def _written(config: Config, host: str, module: str) -> Iterator[PolicySettings]:
    yield config.policy
    for rule in config.rules:
        if fnmatchcase(host, rule.hosts) and fnmatchcase(module, rule.modules):
            yield rule


def _hinted(hints: Hints) -> Iterator[tuple[str, float]]:
    for key, text in (("check", hints.check), ("pull", hints.pull)):
        if text:
            try:
                seconds = quantities.duration(text)
            except ValueError:
                continue
            yield key, min(max(seconds, _SHORTEST_HINT), _LONGEST_HINT)
