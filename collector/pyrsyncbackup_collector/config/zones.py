"""Time zones by their IANA names, and the machine's own; from the system's database, else from the tzdata package.

Which zone counts for what is decided by `policy`.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import zoneinfo
from datetime import UTC, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import Final

_LOCALTIME: Final = Path("/etc/localtime")


def zone_name(value: object) -> str:
    """The IANA name of a zone, as written; raises ValueError with a suggestion for what is none."""
    if not isinstance(value, str):
        raise ValueError('must be the name of a time zone as text, such as "Europe/Berlin"')
    if _named(value) is None:
        known = {name.lower(): name for name in zoneinfo.available_timezones()}
        near = difflib.get_close_matches(value.lower(), known, n=1)
        likely = f'did you mean "{known[near[0]]}"?' if near else 'it is written like "Europe/Berlin" or "UTC"'
        raise ValueError(f'"{value}" is not a time zone; {likely}')
    return value


@lru_cache(maxsize=64)
def zone_of(name: str | None) -> tzinfo:
    """The zone of that name; None: the machine's own, as it was when it was asked for first."""
    return (_named(name) if name else _local()) or UTC


def _named(name: str) -> tzinfo | None:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a directory of zones
        return None


def _local() -> tzinfo | None:
    """As the C library finds it: TZ, then /etc/localtime."""
    if found := _named(os.environ.get("TZ", "").lstrip(":") or "."):
        return found
    # By its name if the link has one, so that `schedule` can show it.
    _, _, name = os.path.realpath(_LOCALTIME).rpartition("zoneinfo/")
    if found := _named(name or "."):
        return found
    with contextlib.suppress(OSError, ValueError), _LOCALTIME.open("rb") as file:
        return zoneinfo.ZoneInfo.from_file(file)
    return None
