"""`recover`: the store made anew from a second copy, after the old one is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import (
    NOT_GIVEN,
    PARTIAL,
    ConfigOption,
    IdentityOption,
    JsonOption,
    exit_codes,
)
from pyrsyncbackup_collector.cli.source import Source
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.copies.recovery import Recovered, Recovery
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.store.signature import KeySigner

# Lines of each kind that are shown; --json has all.
_SHOWN = 20


@app.command(epilog=exit_codes(4, 10, 11, PARTIAL, 16))
def recover(
    copy: Annotated[
        str,
        typer.Option(
            "--from", metavar="COPY", show_default=False, help="The copy: its name, a directory, ssh://... or s3://..."
        ),
    ],
    identity: IdentityOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Make the store that the configuration names anew from a second copy of it, and the catalog from that.

    The store's place must be empty, or hold the empty store that `init` makes; the daemon must not run. Each content is
    proven on its way. It is the same store as before: pulls go on where the copy ends, and copies of it go on too.
    What was interrupted goes on when it is started again.
    """
    place = Workplace.load(config)
    source = _source(place, copy, identity)
    place.make_keys()
    signer = place.signer()
    assert signer is not None  # noqa: S101 - just made
    done = _recovered(place, source, signer)
    snapshots = _catalog(place)
    if as_json:
        screen.json(done.document() | {"catalog": snapshots})
    else:
        _show(place.config.store, done, copy)
    if done.damaged or done.faults:
        raise typer.Exit(PARTIAL)


def _source(place: Workplace, text: str, identity: Path | None) -> Source:
    return Source.at(text, identity) if Source.is_place(text) else Source.named(place.config, text, identity)


def _recovered(place: Workplace, source: Source, signer: KeySigner) -> Recovered:
    with screen.err().status("recover: reads the copy") as status:

        def tell(phase: str, done: int, _total: int) -> None:
            status.update(f"recover: {phase} {done:,}")

        with (
            source.opened(signer=signer) as copy,
            Recovery(copy, place.config.store, signer, check=Cancel().check, tell=tell) as recovery,
        ):
            return recovery.run(SystemClock().now())


def _catalog(place: Workplace) -> int:
    """Make it from the new store; how many snapshots it has."""
    from pyrsyncbackup_collector.catalog.rebuild import rebuild

    place.config.catalog.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with place.store(lock=True) as store, screen.err().status("recover: makes the catalog"):
        done = rebuild(place.config.catalog, store)
        done.catalog.close()
    return done.snapshots


def _show(store: Path, done: Recovered, copy: str) -> None:
    counts = [amounts.counted(done.snapshots, "snapshot"), amounts.counted(done.objects, "object")]
    screen.say(f"{store}: {', '.join(counts)} came, {amounts.size(done.size)}; the catalog is made")
    for what, why in done.damaged[:_SHOWN]:
        screen.paragraph(f"not sound in the copy: {what}: {why}", screen.BAD)
    for module, why in done.faults[:_SHOWN]:
        screen.paragraph(f"its log does not fit: {module}: {why}", screen.DOUBT)
    for name in done.absent[:_SHOWN]:
        screen.paragraph(f"the copy does not have it: {name}", screen.DOUBT)
    if more := sum(max(0, len(each) - _SHOWN) for each in (done.damaged, done.faults, done.absent)):
        screen.say(f"and {amounts.number(more)} more; --json has all", screen.DOUBT)
    if done.unproven:
        logs = amounts.counted(done.unproven, "log")
        screen.paragraph(
            f"{logs} fit in themselves, but nobody can tell who wrote them: the key that signed them is not here. "
            "This collector's signs them from now on; `verify` goes on to say so",
            screen.DOUBT,
        )
    if done.older:
        held = amounts.counted(done.older, "snapshot")
        screen.say(f"{held} that the store had pruned stay in the copy alone: read them with --from {copy}")
    screen.say("  next: `pyrsyncbackup verify`, then start the daemon", screen.QUIET)
