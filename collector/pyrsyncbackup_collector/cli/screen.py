"""What reaches a terminal: tables, lines, errors, JSON.

Everything shown goes through here. Text that a host chose is escaped with `entry.printable`, and rich's markup is off,
so that no name and no message can paint, move the cursor, or retitle a window. Colour and progress are for terminals;
in a pipe there are plain, aligned lines without end-of-line blanks and without a limit of width.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from typing import IO

import msgspec
from rich.console import Console, JustifyMethod
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pyrsyncbackup_collector.entry import printable

# Wide enough that no line is ever folded in a pipe, where the reader is a program.
UNLIMITED = 10_000

# So much of a column that folds is readable still.
_FOLDED = 10

# Rows of a table that are laid out at once.
PAGE = 2000

GOOD, BAD, DOUBT, QUIET, TITLE = "green", "red", "yellow", "dim", "bold"

# The --config that was typed, or nothing: what we tell somebody to type next has to say it, too.
typed_config: ContextVar[str] = ContextVar("typed_config", default="")
_OUR_COMMAND = re.compile(r"\bpyrsyncbackup (?=[a-z])(?!init\b)")


Cell = Text | str


def _console(stream: IO[str], *, stderr: bool) -> Console:
    width = None if stream.isatty() else UNLIMITED
    return Console(file=stream, stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


def out() -> Console:
    """Standard output: what was asked for."""
    return _console(sys.stdout, stderr=False)


def err() -> Console:
    """Standard error: what goes on, and what went wrong."""
    # In a pipe the answer waits in a buffer: without this, what was said later would come before it.
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    return _console(sys.stderr, stderr=True)


def text(value: str | bytes | int, style: str = "") -> Text:
    """`value` as text that cannot do anything to a terminal.

    Bytes are a name and shown so that two names never look alike. In a sentence backslashes stay: names in it were
    made printable before.
    """
    if isinstance(value, bytes):
        return Text(printable(value), style=style)
    sentence = str(value)
    if not sentence.isprintable():
        sentence = "".join(char if char.isprintable() else printable(char) for char in sentence)
    return Text(sentence, style=style)


def say(value: str | bytes = "", style: str = "") -> None:
    """One line of the answer."""
    line(text(value, style))


def sentence(value: str, style: str = "") -> None:
    """One line of the answer, on a terminal folded between words: for what nobody copies into a shell."""
    out().print(text(value, style))


def paragraph(value: str | bytes, style: str = "") -> None:
    """A sentence, indented and folded between words: for what nobody copies into a shell."""
    console = out()
    if console.is_terminal:
        console.print(Padding(text(value, style), (0, 0, 0, 2), expand=False))
    else:
        say(f"  {value if isinstance(value, str) else printable(value)}", style)


def line(*parts: Text | str) -> None:
    """One line of the answer from several pieces; a plain string is escaped."""
    pieces = [part if isinstance(part, Text) else text(part) for part in parts]
    console = out()
    if console.is_terminal:
        console.print(Text.assemble(*pieces), soft_wrap=True)
    else:
        console.file.write("".join(piece.plain for piece in pieces) + "\n")


def as_typed(sentence: str) -> str:
    """`sentence` with each of our commands in it as this user has to type it: with the --config of this call."""
    config = typed_config.get()
    return (
        _OUR_COMMAND.sub(lambda _: f"pyrsyncbackup --config {shlex.quote(config)} ", sentence) if config else sentence
    )


def note(value: str, style: str = QUIET) -> None:
    """One line about the work, on stderr: it stays apart from the answer."""
    err().print(text(as_typed(value), style), soft_wrap=True)


def error(cause: str, hint: str = "") -> None:
    """`error: cause`, and below it the next step."""
    console = err()
    console.print(Text.assemble(("error: ", f"bold {BAD}"), text(cause)), soft_wrap=True)
    if hint:
        console.print(Text.assemble(("  next: ", "bold"), text(as_typed(hint))), soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, `right` for numbers, `fold` where the text may take several lines when space is short."""

    heading: str
    right: bool = False
    fold: bool = False


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, title: str = "") -> None:
    """Print `rows` in aligned columns; a plain string in a row is escaped like everything else.

    They are printed in pages, so that millions fit into memory; the columns of a page are no narrower than before.
    """
    if title:
        say(title, TITLE)
    widths = [len(column.heading) for column in columns]
    console = out()
    source = iter(rows)
    page, is_first = list(islice(source, PAGE)), True
    while page or is_first:
        cells = [[cell if isinstance(cell, Text) else text(cell) for cell in row] for row in page]
        widths = [max(width, *(row[place].cell_len for row in cells), 0) for place, width in enumerate(widths)]
        if console.is_terminal and _fits(columns, widths, console.width):
            console.print(_grid(columns, cells, None if is_first else widths))
        else:
            headings = [[Text(column.heading) for column in columns]] if is_first else []
            for row in headings + cells:
                console.file.write(_aligned(columns, row, widths) + "\n")
        page, is_first = list(islice(source, PAGE)), False


