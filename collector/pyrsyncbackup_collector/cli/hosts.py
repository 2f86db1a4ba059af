"""`host list` and `host show`: what is configured, and how it stands."""

from __future__ import annotations

from typing import Annotated

import typer

from pyrsyncbackup_collector.catalog.views import PeerView
from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.screen import Column
from pyrsyncbackup_collector.cli.status import document, state_text
from pyrsyncbackup_collector.cli.verdict import HostVerdict, State
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.fleet.hosts import Host

host_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The hosts that are backed up.")
app.add_typer(host_app, name="host")

HostArgument = Annotated[str, typer.Argument(metavar="HOST", show_default=False)]


@host_app.command("list", epilog=exit_codes(10, 11), short_help="List the hosts and how each is reached.")
def list_hosts(as_json: JsonOption = False, config: ConfigOption = NOT_GIVEN) -> None:
    """List the configured hosts: how each is reached, whether its agent's key is pinned, how it stands.

    Below them, with the state `offered`, hosts that relays offer and nobody took in yet (`host accept`).
    """
    place = Workplace.load(config)
    now = SystemClock().now()
    judged, *_ = place.verdicts(now)
    offered = place.offered()
    pairs = list(zip(place.fleet.hosts, judged, strict=True))
    if as_json:
        hosts = [_document(place, host, verdict) for host, verdict in pairs]
        screen.json({"hosts": hosts, "offered": [_offer(peer) for peer in offered]})
        return
    if not pairs:
        screen.note("no hosts are configured: add one in hosts.d")
        return
    columns = [
        Column("HOST", fold=True),
        Column("REACHED BY", fold=True),
        Column("PINNED"),
        Column("STATE"),
        Column("MODULES"),
    ]
    rows: list[list[screen.Cell]] = [
        [
            host.name,
            reached_by(host),
            "yes" if place.pin(host.name).exists() else screen.text("no", screen.DOUBT),
            state_text(verdict.worst),
            str(sum(1 for module in verdict.modules if module.state not in (State.ABSENT, State.GONE))),
        ]
        for host, verdict in pairs
    ]
    rows += [[peer.name, f"relay {peer.relay}", "", _offer_state(peer), ""] for peer in offered]
    screen.table([*columns[:-1], Column("MODULES", right=True)], rows)
    for peer in offered:
        if not peer.answers:
            screen.note(f"{peer.name} does not answer relay {peer.relay}: {peer.reason}", screen.DOUBT)
        if peer.refused:
            screen.note(f"{peer.name} was not taken in: {peer.refused}", screen.DOUBT)
    if offered:
        screen.note("`pyrsyncbackup host accept NAME` takes an offered host in")


def _offer_state(peer: PeerView) -> screen.Cell:
    return screen.text("offered", "" if peer.answers else screen.DOUBT)


def reached_by(host: Host) -> str:
    """`ssh backup@web1.example.org:22, agent 9737`."""
    if host.via:
        named = "" if host.peer == host.name else f" as {host.peer}"
        return "relay " + " or ".join(relay.name for relay in host.via) + named
    if host.transport == "direct":
        return f"{host.address}:{host.agent_port} (direct)"
    user = f"{host.ssh.user}@" if host.ssh.user else ""
    port = f":{host.ssh.port}" if host.ssh.port else ""
    through = f" through {host.ssh.jump.name}" if host.ssh.jump else ""
    program = "openssh" if host.transport == "openssh" else "ssh"
    return f"{program} {user}{host.address}{port}{through}, agent {host.agent_port}"


def _offer(peer: PeerView) -> dict[str, object]:
    return {
        "name": peer.name,
        "relay": peer.relay,
        "title": peer.title,
        "answers": peer.answers,
        "reason": peer.reason or None,
        "connect_seconds": round(peer.seconds, 6),
        "seen": amounts.iso(peer.seen),
        "refused": peer.refused or None,
    }


def _document(place: Workplace, host: Host, verdict: HostVerdict) -> dict[str, object]:
    return {
        "host": host.name,
        "address": host.address,
        "transport": host.transport,
        "via": [relay.name for relay in host.via],
        "peer": host.peer or None,
        "ssh": {
            "user": host.ssh.user or None,
            "port": host.ssh.port or None,
            "key": str(host.ssh.key),
            "jump": host.ssh.jump.name if host.ssh.jump else None,
        },
        "agent_port": host.agent_port,
        "enabled": host.enabled,
        "trust": host.trust,
        "pinned": place.pin(host.name).exists(),
        "state": verdict.worst.value,
        "checked": amounts.iso(verdict.checked),
        "last_seen": amounts.iso(verdict.last_seen),
        "modules": [document(module) for module in verdict.modules],
    }


@host_app.command("show", epilog=exit_codes(4, 10, 11), short_help="Show one host and its modules.")
def show(name: HostArgument, as_json: JsonOption = False, config: ConfigOption = NOT_GIVEN) -> None:
    """Show one host: configuration, agent, trust, and each of its modules."""
    place = Workplace.load(config)
    host = place.fleet.host(name)
    now = SystemClock().now()
    judged, *_ = place.verdicts(now)
    verdict = next(each for each in judged if each.host.host == name)
    with place.catalog() as catalog:
        known = catalog.host(name)
    agent = dict(known.agent) if known else {}
    if as_json:
        screen.json({**_document(place, host, verdict), "agent": agent})
        return
    pin = place.pinned_fingerprint(name)
    untrusted = screen.as_typed(f"not pinned: `pyrsyncbackup host trust {name}`")
    screen.facts(
        [
            ("host", screen.text(name, screen.TITLE)),
            ("state", state_text(verdict.worst)),
            ("reached by", reached_by(host)),
            ("agent's key", pin or screen.text(untrusted, screen.DOUBT)),
            ("agent", f"version {agent['version']}, rsync {agent['rsync_version']}" if agent else "not asked yet"),
            *([("system", f"{agent['os']}, {agent['kernel']}")] if agent else []),
            ("seen", amounts.ago(verdict.last_seen, now)),
            ("modules", f"include {', '.join(host.include)}" + _except(host.exclude)),
        ]
    )
    if not verdict.modules:
        return
    screen.say()
    lines: list[list[screen.Cell]] = [
        [each.module, state_text(each.state), amounts.ago(each.last_good, now), each.cause] for each in verdict.modules
    ]
    screen.table([Column("MODULE", fold=True), Column("STATE"), Column("LAST GOOD"), Column("WHY", fold=True)], lines)


def _except(patterns: tuple[str, ...]) -> str:
    return f", exclude {', '.join(patterns)}" if patterns else ""
