"""Finds the snapshot that a person means: HOST/MODULE[@WHEN].

WHEN is one of:

- `latest`, also without any WHEN: the newest snapshot, complete or partial (`caution` has a word about a partial one);
- a snapshot's name, the beginning of one, or its sequence number: `000123-2026-11-22T214903Z`, `000123-2026`, `123`;
- an age: `3d`, `12h`, `2w`, `1d12h` (s, m, h, d, w, y): as it was that long ago;
- a date or time: `2026-11-22`, `2026-11-22 21:49`, `2026-11-22T21:49:03Z`, local where no zone is given: as it was at
  the end of that day, minute or second.

Ages and times mean the newest snapshot that is not later. The sequence number says which one is the newest. So where
the clock once ran backwards, a snapshot taken after that counts as newer, though its time may be smaller.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final

from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import NotFound, UsageError
from pyrsyncbackup_collector.store.snapshot import Snapshot

_PART: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_NAME: Final = re.compile(r"\d{6,}-[0-9TZ-]*")
_SEQUENCE: Final = re.compile(r"\d{1,18}")
_AGE: Final = re.compile(r"(?:\d{1,9}[smhdwy])+")
_AGE_PART: Final = re.compile(r"(\d+)([smhdwy])")
_TIME: Final = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:[T ](?P<time>\d\d:\d\d(?P<seconds>:\d\d(?P<fraction>\.\d{1,6})?)?)(?P<zone> ?(?:Z|[+-]\d\d:?\d\d))?)?"
)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_EXAMPLES: Final = "for example web1/etc, web1/etc@3d, web1/etc@2026-11-22 or web1/etc@000123"
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest snapshot of any state."""


@dataclass(frozen=True, slots=True)
class Named:
    """The one snapshot whose name begins so."""

    beginning: str


@dataclass(frozen=True, slots=True)
class Numbered:
    """The snapshot with this sequence number."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Ago:
    """The state so many seconds before now."""

    seconds: int


@dataclass(frozen=True, slots=True)
class At:
    """The state before this moment (seconds since 1970), which is the end of the day, minute or second asked for."""

    end: float


When = Latest | Named | Numbered | Ago | At


@dataclass(frozen=True, slots=True)
class Reference:
    """A module of a host, and which of its snapshots; `text` is WHEN as it was written."""

    host: str
    module: str
    when: When = Latest()
    text: str = "latest"

    def __str__(self) -> str:
        """As a person would write it."""
        return f"{self.host}/{self.module}@{self.text}"


def parse(text: str, zone: tzinfo | None = None) -> Reference:
    """Read HOST/MODULE[@WHEN]; `zone` is that of times without one (None: the local one). Raise UsageError."""
    where, at, when = text.partition("@")
    host, slash, module = where.partition("/")
    if not slash or not _PART.fullmatch(host) or not _PART.fullmatch(module):
        raise UsageError(
            f"{printable(text)!r} does not name a module of a host", f"write HOST/MODULE[@WHEN], {_EXAMPLES}"
        )
    if not at:
        return Reference(host, module)
    return Reference(host, module, parse_when(when, zone), when)


def parse_when(text: str, zone: tzinfo | None = None) -> When:
    """Read the part after the "@"; raise UsageError."""
    if text == "latest":
        return Latest()
    if _SEQUENCE.fullmatch(text):
        return Numbered(int(text))
    if _NAME.fullmatch(text):
        return Named(text)
    if _AGE.fullmatch(text):
        return Ago(sum(int(count) * _UNITS[unit] for count, unit in _AGE_PART.findall(text)))
    if match := _TIME.fullmatch(text):
        return _moment(match, zone)
    raise UsageError(
        f"{printable(text)!r} is no moment and no snapshot's name",
        "write latest, an age (3d), a date or time (2026-11-22 21:49), or what `pyrsyncbackup snapshots` shows",
    )


def parse_since(text: str, now: float, zone: tzinfo | None = None) -> float:
    """The begin of what an age or a date or time names, in seconds since 1970; raise UsageError."""
    if _AGE.fullmatch(text):
        return now - sum(int(count) * _UNITS[unit] for count, unit in _AGE_PART.findall(text))
    if match := _TIME.fullmatch(text):
        return _timestamp(match, zone, timedelta())
    raise UsageError(f"{printable(text)!r} is no moment", "write an age (1d, 12h) or a date or time (2026-11-22 21:49)")


def _moment(match: re.Match[str], zone: tzinfo | None) -> At:
    if not match["time"]:
        length = timedelta(days=1)
    elif not match["seconds"]:
        length = timedelta(minutes=1)
    elif not match["fraction"]:
        length = timedelta(seconds=1)
    else:
        length = timedelta(microseconds=1)
    return At(_timestamp(match, zone, length))


def _timestamp(match: re.Match[str], zone: tzinfo | None, later: timedelta) -> float:
    text = match["date"] + "T" + (match["time"] or "00:00") + (match["zone"] or "").strip()
    try:
        # Added before the zone is, so that a day ends at midnight also where it has 23 or 25 hours.
        moment = datetime.fromisoformat(text) + later
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone) if zone is not None else moment.astimezone()
        return moment.timestamp()
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{match[0]!r} is not a time: {error}", "write it as 2026-11-22 21:49") from error


def resolve(reference: Reference, snapshots: Sequence[Snapshot], now: float) -> Snapshot:
    """The snapshot meant, out of all of this module; `now` in seconds since 1970. Raise NotFound."""
    known = sorted(snapshots, key=lambda snapshot: snapshot.sequence)
    where = f"{reference.host}/{reference.module}"
    if not known:
        raise NotFound(f"there is no snapshot of {where}", f"make one with `pyrsyncbackup pull {where}`")
    match reference.when:
        case Latest():
            return known[-1]
        case Numbered(sequence):
            chosen = [each for each in known if each.sequence == sequence]
        case Named(beginning):
            chosen = [each for each in known if each.name.startswith(beginning)]
            if len(chosen) > 1 and chosen[0].name != beginning:
                names = _names(chosen)
                raise NotFound(
                    f"{where} has several snapshots whose names begin with {beginning}: {names}", "write more"
                )
        case Ago(seconds):
            return _newest([each for each in known if each.time <= now - seconds], known, reference)
        case At(end):
            return _newest([each for each in known if each.time < end], known, reference)
    if not chosen:
        raise NotFound(f"{where} has no snapshot {reference.text}", f"there is {_names(known)}")
    return chosen[0]


def caution(snapshot: Snapshot) -> str:
    """What the reader of this snapshot should know, or nothing."""
    if snapshot.state == "complete":
        return ""
    count = snapshot.totals.stale
    entries = "1 entry is" if count == 1 else f"{count:,} entries are"
    return f"snapshot {snapshot.name} is {snapshot.state}: {entries} of an earlier backup"


def _newest(chosen: list[Snapshot], known: list[Snapshot], reference: Reference) -> Snapshot:
    if chosen:
        return chosen[-1]
    where = f"{reference.host}/{reference.module}"
    oldest = min(known, key=lambda snapshot: snapshot.time)
    raise NotFound(f"{where} has no snapshot as old as {reference.text}", f"the oldest is {oldest.name}")


def _names(snapshots: list[Snapshot]) -> str:
    newest_first = [each.name for each in reversed(snapshots)]
    more = f" and {len(newest_first) - _SHOWN} more" if len(newest_first) > _SHOWN else ""
    return ", ".join(newest_first[:_SHOWN]) + more
