"""Hosts that a relay offers and nobody configured: which of them are taken in by themselves, and why others are not.

Only who proves to hold an invitation that its relay cannot have is taken in (`transport.trust`); the relay's word that
it is there is no more than a reason to ask.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from datetime import UTC, datetime
from typing import Final

from pyrsyncbackup_collector import config as configuration
from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.config import Config, accepted
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import AgentKeyUnknown, BackupError, ConfigError
from pyrsyncbackup_collector.fleet import Fleet, Host, newcomer
from pyrsyncbackup_collector.transport.offer import Peer

# No new one is met after so many seconds of one check: each may take as long as a connection may.
LONGEST: Final = 60.0


def take_in(parts: Parts, config: Config, relay: Host, peers: Sequence[Peer]) -> tuple[bool, dict[str, str]]:
    """Take in those of `peers` that prove themselves, if `relay` is set to accept = "auto".

    Returns whether there were any (the configuration has changed then), and by name why others were not. Raises
    BackupError: ConfigError, if the files of the configuration are wrong now; CatalogError.
    """
    if relay.accept != "auto":
        return False, {}
    # As the files are now: a host that somebody has just defined is not taken in beside it.
    fleet = Fleet.from_config(configuration.load(config.file))
    unknown = [peer for peer in peers if fleet.behind(relay.name, peer.name) is None and peer.answers]
    # Who was refused the last time comes after those whose turn did not come.
    before = {peer.name for peer in parts.catalog.peers(relay.name) if peer.refused}
    unknown.sort(key=lambda peer: peer.name in before)
    known = {host.name for host in fleet.hosts}
    refused: dict[str, str] = {}
    taken = False
    end = parts.clock.monotonic() + LONGEST
    for peer in unknown:
        if parts.clock.monotonic() > end:
            break
        try:
            _take(parts, config, relay, peer, known)
        except BackupError as error:
            parts.connections.forget(peer.name)
            refused[peer.name] = printable(_refusal(peer, error))
            continue
        taken = True
        logs.get().info("host taken in", host=peer.name, relay=relay.name)
    return taken, refused


def _take(parts: Parts, config: Config, relay: Host, peer: Peer, known: Container[str]) -> None:
    """Meet it, pin it, define it; raises BackupError."""
    by_hand = f"`pyrsyncbackup host accept {peer.name} --as OTHERNAME`"
    if peer.name in known:
        raise ConfigError([f"another host is called {peer.name}"], by_hand)
    if parts.catalog.host(peer.name) is not None:
        # Whoever proves himself by an invitation for all must not go on with somebody else's history.
        raise ConfigError(
            [f"there are backups of a host that was called {peer.name}"], by_hand.replace(" --as OTHERNAME", "")
        )
    with parts.connections.agent(newcomer(relay, peer.name, peer.name), now=True):
        pass
    when = datetime.fromtimestamp(parts.clock.now(), UTC).strftime("%Y-%m-%d %H:%M UTC")
    accepted.write(config, name=peer.name, relay=relay.name, peer=peer.name, how='by accept = "auto"', when=when)


def _refusal(peer: Peer, error: BackupError) -> str:
    """The cause, and how to take it in all the same: it is no configured host, which `host trust` is for."""
    if isinstance(error, AgentKeyUnknown):
        cause = error.cause.removeprefix(f"{peer.name}: ")
        return f"{cause} (`pyrsyncbackup host accept {peer.name} --fingerprint ...` takes it in by hand)"
    return str(error).removeprefix(f"{peer.name}: ")
