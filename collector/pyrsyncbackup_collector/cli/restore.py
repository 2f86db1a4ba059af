"""`restore`: bringing a snapshot, or a part of it, back into a directory, an archive, or onto a host."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from typer.core import TyperCommand

from pyrsyncbackup_collector.cli import amounts, restore_report, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import (
    NOT_GIVEN,
    PARTIAL,
    ConfigOption,
    FromOption,
    IdentityOption,
    JsonOption,
    exit_codes,
)
from pyrsyncbackup_collector.cli.restore_progress import RestoreDisplay
from pyrsyncbackup_collector.cli.restore_to_host import Parcel, host_named, send_to_host, with_own_host
from pyrsyncbackup_collector.cli.snapshots import RefArgument, warn
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import Cancelled, UsageError
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.store.archive import Writer, write_archive
from pyrsyncbackup_collector.store.archive_file import archive_file
from pyrsyncbackup_collector.store.attributes import Rights
from pyrsyncbackup_collector.store.overwrite import Overwrite
from pyrsyncbackup_collector.store.restore import restore as restore_entries
from pyrsyncbackup_collector.store.restore_plan import Planned, plan, plan_archive
from pyrsyncbackup_collector.store.restore_report import RestoreReport
from pyrsyncbackup_collector.store.selection import Amount, Selection
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.store.survey import Rules
from pyrsyncbackup_collector.store.tar import TarWriter
from pyrsyncbackup_collector.store.zip import ZipWriter

_STDOUT = "-"


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be done: into the directory or as the archive `target`, of which kind `writer` says, or to a host.

    `host` is what `--to-host` says, or nothing.
    """

    target: str
    host: str
    writer: Callable[[BinaryIO], Writer] | None
    special: bool
    overwrite: Overwrite
    check: bool

    @property
    def to_stdout(self) -> bool:
        """Whether the answer itself is the archive."""
        return self.writer is not None and self.target == _STDOUT


class _Restore(TyperCommand):
    """The command, one of whose options may be without its value: the library knows no such."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As for any command, with what was left out put in."""
        return super().parse_args(ctx, with_own_host(args))


