"""`verify`: whether the store still holds what was put there, and what is affected where it does not."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from pyrsyncbackup_collector.cli import amounts, chore, names, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import (
    DAMAGE,
    NOT_GIVEN,
    ConfigOption,
    FromOption,
    IdentityOption,
    JsonOption,
    exit_codes,
)
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import BackupError, Cancelled, CatalogError, NotFound, UsageError
from pyrsyncbackup_collector.store import reference
from pyrsyncbackup_collector.store.findings import OBJECT, Finding, Verified
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.store.verify import Scope, damaged_objects
from pyrsyncbackup_collector.store.verify import verify as verify_store

# Findings that are shown; --json has ten thousand. Snapshots that are named with each.
SHOWN = 100
SHOWN_SNAPSHOTS = 5

_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")


def _sample(text: str) -> float:
    match = _PERCENT.fullmatch(text.strip())
    share = float(match[1]) / 100 if match else 0.0
    if not 0.0 < share <= 1.0:
        raise UsageError(f"{printable(text)!r} is no share of the objects", "write it as 5%, above 0% and up to 100%")
    return share


@app.command(epilog=exit_codes(4, 10, DAMAGE))
def verify(
    ref: Annotated[
        str | None,
        typer.Argument(
            metavar="REF", help="HOST[/MODULE], also with wildcards, or HOST/MODULE@WHEN; else all.", show_default=False
        ),
    ] = None,
    sample: Annotated[
        str, typer.Option("--sample", metavar="5%", help="Read that share of the objects, picked at random.")
    ] = "100%",
    copy: FromOption = None,
    identity: IdentityOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Check that the store holds what was put there: logs, manifests, and the content of each object.

    Works beside the daemon. A damaged object is set aside, and fetched anew at the next pull from any host that still
    has its content.
    """
    share = _sample(sample)
    place = Workplace.reading(config, copy, identity)
    found = _verified(place, ref, share)
    handled: Mapping[str, Any] = {}
    digests = list(damaged_objects(found))
    if place.source is None:
        digests += [each for each in _awaited(place) if each not in digests]
        modules = _unsound(place, found)
        if digests or modules:
            handled = _handle(place, digests, modules)
    if as_json:
        screen.json(_document(found, handled))
    else:
        _show(found, handled, place.config.store)
    if not found.sound:
        raise typer.Exit(DAMAGE)


def _verified(place: Workplace, ref: str | None, share: float) -> Verified:
    signer = place.signer()
    with ExitStack() as stack:
        store = stack.enter_context(place.store(signer=signer))
        scope = _scope(place, store, ref)
        known = _known(place, scope) if place.source is None else None
        status = stack.enter_context(screen.err().status("verify: begins"))

        def watch(phase: str, done: int, total: int) -> None:
            amount = f" {done:,} of {total:,}" if total else f" {done:,}" if done else ""
            status.update(f"verify: {phase}{amount}")

        return verify_store(store, scope, signed=signer is not None, sample=share, known=known, watch=watch)


def _scope(place: Workplace, store: Store, ref: str | None) -> Scope:
    if ref is None:
        return Scope()
    if "@" not in ref:
        return _all_of(place, store, names.which(ref))
    wanted = reference.parse(ref)
    known = store.snapshots(wanted.host, wanted.module)
    if not known:
        those = names.Which(wanted.host, wanted.module)
        raise names.no_snapshot(those, list(store.modules()), place.host_names)
    try:
        chosen = reference.resolve(wanted, known, SystemClock().now())
    except NotFound as error:
        raise _pruned(store, wanted) or error from None
    return Scope(wanted.host, wanted.module, chosen.sequence)


def _all_of(place: Workplace, store: Store, wanted: names.Which) -> Scope:
    scope = Scope(wanted.host or "", wanted.module or "")
    there = list(store.modules())
    if any(scope.holds(*each) for each in there) or (place.source is None and _known(place, scope)):
        return scope
    names.must_be_there(wanted, there, place.host_names)
    return scope


def _pruned(store: Store, wanted: reference.Reference) -> NotFound | None:
    """That a snapshot is gone by rule, if the log says so; or that its manifest is missing."""
    lines = store.log(wanted.host, wanted.module).read().lines
    for line in lines:
        names = (str(line.sequence), f"{line.sequence:06d}", line.file.partition(".")[0])
        if wanted.text in names and line.op == "prune":
            return NotFound(f"{wanted} was pruned by rule: the log says so", "nothing is missing")
    for line in lines:
        names = (str(line.sequence), f"{line.sequence:06d}", line.file.partition(".")[0])
        if wanted.text in names and line.op == "commit":
            return NotFound(
                f"the manifest of {wanted} is missing: the log has it, and names no prune",
                f"`pyrsyncbackup verify {wanted.host}/{wanted.module}` names what is affected",
            )
    return None


