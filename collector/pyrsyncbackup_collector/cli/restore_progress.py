"""How a restore is shown while it runs: bytes, entries, rate and the time that is left; on a terminal only.

What is read back, and what goes to a host, is shown the same way, each for itself.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.store.selection import Amount

# A terminal is looked at, not measured: one update for so many entries.
_STEP = 50


class _Numbers(ProgressColumn):
    """Entries, bytes, rate, what is left."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """What was done of what there is."""
        whole: Amount = task.fields["whole"]
        parts = []
        if task.fields["entries"] is not None:
            parts = [f"{amounts.number(task.fields['entries'])}/{amounts.counted(whole.entries, 'entry')}"]
        parts.append(f"{amounts.size(task.fields['size'])}/{amounts.size(whole.size)}")
        if task.speed:
            parts.append(f"{amounts.size(task.speed)}/s" if whole.size else "")
        if task.time_remaining:
            parts.append(f"{amounts.span(max(task.time_remaining, 1))} left")
        return screen.text("  ".join(filter(None, parts)))


class RestoreDisplay:
    """One restore; `advance` is its progress. Use it in a `with`."""

    def __init__(self, what: str, whole: Amount) -> None:
        console = screen.err()
        self._bars = Bars(
            "{task.description}",
            BarColumn(bar_width=12),
            _Numbers(Column(no_wrap=True)),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            refresh_per_second=5,
        )
        self._whole, self._entries, self._size, self._told = whole, 0, 0, 0
        self._reads_back = False
        self._task = self._bars.add_task(what, total=whole.size or whole.entries, whole=whole, entries=0, size=0)

    def __enter__(self) -> Self:
        """Show it."""
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Take it away."""
        self._bars.stop()

    def reading_back(self) -> None:
        """All is there; from now on `advance` is told what was read back from the disk."""
        self._bars.remove_task(self._task)
        self._size = 0
        self._task = self._bars.add_task("check", total=self._whole.size, whole=self._whole, entries=None, size=0)
        self._reads_back = True

    def advance(self, entries: int, size: int) -> None:
        """So much more was done."""
        self._entries += entries
        self._size += size
        self._told += 1
        if self._told % _STEP == 0 or size > 1 << 16:
            done = self._size if self._whole.size else self._entries
            entries_done = None if self._reads_back else self._entries
            self._bars.update(self._task, completed=done, entries=entries_done, size=self._size)


class _Sent(ProgressColumn):
    """Bytes that went, and how fast."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """As the connection counts them."""
        sent = task.fields["sent"]()
        rate = f"  {amounts.size(sent / task.elapsed)}/s" if task.elapsed and sent else ""
        return screen.text(f"{amounts.size(sent)} sent{rate}")


def sending(host: str, sent: Callable[[], int]) -> Bars:
    """Shows in a `with` what goes to `host`; `sent` says how many bytes did."""
    console = screen.err()
    bars = Bars(
        SpinnerColumn(),
        "{task.description}",
        _Sent(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        refresh_per_second=5,
    )
    bars.add_task(f"sending to {host}", total=None, sent=sent)
    return bars
