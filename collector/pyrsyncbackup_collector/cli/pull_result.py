"""What came of one pull, and how it is told: one line, what could not be read below it, an exit code for all."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from pyrsyncbackup_collector import errors
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.views import Failure, RunView
from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.cli.options import PARTIAL
from pyrsyncbackup_collector.errors import BackupError

# Enough to see what is the matter; --json names the thousand that are recorded.
SHOWN_PROBLEMS = 10

_STYLES = {
    "unchanged": screen.QUIET,
    "complete": screen.GOOD,
    "partial": screen.DOUBT,
    "failed": screen.BAD,
    "cancelled": screen.DOUBT,
}


@dataclass(frozen=True, slots=True)
class Result:
    """One pull that ended; `module` is empty where it failed before the modules were known.

    `run` is its record, `snapshot` the name of what it made, `problems` (path, reason) as recorded.
    """

    host: str
    module: str
    outcome: str
    failure: Failure | None = None
    run: RunView | None = None
    snapshot: str = ""
    problems: tuple[tuple[bytes, str], ...] = ()

    @property
    def name(self) -> str:
        """HOST/MODULE, or HOST."""
        return f"{self.host}/{self.module}" if self.module else self.host


def of_run(catalog: Catalog, run: str) -> Result:
    """The result of a run that ended, from its record."""
    record = catalog.run(run)
    if record is None:
        raise BackupError(f"the record of run {run} is gone", "`pyrsyncbackup status` shows what is known")
    snapshot = ""
    if record.sequence is not None:
        known = catalog.snapshots(record.host, record.module)
        snapshot = next((each.name for each in known if each.sequence == record.sequence), "")
    problems = tuple(catalog.run_paths(run)) if record.problems else ()
    return Result(record.host, record.module, record.outcome, record.failure, record, snapshot, problems)


def of_error(host: str, module: str, error: BackupError) -> Result:
    """The result of what failed before there was a run."""
    failure = Failure(type(error).__name__, error.cause, error.hint, error.retryable)
    return Result(host, module, "cancelled" if isinstance(error, errors.Cancelled) else "failed", failure)


def lines(result: Result, width: int, room: int) -> list[Text]:
    """The result for a terminal of `room` columns; `width` is that of the longest name."""
    outcome = screen.text(f"{result.outcome:<9}", _STYLES.get(result.outcome, ""))
    head = Text.assemble(screen.text(f"{result.name:<{width}}", screen.TITLE), "  ", outcome)
    if result.snapshot:
        head.append(f"  {result.snapshot}")
    head.rstrip()
    told = [head]
    if result.run is not None and result.failure is None:
        done = screen.text(f"  {_done(result.run)}", screen.QUIET)
        if head.cell_len + done.cell_len <= room:
            head.append_text(done)
        else:
            told.append(done)
    if result.failure is not None and result.outcome != "cancelled":
        told += _folded(result.failure.cause, room)
        if result.failure.hint:
            told.append(screen.text(f"  next: {screen.as_typed(result.failure.hint)}", screen.QUIET))
    for path, reason in result.problems[:SHOWN_PROBLEMS]:
        told.append(Text.assemble("  ", screen.text(b"/" + path), ": ", screen.text(reason, screen.DOUBT)))
    total = result.run.problems if result.run else 0
    if total > SHOWN_PROBLEMS:
        told.append(
            screen.text(f"  and {amounts.number(total - SHOWN_PROBLEMS)} more: --json names them", screen.QUIET)
        )
    return told


def _folded(cause: str, room: int) -> list[Text]:
    """A cause, indented; between words where the terminal would break them."""
    # Escaped first: a line end in what a host said stays what it is.
    words = screen.text(cause).plain
    lines = textwrap.wrap(words, max(room - 2, 20), break_long_words=False, break_on_hyphens=False) or [""]
    return [Text(f"  {line}") for line in lines]


def _done(run: RunView) -> str:
    """`3 added, 1 modified; 4 files, 1.2 MiB sent in 0.4 s`."""
    counters = run.counters
    words = (("added", "added"), ("modified", "modified"), ("metadata", "metadata"), ("removed", "removed"))
    changes = [f"{amounts.number(counters[key])} {word}" for key, word in words if counters.get(key)]
    sent = ""
    if files := counters.get("sent_files", 0):
        size = counters.get("sent_bytes", 0)
        wire = counters.get("wire_bytes", 0) or size
        # Where a large file changed a little, much less than all of it travels.
        of, sent_bytes = (f" of {amounts.size(size)}", wire) if wire < size / 2 else ("", size)
        sent = f"{amounts.counted(files, 'file')}{of}, {amounts.size(sent_bytes)} sent, "
    took = amounts.took(max(0.0, (run.end or run.begin) - run.begin))
    return f"{', '.join(changes)}{'; ' if changes else ''}{sent}{took}"


def exit_code(results: Sequence[Result]) -> int:
    """0, or PARTIAL, or that of the failures where they are of one kind, else 1."""
    failed = [result.failure for result in results if result.failure is not None]
    if failed:
        codes = {getattr(getattr(errors, failure.type, None), "exit_code", 1) for failure in failed}
        return codes.pop() if len(codes) == 1 else 1
    return PARTIAL if any(result.outcome == "partial" for result in results) else 0


def document(result: Result) -> dict[str, object]:
    """A result for JSON."""
    run, failure = result.run, result.failure
    return {
        "host": result.host,
        "module": result.module or None,
        "outcome": result.outcome,
        "run": run.id if run else None,
        "snapshot": result.snapshot or None,
        "begin": amounts.iso(run.begin) if run else None,
        "end": amounts.iso(run.end) if run else None,
        "counts": dict(run.counters) if run else {},
        "problems": [
            {"path": path.decode("utf-8", "backslashreplace"), "reason": reason} for path, reason in result.problems
        ],
        "problems_total": run.problems if run else 0,
        "error": {"type": failure.type, "cause": failure.cause, "hint": failure.hint} if failure else None,
    }