def _known(place: Workplace, scope: Scope) -> dict[tuple[str, str], dict[int, tuple[str, str]]] | None:
    """What the catalog knows of the snapshots; None where it cannot be used, which is said."""
    try:
        with place.catalog() as catalog:
            asked = [None if names.is_pattern(name) else name or None for name in (scope.host, scope.module)]
            rows = [one for one in catalog.snapshots(*asked) if scope.holds(one.host, one.module)]
    except CatalogError as error:
        screen.note(f"note: logs are not compared with the catalog: {error.cause}", screen.DOUBT)
        return None
    found: dict[tuple[str, str], dict[int, tuple[str, str]]] = {}
    for row in rows:
        found.setdefault((row.host, row.module), {})[row.sequence] = (row.name, row.digest)
    return found


def _awaited(place: Workplace) -> list[str]:
    """Objects that were found damaged before: somebody may have put them back."""
    with contextlib.suppress(CatalogError), place.catalog() as catalog:
        return sorted({view.sha256 for view in catalog.damage()})
    return []


def _unsound(place: Workplace, found: Verified) -> list[tuple[str, str]]:
    """Modules of whose logs and manifests something was found, now or before: they are recorded, or right again."""
    names = {each.name.partition("@")[0] for each in found.findings if each.what != OBJECT}
    modules = {(host, module) for host, _, module in (name.partition("/") for name in names)}
    with contextlib.suppress(CatalogError), place.catalog() as catalog:
        modules |= {(view.host, view.module) for view in catalog.unsound()}
    return sorted(modules)


def _handle(place: Workplace, digests: list[str], modules: list[tuple[str, str]]) -> Mapping[str, Any]:
    """Have what was found recorded, and damaged objects set aside, by whoever holds the store's lock."""
    try:
        return chore.do(place, "damage", {"digests": digests, "modules": modules})
    except Cancelled:
        raise
    except BackupError as error:
        screen.note(f"note: nothing was set aside: {error.cause}", screen.DOUBT)
        if error.hint:
            screen.note(f"  next: {error.hint}")
        return {}


def _show(found: Verified, handled: Mapping[str, Any], store: Path) -> None:
    for line in found.accepted:
        screen.note(f"note: {printable(line)}", screen.DOUBT)
    for finding in found.findings[:SHOWN]:
        _show_finding(finding)
    if found.total > SHOWN:
        screen.say(f"and {amounts.number(found.total - SHOWN)} more; --json has up to 10,000", screen.DOUBT)
    if found.findings:
        screen.say()
    screen.say(_sum(found), screen.GOOD if found.sound else f"bold {screen.BAD}")
    if aside := len(handled.get("damaged", ())):
        screen.say(f"{amounts.counted(aside, 'object')} to be fetched anew; rotten ones lie in {store / 'damaged'}")
    if found.pruned:
        screen.say(f"{amounts.counted(found.pruned, 'snapshot')} pruned by rule, as the logs say", screen.QUIET)
    if not found.signatures:
        screen.say("signatures of the logs were not checked: the collector's key is not here", screen.DOUBT)


def _sum(found: Verified) -> str:
    parts = [f"{amounts.counted(found.objects, 'object')} ({amounts.size(found.size)})"]
    if found.left_out:
        parts[0] += f" of {amounts.number(found.objects + found.left_out)}, picked at random"
    parts += [amounts.counted(found.manifests, "manifest"), amounts.counted(found.logs, "log")]
    read = f"{', '.join(parts)} read"
    return f"{read}: all is sound" if found.sound else f"{read}: {amounts.counted(found.total, 'finding')}"


def _show_finding(finding: Finding) -> None:
    screen.line(Text(f"{finding.kind} ", f"bold {screen.BAD}"), f"{finding.what} {finding.name}")
    screen.paragraph(finding.cause)
    needing = finding.needing
    if needing.count:
        named = ", ".join(needing.snapshots[:SHOWN_SNAPSHOTS])
        more = needing.count - min(SHOWN_SNAPSHOTS, len(needing.snapshots))
        rest = f" and {amounts.number(more)} more" if more else ""
        verb = "needs it" if finding.what == OBJECT and needing.count == 1 else "need it"
        words = f"{amounts.counted(needing.count, 'snapshot')} {verb if finding.what == OBJECT else 'affected'}"
        screen.paragraph(f"{words}: {named}{rest}")
    if finding.next:
        screen.paragraph(f"next: {screen.as_typed(finding.next)}", screen.QUIET)


def _document(found: Verified, handled: Mapping[str, Any]) -> dict[str, object]:
    return {
        "sound": found.sound,
        "objects": found.objects,
        "size": found.size,
        "left_out": found.left_out,
        "manifests": found.manifests,
        "logs": found.logs,
        "pruned": found.pruned,
        "signatures": found.signatures,
        "accepted": list(found.accepted),
        "total": found.total,
        "awaited": list(handled.get("damaged", ())),
        "findings": [
            {
                "kind": each.kind,
                "what": each.what,
                "name": each.name,
                "cause": each.cause,
                "path": "/" + printable(each.needing.path) if each.needing.path else None,
                "snapshots": list(each.needing.snapshots),
                "snapshots_total": each.needing.count,
                "next": each.next,
            }
            for each in found.findings
        ],
    }
