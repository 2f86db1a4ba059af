"""Numbers as people read them: sizes, counts, durations, ages, moments. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from pyrsyncbackup_collector.clock import iso as iso

_STEPS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SPANS = ((86400 * 365, "y"), (86400 * 7, "w"), (86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def size(amount: float) -> str:
    """Bytes in binary units with three digits: 17 B, 1.5 KiB, 230 MiB."""
    if amount < 1024:
        return f"{int(amount)} B"
    value, steps = amount / 1024, iter(_STEPS)
    unit = next(steps)
    # 1023.5 would be printed as 1024, which is the next unit's 1.0.
    while value >= 1023.5:
        value, unit = value / 1024, next(steps)
    return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:.1f} {unit}"


def rate(amount: float, seconds: float) -> str:
    """Bytes per second."""
    return f"{size(amount / seconds)}/s" if seconds > 0 else "-"


def number(count: int) -> str:
    """A count with thousands apart: 1,234,567."""
    return f"{count:,}"


def counted(count: int, noun: str) -> str:
    """`1 file`, `2 files`, `3 directories`."""
    if count == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {plural}"


def span(seconds: float) -> str:
    """A duration in its largest unit: 40s, 12m, 3h, 5d, 2w, 1y."""
    for length, unit in _SPANS:
        if seconds >= length * (2 if unit in "wy" else 1):
            return f"{int(seconds // length)}{unit}"
    return "0s"


def took(seconds: float) -> str:
    """How long a piece of work took: 8 ms, 1.4 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def ago(moment: float | None, now: float) -> str:
    """`3h ago`, `in 5m`, `just now`, `never`."""
    if moment is None:
        return "never"
    if abs(now - moment) < 1:
        return "just now"
    return f"{span(now - moment)} ago" if now > moment else f"in {span(moment - now)}"


def local(moment: float) -> str:
    """Local date and time to the minute: 2026-11-22 21:49."""
    return _shown(moment, "%Y-%m-%d %H:%M")


def _shown(moment: float, form: str) -> str:
    """A file's time may be any number that its host made up."""
    try:
        return datetime.fromtimestamp(moment, tz=UTC).astimezone().strftime(form)
    except (ValueError, OverflowError, OSError):
        return f"@{moment:.0f}"
