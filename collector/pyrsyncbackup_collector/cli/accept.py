"""`host accept`: taking in a host that a relay offers."""

from __future__ import annotations

import os
import signal
from typing import Annotated

import typer
from pyrsyncbackup import valid_name

from pyrsyncbackup_collector.catalog.views import PeerView
from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.cli.hosts import HostArgument, host_app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, exit_codes
from pyrsyncbackup_collector.cli.status import is_alive
from pyrsyncbackup_collector.cli.trust import Consent, trust_agent
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.config import accepted
from pyrsyncbackup_collector.errors import NotFound, UsageError
from pyrsyncbackup_collector.fleet import newcomer


@host_app.command("accept", epilog=exit_codes(4, 5, 11), short_help="Take in a host that a relay offers.")
def accept(
    name: HostArgument,
    via: Annotated[str, typer.Option("--via", metavar="RELAY", help="The relay, where several offer the name.")] = "",
    called: Annotated[str, typer.Option("--as", metavar="NAME", help="What it is called here. [default: HOST]")] = "",
    fingerprint: Annotated[
        str, typer.Option("--fingerprint", metavar="F", help="Of the agent: `pyrsyncbackup-agent identity` there.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Accept the key that is shown, compared by nobody.")] = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Take in a host that a relay offers (`host list` shows them): pin its agent's key, and write its definition.

    An agent that accepted an invitation for HOST, or one with --via, proves itself: its key needs no fingerprint.
    """
    place = Workplace.load(config)
    peer = _offer(place, name, via)
    own_name = called or name
    if not valid_name(own_name):
        raise UsageError(f"{own_name!r} is no name", "use a-z, 0-9, dot, dash and underscore")
    if own_name in place.config.by_name:
        raise UsageError(f"a host is called {own_name} already", f"`pyrsyncbackup host accept {name} --as OTHERNAME`")
    host = newcomer(place.fleet.host(peer.relay), own_name, peer.name)
    with place.connections() as connections:
        shown = connections.inspect(host)
        again = f"host accept {name}" + (f" --via {via}" if via else "") + (f" --as {called}" if called else "")
        consent = Consent(host, yes=yes, replace=False, command=again)
        trust_agent(connections, host, shown, consent, fingerprint)
    when = amounts.iso(SystemClock().now()) or ""
    file = accepted.write(
        place.config, name=own_name, relay=peer.relay, peer=peer.name, how="by `host accept`", when=when
    )
    screen.facts([("host", screen.text(own_name, screen.TITLE)), ("defined in", str(file))])
    _tell_daemon(place)


def _offer(place: Workplace, name: str, via: str) -> PeerView:
    found = [peer for peer in place.offered() if peer.name == name and via in ("", peer.relay)]
    if not found:
        if name in place.config.by_name:
            raise NotFound(f"{name} is configured already", f"`pyrsyncbackup host test {name}`")
        whose = f"relay {via} offers no host" if via else "no relay offers a host"
        raise NotFound(
            f"{whose} called {name}, as of its last check",
            f"`pyrsyncbackup pull {via or 'RELAY'}` checks it now; then `pyrsyncbackup host list` shows what it offers",
        )
    if len(found) > 1:
        relays = " and ".join(peer.relay for peer in found)
        raise UsageError(f"{relays} offer a host called {name}", f"name one: --via {found[0].relay}")
    return found[0]


def _tell_daemon(place: Workplace) -> None:
    with place.catalog() as catalog:
        daemon = catalog.daemon()
    if daemon is None or not is_alive(daemon, SystemClock().now()):
        screen.note("the daemon does not run; it knows the host when it starts")
        return
    try:
        os.kill(daemon.pid, signal.SIGHUP)
        screen.note("the daemon reads its configuration again")
    except OSError:
        screen.note("the daemon is another user's: tell it with `systemctl reload pyrsyncbackup`", screen.DOUBT)