@app.command(cls=_Restore, epilog=exit_codes(4, 5, 6, 8, 9, 10, 12, PARTIAL))
def restore(
    ref: RefArgument,
    paths: Annotated[list[str] | None, typer.Argument(metavar="PATH", show_default=False)] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="DIR", help="Into a directory; made 0700.")] = None,
    tar: Annotated[str | None, typer.Option("--tar", metavar="FILE", help="As a tar archive; - is stdout.")] = None,
    zip_: Annotated[str | None, typer.Option("--zip", metavar="FILE", help="As a zip archive; - is stdout.")] = None,
    to_host: Annotated[
        str | None,
        typer.Option("--to-host", metavar="[HOST]", help="To a host that allows it; none or . is the snapshot's own."),
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Leave these out.")] = None,
    overwrite: Annotated[
        Overwrite, typer.Option(help="What is there may be replaced: never, if older, always.")
    ] = Overwrite.NEVER,
    special: Annotated[
        bool, typer.Option("--special", help="Also devices, set-id bits and file capabilities.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Read all back from the disk, and compare.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would be done; do nothing.")] = False,
    as_json: JsonOption = False,
    copy: FromOption = None,
    identity: IdentityOption = None,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Restore a snapshot, or PATHs of it, below DIR, as an archive, or on a host. Nothing that is there is replaced.

    PATH may be a pattern: '*.conf' means names at any depth, 'etc/nginx/**/*.conf' begins at the top. PATTERNs are
    those of a module's `exclude`. Every content is proven by its digest before it gets its name.

    As root with owners, modes, times, links, ACLs and attributes; otherwise with what is possible, and what is not is
    said. Archives hold all of it whoever writes them. What was interrupted goes on when it is started again.
    """
    order = _order(to, tar, zip_, to_host, special=special, overwrite=overwrite, check=check)
    if order.to_stdout and as_json and not dry_run:
        raise UsageError("standard output cannot be the archive and its report", "write to a file, or without --json")
    selection = Selection([os.fsencode(path) for path in paths or []], [os.fsencode(text) for text in exclude or []])
    place = Workplace.reading(config, copy, identity)
    sent = None
    with place.snapshot(ref) as (store, snapshot):
        host = host_named(place, order.host, snapshot) if order.host else None
        warn(snapshot)
        all_of_it = Amount(snapshot.totals.entries, snapshot.totals.size)
        whole = all_of_it if selection.everything else selection.prove(store.entries(snapshot))

        def entries() -> Iterator[Entry]:
            return selection.chosen(store.entries(snapshot))

        name = f"{snapshot.host}/{snapshot.module}@{snapshot.name}"
        if dry_run:
            restore_report.show_plan(_plan(order, entries()), name, _place(order, host), as_json=as_json)
            return
        if host is not None:
            parcel = Parcel(snapshot, whole, () if selection.everything else _choice(paths, exclude))
            report, sent = send_to_host(place, host, parcel, partial(_fill, store, entries, whole))
        else:
            with _told_what_stays(order, whole), RestoreDisplay("restore", whole) as display:
                report = _do(order, store, entries, display)
    restore_report.show(report, name, to_stderr=order.to_stdout, as_json=as_json, sent=sent)
    if not report.complete or (sent is not None and sent.remark):
        raise typer.Exit(PARTIAL)


def _order(
    to: str | None,
    tar: str | None,
    zip_: str | None,
    host: str | None,
    *,
    special: bool,
    overwrite: Overwrite,
    check: bool,
) -> _Order:
    given = [(None, to), (TarWriter, tar), (ZipWriter, zip_), (None, host)]
    given = [(kind, target) for kind, target in given if target]
    if len(given) != 1:
        raise UsageError("say where to restore to, once", "--to DIR, --tar FILE, --zip FILE or --to-host [HOST]")
    writer, target = given[0]
    if host:
        _check_for_host(special=special, overwrite=overwrite, check=check)
    if writer is not None and check:
        raise UsageError("--check reads back a directory", "an archive is proven while it is written")
    if writer is not None and overwrite is Overwrite.OLDER:
        raise UsageError("an archive is replaced as a whole or not at all", "say --overwrite always")
    return _Order(target or "", host or "", writer, special, overwrite, check)


def _check_for_host(*, special: bool, overwrite: Overwrite, check: bool) -> None:
    if special:
        raise UsageError("an agent is not root: it can give neither devices nor set-id bits", "`--tar FILE` holds them")
    if overwrite is not Overwrite.NEVER:
        raise UsageError("a host takes a restore as a new directory only", "leave --overwrite out; nothing is replaced")
    if check:
        raise UsageError("--check reads back a directory of this machine", "rsync compares what it sends to a host")


def _place(order: _Order, host: Host | None) -> str:
    return order.target if host is None else f"a new directory on {host.name}"


def _choice(paths: list[str] | None, exclude: list[str] | None) -> tuple[bytes, ...]:
    return tuple(map(os.fsencode, [*sorted(paths or []), "--exclude", *sorted(exclude or [])]))


def _plan(order: _Order, entries: Iterator[Entry]) -> Iterator[Planned]:
    if order.writer is not None or order.host:
        return plan_archive(entries, special=order.special)
    rights = Rights.of_this_process(owner=os.geteuid() == 0, special=order.special)
    return plan(entries, Path(order.target), Rules(rights, order.overwrite))


def _fill(
    store: Store,
    entries: Callable[[], Iterator[Entry]],
    whole: Amount,
    target: Path,
    fitted: Callable[[Entry], Entry],
) -> RestoreReport:
    with RestoreDisplay("restore", whole) as display:
        return restore_entries(map(fitted, entries()), store.objects, target, owner=False, progress=display.advance)


@contextmanager
def _told_what_stays(order: _Order, whole: Amount) -> Iterator[None]:
    """Before: whether there is room. At its end: who stopped it has to know whether it was for nothing."""
    _warn_of_room(order, whole)
    try:
        yield
    except (KeyboardInterrupt, Cancelled):
        if order.writer is None:
            screen.note("interrupted: what is there stays, and the same command goes on from there", screen.DOUBT)
        elif not order.to_stdout:
            screen.note("interrupted: no archive was written", screen.DOUBT)
        raise


def _warn_of_room(order: _Order, whole: Amount) -> None:
    """Say at once what would show after an hour: only a note, for nobody knows before what of it is there already."""
    if order.to_stdout or order.writer is ZipWriter:
        return
    try:
        there = next(
            path for path in (Path(order.target).absolute(), *Path(order.target).absolute().parents) if path.exists()
        )
        found = os.statvfs(there)
    except OSError:
        return
    free = found.f_bavail * found.f_frsize
    if free < whole.size:
        screen.note(
            f"{amounts.size(whole.size)} are to be written where {amounts.size(free)} are free;"
            " holes, hard links and what is there already need no room",
            screen.DOUBT,
        )


def _do(order: _Order, store: Store, entries: Callable[[], Iterator[Entry]], display: RestoreDisplay) -> RestoreReport:
    if order.writer is None:

        def once_more() -> Iterator[Entry]:
            display.reading_back()
            return entries()

        return restore_entries(
            entries(),
            store.objects,
            Path(order.target),
            special=order.special,
            overwrite=order.overwrite,
            check=once_more if order.check else None,
            progress=display.advance,
        )
    write = partial(write_archive, special=order.special, progress=display.advance)
    with _archive(order) as file:
        return write(entries(), store.objects, order.writer(file)).report(Path(order.target))


@contextmanager
def _archive(order: _Order) -> Iterator[BinaryIO]:
    if not order.to_stdout:
        with archive_file(Path(order.target), replace=order.overwrite is Overwrite.ALWAYS) as file:
            yield file
        return
    if sys.stdout.isatty():
        raise UsageError("an archive is nothing for a terminal", "redirect it: --tar - > FILE, or name a file")
    sys.stdout.flush()
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()
