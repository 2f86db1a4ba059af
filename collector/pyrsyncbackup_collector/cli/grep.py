"""`grep`: contents of text files over all hosts, each content read once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated

import typer
from rich.progress import Progress, TextColumn
from rich.text import Text

from pyrsyncbackup_collector.catalog.contents import Whereabouts
from pyrsyncbackup_collector.cli import amounts, fleetwide, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.fleetwide import HostsOption, ModulesOption
from pyrsyncbackup_collector.cli.names import Which
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, PARTIAL, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.config import quantities
from pyrsyncbackup_collector.entry import Entry, printable, printable_line, text_or_bytes
from pyrsyncbackup_collector.errors import StoreError, UsageError
from pyrsyncbackup_collector.store.objects import ObjectStore
from pyrsyncbackup_collector.store.search import Hit, Line, Needle, is_text

_SHOWN = 100
# Contents over this are kept in pieces; nobody writes texts of that size.
_LARGEST = 32 << 20


@dataclass
class _Search:
    """One search as it goes: what was found, and what was left out and why."""

    needle: Needle
    context: int
    max_size: int
    searched: int = 0
    binary: int = 0
    too_large: int = 0
    stopped: bool = False
    hits: dict[str, Hit] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def through(self, files: Iterable[Whereabouts], objects: ObjectStore, limit: int, progress: Progress) -> None:
        """Read each content of `files` that was not read before, until `limit` of them match (0: all)."""
        # Some 100 bytes for each content, however large it is.
        seen: set[bytes] = set()
        task = progress.add_task("", total=None)
        for file in files:
            digest = bytes.fromhex(file.sha256)
            if digest in seen:
                continue
            if limit and len(self.hits) == limit:
                self.stopped = True
                return
            seen.add(digest)
            self._read(file, objects)
            progress.update(task, completed=len(seen))

    def _read(self, file: Whereabouts, objects: ObjectStore) -> None:
        if file.size > self.max_size:
            self.too_large += 1
            return
        try:
            content = objects.read_entry(Entry(size=file.size, sha256=file.sha256, changing=file.changing))
        except StoreError as error:
            self.unreadable[file.sha256] = f"{_where(file)}: {error.cause}"
            return
        if not is_text(content):
            self.binary += 1
            return
        self.searched += 1
        if hit := self.needle.hit(content, self.context):
            self.hits[file.sha256] = hit


@app.command(
    epilog=exit_codes(10, 11, _4="no line matches, or no such host or module", _13="some contents could not be read"),
)
def grep(
    text: Annotated[str, typer.Argument(metavar="TEXT", show_default=False)],
    host: HostsOption = None,
    module: ModulesOption = None,
    path: Annotated[str | None, typer.Option("--path", metavar="GLOB", help="Only such paths: '*.conf'.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All versions, not the newest alone.")] = False,
    ignore_case: Annotated[bool, typer.Option("--ignore-case", "-i", help="Upper and lower case are equal.")] = False,
    regex: Annotated[bool, typer.Option("--regex", "-E", help="TEXT is a regular expression (Python's).")] = False,
    names: Annotated[bool, typer.Option("--files-with-matches", "-l", help="Only where, not the lines.")] = False,
    numbers: Annotated[bool, typer.Option("--line-number/--no-line-number", "-n/-N", help="With line numbers.")] = True,
    context: Annotated[int, typer.Option("--context", "-C", min=0, max=100, metavar="N", help="Lines around.")] = 0,
    each: Annotated[bool, typer.Option("--each", help="The lines for each host, not once for equal files.")] = False,
    max_size: Annotated[str, typer.Option("--max-size", metavar="SIZE", help="Skip larger files; at most 32M.")] = "4M",
    limit: Annotated[int, fleetwide.limit_option(_SHOWN, "different contents")] = _SHOWN,
    as_json: JsonOption = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Search the text files of all hosts: their newest contents, or with --all every version that is kept.

    A content that many hosts have is read, and shown, once. TEXT is taken as it is; with -E it is a regular expression,
    which sees the first 10,000 characters of a line.
    """
    needle, most = Needle(text, regex=regex, ignore_case=ignore_case), _most(max_size)
    place = Workplace.load(config)
    search = _Search(needle, context, most)
    with place.catalog() as catalog, place.store() as store:
        fleetwide.must_match(place, catalog, Which(host, module))
        with _progress() as progress:
            search.through(catalog.whereabouts(host, module, path, every=every), store.objects, limit, progress)
        places: dict[str, list[Whereabouts]] = defaultdict(list)
        if search.hits:
            for file in catalog.whereabouts(host, module, path, every=every, among=search.hits):
                places[file.sha256].append(file)
    if as_json:
        screen.json(_document(search, places))
    else:
        for digest, hit in search.hits.items():
            _show(hit, places[digest], names=names, numbers=numbers, each=each)
        _summary(search, limit)
    if search.unreadable:
        raise typer.Exit(PARTIAL)
    if not search.hits:
        raise typer.Exit(fleetwide.NOTHING)


