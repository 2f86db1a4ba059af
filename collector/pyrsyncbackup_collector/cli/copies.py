"""`replicate` and `copies`: second copies of the store, made, brought up to date and looked after."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, PARTIAL, ConfigOption, IdentityOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.screen import Column
from pyrsyncbackup_collector.cli.verdict import Verdict, judge_copy
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.config import CopyConfig
from pyrsyncbackup_collector.config.copies import where
from pyrsyncbackup_collector.errors import UsageError
from pyrsyncbackup_collector.pull.cancel import Cancel

copies_app = typer.Typer(rich_markup_mode=None, help="Second copies of the store.", invoke_without_command=True)
app.add_typer(copies_app, name="copies")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


@app.command(epilog=exit_codes(4, 10, 11, PARTIAL, 16))
def replicate(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", show_default=False)] = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Also look through all of the copy by names and sizes, and bring again what is missing or cut short. "
            "Contents are read by `verify --from NAME`.",
        ),
    ] = False,
    mend: Annotated[
        Path | None,
        typer.Option(
            "--mend",
            metavar="FILE",
            show_default=False,
            help="Bring again what `verify --from NAME --json` found; - is stdin.",
        ),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Bring second copies up to date, those named or all.

    What is new goes there, each content proven by its digest first. Nothing is removed there because it is gone here;
    a copy removes only what its own `keep` says. Stopped at any point, it goes on at the next run.
    """
    from pyrsyncbackup_collector.cli.chore import as_raised, do
    from pyrsyncbackup_collector.daemon.copying import named

    place = Workplace.load(config)
    wanted = [named(place.config, name).name for name in names or []] or [copy.name for copy in place.config.copies]
    unsound = _unsound(mend, wanted) if mend is not None else {}
    document = do(place, "replicate", {"names": wanted, "full": full, "mend": unsound})
    if as_json:
        screen.json(document)
    else:
        for name, done in document["copies"].items():
            _show_round(name, done)
    failed = {one["name"]: as_raised(one["type"], one["cause"], one["hint"]) for one in document["failed"]}
    for name, error in failed.items():
        screen.error(f"{name}: {error.cause}", error.hint)
    if failed:
        raise typer.Exit(next(iter(failed.values())).exit_code)
    if document["problems"]:
        raise typer.Exit(PARTIAL)


def _unsound(file: Path, wanted: list[str]) -> dict[str, Any]:
    from pyrsyncbackup_collector.copies.mending import parse

    if len(wanted) != 1:
        raise UsageError("--mend is about one copy", "pyrsyncbackup replicate NAME --mend FILE")
    try:
        data = sys.stdin.buffer.read() if file == Path("-") else file.read_bytes()
    except OSError as fault:
        raise UsageError(f"{file} cannot be read: {fault.strerror}") from fault
    unsound: dict[str, Any] = msgspec.to_builtins(parse(data, "stdin" if file == Path("-") else str(file)))
    return unsound


def _show_round(name: str, done: dict[str, Any]) -> None:
    counts = [amounts.counted(done["snapshots"], "snapshot"), amounts.counted(done["objects"], "object")]
    screen.say(f"{name}: brought {', '.join(counts)}, {amounts.size(done['size'])}; it holds {done['held']:,}")
    if done["repaired"]:
        were = "was" if done["repaired"] == 1 else "were"
        screen.say(f"  mended {amounts.counted(done['repaired'], 'file')} that {were} damaged there", screen.DOUBT)
    if done["removed"]:
        removed = (
            f"{amounts.counted(done['removed'], 'snapshot')}, {amounts.counted(done['removed_objects'], 'object')}"
        )
        screen.say(f"  removed by its own rules: {removed}", screen.QUIET)
    for key, words, style in (("left_out", "not copied", screen.DOUBT), ("lost", "LOST in the copy", screen.BAD)):
        for one in done[key]:
            screen.paragraph(f"{words}: {one['what']}: {one['why']}", style)


