"""`diff --stat`: a line for each path, with the lines that it gained and lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rich.text import Text

from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.cli.lines import compared
from pyrsyncbackup_collector.cli.marks import MARKS
from pyrsyncbackup_collector.entry import FILE, Entry
from pyrsyncbackup_collector.store.difference import Difference
from pyrsyncbackup_collector.store.store import Store

# Marks of the longest bar.
_BAR: Final = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One path; `words` say what lines cannot."""

    difference: Difference
    gained: int
    lost: int
    words: str


class Statistics:
    """Collects differences, then shows them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.rows: list[Row] = []

    def add(self, difference: Difference) -> None:
        """Count the lines of one difference."""
        old, new = _readable(difference.before), _readable(difference.after)
        if difference.kind == "metadata" or (old is None and new is None):
            words = ", ".join(difference.fields) or (difference.after or difference.before or Entry()).type
            self.rows.append(Row(difference, 0, 0, words))
            return
        told = compared(self._store, old, new)
        if told.reason:
            sizes = " -> ".join(amounts.size(each.size if each else 0) for each in (old, new))
            self.rows.append(Row(difference, 0, 0, f"{told.reason} {sizes}"))
            return
        body = told.lines[2:]
        gained = sum(line.startswith("+") for line in body)
        self.rows.append(Row(difference, gained, sum(line.startswith("-") for line in body), ""))

    def show(self) -> None:
        """Print a line for each, and the sum; nothing where there are none."""
        if not self.rows:
            return
        most = max(row.gained + row.lost for row in self.rows)
        columns = [screen.Column(""), screen.Column("PATH", fold=True), screen.Column("LINES", right=True)]
        screen.table([*columns, screen.Column("")], [_cells(row, most) for row in self.rows])
        gained, lost = sum(row.gained for row in self.rows), sum(row.lost for row in self.rows)
        paths = amounts.counted(len(self.rows), "path")
        screen.say(
            f"{paths}, {amounts.counted(gained, 'line')} more (+), {amounts.number(lost)} less (-)", screen.TITLE
        )


def _cells(row: Row, most: int) -> list[screen.Cell]:
    mark, style = MARKS[row.difference.kind]
    path = screen.text(b"/" + row.difference.path)
    if row.words:
        return [Text(mark, style), path, "", Text(row.words, screen.QUIET)]
    bar = Text()
    for count, sign, colour in ((row.gained, "+", screen.GOOD), (row.lost, "-", screen.BAD)):
        length = min(count, max(1, round(count * _BAR / most))) if most > _BAR and count else count
        bar.append(sign * length, colour)
    return [Text(mark, style), path, amounts.number(row.gained + row.lost), bar]


def _readable(entry: Entry | None) -> Entry | None:
    return entry if entry is not None and entry.type == FILE and entry.sha256 else None