def _most(text: str) -> int:
    try:
        most = quantities.size(text)
    except ValueError as error:
        raise UsageError(f"--max-size: {error}") from None
    if most > _LARGEST:
        raise UsageError(f"--max-size: at most {amounts.size(_LARGEST)}", "`cat` and `restore` bring larger files")
    return most


def _progress() -> Progress:
    console = screen.err()
    column = TextColumn("{task.completed:,.0f} contents")
    return Progress(column, console=console, transient=True, disable=not console.is_terminal)


def _where(file: Whereabouts) -> str:
    at = "" if file.now else f"@{file.snapshot}"
    return f"{file.host}/{file.module}{at}:/{printable(file.path)}"


def _show(hit: Hit, places: list[Whereabouts], *, names: bool, numbers: bool, each: bool) -> None:
    if names:
        for file in places:
            screen.say(_where(file))
        return
    for file in places if each else places[:1]:
        for line in hit.lines:
            _show_line(file, line, numbers=numbers)
    if hit.count > sum(line.matches for line in hit.lines):
        screen.say(f"  {amounts.number(hit.count)} lines match in all", screen.QUIET)
    others = places[1:]
    if others and not each:
        # The host alone says it where all else is alike.
        alike = len({(file.module, file.path) for file in places}) == 1
        same = [file.host if alike and file.now else _where(file) for file in others]
        screen.say(f"  the same: {fleetwide.few(list(dict.fromkeys(same)))}", screen.QUIET)


def _show_line(file: Whereabouts, line: Line, *, numbers: bool) -> None:
    mark = ":" if line.matches else "-"
    number = f"{line.number}{mark}" if numbers else ""
    screen.line(Text(f"{_where(file)}{mark}", screen.QUIET), Text(number, screen.GOOD), Text(printable_line(line.text)))


def _summary(search: _Search, limit: int) -> None:
    skipped = [(search.binary, "binary"), (search.too_large, "too large"), (len(search.unreadable), "not readable")]
    left = "".join(f", {amounts.number(count)} {why}" for count, why in skipped if count)
    matching = amounts.counted(len(search.hits), "content")
    screen.note(f"{matching} of {amounts.number(search.searched)} searched match{left}")
    if search.stopped:
        screen.note(f"stopped after {amounts.counted(limit, 'content')} with a match; --limit 0 shows all")
    for cause in list(search.unreadable.values())[:3]:
        screen.note(f"  {cause}", screen.BAD)


def _document(search: _Search, places: dict[str, list[Whereabouts]]) -> dict[str, object]:
    return {
        "matches": [
            {
                "sha256": digest,
                "count": hit.count,
                "lines": [{"number": line.number, **_text(line.text), "matches": line.matches} for line in hit.lines],
                "places": [
                    {
                        "host": file.host,
                        "module": file.module,
                        **fleetwide.told_apart(file.path),
                        "snapshot": file.snapshot,
                        "now": file.now,
                    }
                    for file in places[digest]
                ],
            }
            for digest, hit in search.hits.items()
        ],
        "searched": search.searched,
        "binary": search.binary,
        "too_large": search.too_large,
        "unreadable": [{"sha256": digest, "cause": cause} for digest, cause in search.unreadable.items()],
        "stopped": search.stopped,
    }


def _text(line: str) -> dict[str, object]:
    text, raw = text_or_bytes(line.encode("utf-8", "surrogateescape"))
    return {"text_b64": raw} if raw else {"text": text}