@copies_app.callback(epilog=exit_codes(10, 11))
def copies(context: typer.Context, as_json: JsonOption = False, config: ConfigOption = NOT_GIVEN) -> None:
    """Show second copies: when each was last whole, how far behind it is, and what it holds."""
    if context.invoked_subcommand is not None:
        return
    place = Workplace.load(config)
    now = SystemClock().now()
    with place.catalog() as catalog:
        known = {view.name: view for view in catalog.copies()}
        behind = {
            copy.name: catalog.taken_since(view.good or 0.0 if view else 0.0, copy.hosts, copy.modules)
            for copy in place.config.copies
            for view in (known.get(copy.name),)
        }
    zone = place.config.upkeep.zone
    rows = [
        (copy, judge_copy(copy, known.get(copy.name), zone, now), known.get(copy.name)) for copy in place.config.copies
    ]
    if as_json:
        documents = [
            _document(copy, verdict, behind[copy.name], dict(view.document) if view else {})
            for copy, verdict, view in rows
        ]
        screen.json({"copies": documents})
        return
    if not rows:
        screen.note("no second copy is configured: see docs/copies.md")
        return
    columns = [Column("COPY"), Column("STATE"), Column("LAST WHOLE"), Column("BEHIND", right=True)]
    columns += [Column("HOLDS", right=True), Column("SIZE", right=True), Column("WHERE", fold=True)]
    from pyrsyncbackup_collector.cli.status import show_problem, state_text

    for _, verdict, _ in rows:
        if verdict.state.is_problem:
            show_problem(verdict, now)
    screen.table(
        columns,
        [
            [
                copy.name,
                state_text(verdict.state),
                amounts.ago(verdict.last_good, now),
                f"{behind[copy.name]:,}",
                f"{view.document.get('held', 0):,}" if view else "0",
                amounts.size(view.document.get("stored_size", 0) if view else 0),
                where(copy.to) + (", encrypted" if copy.encrypt_to else ""),
            ]
            for copy, verdict, view in rows
        ],
    )


def _document(copy: CopyConfig, verdict: Verdict, behind: int, last: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": copy.name,
        "to": where(copy.to),
        "encrypted": bool(copy.encrypt_to),
        "state": verdict.state.value,
        "since": amounts.iso(verdict.since),
        "cause": verdict.cause,
        "hint": verdict.hint,
        "last_good": amounts.iso(verdict.last_good),
        "behind": behind,
        "held": last.get("held", 0),
        "stored_size": last.get("stored_size", 0),
        "last": last,
    }


@copies_app.command("init", epilog=exit_codes(4, 10, 16), short_help="Make a new, empty copy.")
def init(name: NameArgument, identity: IdentityOption = None, config: ConfigOption = NOT_GIVEN) -> None:
    """Make a new, empty copy at the place that the configuration names, which must be empty.

    A copy is never made by itself: an empty directory may be a disk that is not mounted. With --identity the key that
    names the objects of an encrypted copy is read from there, for a collector that was set up anew.
    """
    from pyrsyncbackup_collector.copies import opening
    from pyrsyncbackup_collector.copies.founding import found
    from pyrsyncbackup_collector.daemon.copying import named

    place = Workplace.load(config)
    copy = named(place.config, name)
    opening.make_room(copy)
    cancel = Cancel()
    with (
        place.store() as store,
        closing(opening.open_target(place.config, copy, cancel.check, cancel.wait)) as target,
    ):
        seal = opening.first_seal(place.config, copy, target, identity)
        with opening.stage() as folder:
            made = found(target, store.id, seal, folder)
    screen.say(f"{copy.name}: {'made' if made else 'is there already'}: {where(copy.to)}")
    if made:
        screen.say(f"  next: {screen.as_typed(f'`pyrsyncbackup replicate {copy.name}`')}", screen.QUIET)