def _fits(columns: Sequence[Column], widths: Sequence[int], room: int) -> bool:
    """Whether a terminal has room for all columns; rich would cut numbers and leave columns out without a word."""
    least = [min(width, _FOLDED) if column.fold else width for column, width in zip(columns, widths, strict=True)]
    return sum(least) + 2 * (len(columns) - 1) <= room


def _grid(columns: Sequence[Column], rows: Iterable[Sequence[Text]], least: Sequence[int] | None) -> Table:
    """A page for a terminal: the first one with headings, a further one with columns of these widths at `least`."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=TITLE, show_edge=False)
    grid.show_header = least is None
    for place, column in enumerate(columns):
        width = None if column.fold or least is None else least[place]
        justify: JustifyMethod = "right" if column.right else "left"
        grid.add_column(column.heading, justify=justify, overflow="fold", no_wrap=not column.fold, min_width=width)
    for row in rows:
        grid.add_row(*row)
    return grid


def _aligned(columns: Sequence[Column], row: Sequence[Text], widths: Sequence[int]) -> str:
    """A row for a pipe, where rich takes ten times as long, or for a terminal so narrow that it has to break lines."""
    fields = []
    for column, cell, width in zip(columns, row, widths, strict=True):
        blanks = " " * (width - cell.cell_len)
        fields.append(blanks + cell.plain if column.right else cell.plain + blanks)
    return "  ".join(fields).rstrip()


def _print_stripped(grid: Table) -> None:
    console = out()
    if console.is_terminal:
        console.print(grid)
        return
    with console.capture() as captured:
        console.print(grid)
    for line in captured.get().splitlines():
        console.file.write(line.rstrip() + "\n")


def fields(*cells: tuple[int, Text]) -> None:
    """One line of (width, text) fields; the last one, of width 0, takes what is left and is folded into it."""
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=False)
    for width, _ in cells:
        grid.add_column(width=width or None, overflow="fold")
    grid.add_row(*(cell for _, cell in cells))
    _print_stripped(grid)


def facts(pairs: Iterable[tuple[str, Text | str]]) -> None:
    """Print `name  value` lines, names aligned: the facts about one thing."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    grid.add_column(no_wrap=True, style=QUIET, min_width=12)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(name, value if isinstance(value, Text) else text(value))
    _print_stripped(grid)


def json(document: object) -> None:
    """Print one JSON document: keys are stable, text of hosts is escaped by JSON itself."""
    sys.stdout.write(_formatted(document) + "\n")


def json_list(document: Mapping[str, object], key: str, items: Iterable[object]) -> None:
    """Print the JSON object `document`, which is not empty, with one list more, as it comes: it may hold millions."""
    sys.stdout.write(f"{_formatted(document).removesuffix('}').rstrip()},\n  {_formatted(key)}: [")
    separator = ""
    for item in items:
        lines = _formatted(item).replace("\n", "\n    ")
        sys.stdout.write(f"{separator}\n    {lines}")
        separator = ","
    sys.stdout.write("\n  ]\n}\n" if separator else "]\n}\n")


def _formatted(document: object) -> str:
    return _ascii_controls(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def _ascii_controls(document: str) -> str:
    """JSON leaves DEL, C1 controls and those of writing direction as they are, and terminals obey: escape them too."""
    if document.replace("\n", "").isprintable():
        return document
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in document)


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{int.from_bytes(units[place : place + 2]):04x}" for place in range(0, len(units), 2))


def raw(content: bytes) -> None:
    """Bytes to standard output as they are, for a file or a program: what `cat` is asked for."""
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
