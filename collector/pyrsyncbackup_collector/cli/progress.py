"""How running pulls are shown: bars on a terminal, nothing but the result otherwise.

It shows `Progress` values and does not care whether the pull runs in this process or in the daemon.
"""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.pull.report import RECONNECT, Progress


class _Name(ProgressColumn):
    """What is pulled."""

    def render(self, task: Task) -> Text:
        return screen.text(task.description, screen.TITLE)


class _Numbers(ProgressColumn):
    """The phase, until there is something to count; then files, bytes, rate and the time that is left."""

    # Numbers that change twice a second can be read, faster ones cannot.
    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        at: Progress = task.fields["at"]
        if not at.files_total:
            listed = f" {amounts.counted(at.entries, 'entry')}" if at.entries else ""
            return screen.text(f"{at.phase}{listed}", screen.QUIET)
        if at.phase == RECONNECT:
            return screen.text("cut off; connecting again", screen.DOUBT)
        parts = [f"{amounts.number(at.files_done)}/{amounts.counted(at.files_total, 'file')}"]
        parts.append(f"{amounts.size(at.bytes_seen)}/{amounts.size(at.bytes_total)}")
        if task.speed:
            parts.append(f"{amounts.size(task.speed)}/s")
        if at.bytes_received >= at.bytes_total > at.bytes_done:
            parts.append("storing")
        elif task.time_remaining:
            parts.append(f"{amounts.span(max(task.time_remaining, 1))} left")
        return screen.text("  ".join(parts))


class PullDisplay:
    """Running pulls by name; use it in a `with`. `line` prints above the bars, at any time, on any kind of output."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or screen.out()
        self._bars = Bars(
            _Name(Column(no_wrap=True)),
            BarColumn(bar_width=12),
            _Numbers(Column(no_wrap=True)),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
            refresh_per_second=5,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> PullDisplay:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show(self, name: str, at: Progress) -> None:
        """The present state of the pull of `name` (HOST/MODULE)."""
        task = self._tasks.get(name)
        if task is None:
            task = self._tasks[name] = self._bars.add_task(name, total=None, at=at)
        # Many empty files have no bytes to count.
        by_bytes = at.bytes_total > 0
        total = at.bytes_total if by_bytes else at.files_total
        self._bars.update(task, completed=at.bytes_seen if by_bytes else at.files_done, total=total or None, at=at)

    def ended(self, name: str) -> None:
        """The pull of `name` is over: its bar goes."""
        task = self._tasks.pop(name, None)
        if task is not None:
            self._bars.remove_task(task)

    @property
    def room(self) -> int:
        """Columns of a line."""
        return self._console.width

    def line(self, line: Text) -> None:
        """One line that stays."""
        self._console.print(line, soft_wrap=True)
