"""Durations, sizes, name patterns as people write them in the configuration.

Each function takes what stood in the file and returns the value, or raises ValueError with a sentence that says what
is wrong and how it is written instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_SECONDS: Final = {"y": 365 * 86400, "w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION: Final = re.compile("".join(rf"(?:(?P<{unit}>[0-9]+){unit})?" for unit in _SECONDS) + r"\Z")

_BYTES: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
_SIZE: Final = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?P<unit>[KMGTP]?)(?:iB|B)?\Z")

_PERCENT: Final = re.compile(r"(?P<number>[0-9]{1,3}(?:\.[0-9]+)?) ?%\Z")

_GLOB: Final = re.compile(r"(?:[a-z0-9._*?-]|\[!?[a-z0-9._-]+\])+\Z")

# Beyond this a duration is a mistake of the keyboard; it also keeps sums of times far from overflow.
_LONGEST: Final = 100 * _SECONDS["y"]


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole, in percent."""

    percent: float

    def of(self, whole: int) -> int:
        """So much of it."""
        return int(whole * self.percent / 100)


def duration(value: object) -> float:
    """Seconds of "90s", "15m", "1h30m", "1d", "2w"; larger units come first, each at most once."""
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is not a duration: write it as text with a unit, such as {_like(value)}")
    match = _DURATION.match(value)
    if match is None or not value:
        raise ValueError(f"{_shown(value)} is not a duration: write it as 90s, 15m, 1h30m, 1d or 2w")
    seconds = sum(int(count) * _SECONDS[unit] for unit, count in match.groupdict().items() if count)
    if not 0 < seconds <= _LONGEST:
        raise ValueError(f"{_shown(value)} is out of range: durations are from 1s to 100y")
    return float(seconds)


def duration_or_off(value: object) -> float | None:
    """Like `duration`; "off" is None."""
    return None if value == "off" else duration(value)


def written(seconds: float) -> str:
    """`seconds` in a form that `duration` reads, in days and below: 604800 is "7d", 129600 is "1d12h"."""
    left, parts = int(seconds), []
    for unit in "dhms":
        count, left = divmod(left, _SECONDS[unit])
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"


def percent(value: object) -> float:
    """A share from 0 to 1 of "5%" or "12.5%"."""
    match = _PERCENT.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{_shown(value)} is not a share: write it as 50%")
    found = float(match["number"]) / 100
    if not 0 < found <= 1:
        raise ValueError(f"{_shown(value)} is out of range: a share is above 0% and at most 100%")
    return found


def percent_or_off(value: object) -> float | None:
    """Like `percent`; "off" is None."""
    return None if value == "off" else percent(value)


def size(value: object) -> int:
    """Bytes of 4096, "4096", "64K", "1.5GiB"; units are powers of 1024."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = _SIZE.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{_shown(value)} is not a size: write it as 500M, 20GiB or a number of bytes")
    found = int(float(match["number"]) * _BYTES[match["unit"]])
    if found < 1:
        raise ValueError(f"{_shown(value)} is out of range: a size is at least 1 byte")
    return found


def share_or_size(value: object) -> Share | int | None:
    """A size, or a part of the whole as "5%"; "off" is None."""
    if value == "off":
        return None
    if isinstance(value, str) and value.endswith("%"):
        return share(value)
    try:
        return size(value)
    except ValueError as error:
        raise ValueError(f"{error}, or as a part of the whole: 5%") from None


def share_or_count(value: object) -> Share | int | None:
    """A number, or a part of the whole as "5%"; "off" is None."""
    if value == "off":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, str) and value.endswith("%"):
        return share(value)
    raise ValueError(f"{_shown(value)} is neither a number nor a part of the whole: write it as 100000 or 5%")


def share(value: str) -> Share:
    """A part of the whole: "0.5%" to "50%"."""
    try:
        percent = float(value.removesuffix("%"))
    except ValueError:
        percent = 0.0
    if not 0 < percent <= 50:
        raise ValueError(f"{_shown(value)} is out of range: a part of the whole is more than 0% and at most 50%")
    return Share(percent)


def switch(value: object) -> bool:
    """A truth value, or "on" and "off"."""
    if isinstance(value, bool):
        return value
    if value in ("on", "off"):
        return value == "on"
    raise ValueError(f'must be "on" or "off", not {_shown(value)}')


def glob(value: object) -> str:
    """A pattern for names of hosts or modules: *, ? and [...] over the characters that names have."""
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {_shown(value)}")
    if not _GLOB.match(value):
        raise ValueError(
            f"{_shown(value)} is not a name pattern: names have a-z, 0-9, '.', '_', '-'; patterns also *, ? and [...]"
        )
    return value


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def _like(value: object) -> str:
    return f'"{value}s"' if isinstance(value, int) and not isinstance(value, bool) and value > 0 else '"15m"'
