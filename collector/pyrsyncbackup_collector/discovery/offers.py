"""Ask an agent what its host has, and keep what is meant for this collector.

Which modules a host offers is the agent's word; which of them are pulled is the configuration's (`include`,
`exclude`). Modules that are absent or invalid are kept with their reason: they are shown, and not pulled.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from pyrsyncbackup import valid_name

from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.transport.offer import ModuleOffer, ModuleState, Offers


class ModuleSource(Protocol):
    """An open connection with an agent, as far as discovery needs it. Called from one thread; closed by its owner."""

    def offers(self, *, fingerprints: bool = False, names: Iterable[str] = ()) -> Offers:
        """The modules of these names (none: all), with fingerprints of the ready ones if asked."""
        ...


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a host offers to this collector, by name; `problems` are lines for a log, printable."""

    offers: tuple[ModuleOffer, ...]
    problems: tuple[str, ...] = ()

    def offer(self, name: str) -> ModuleOffer | None:
        """The module of that name."""
        return next((offer for offer in self.offers if offer.name == name), None)

    @property
    def ready(self) -> tuple[ModuleOffer, ...]:
        """Those that can be pulled."""
        return tuple(offer for offer in self.offers if offer.state is ModuleState.READY)


def discover(agent: ModuleSource, host: Host, *, check: Collection[str] | None = ()) -> Discovery:
    """All modules of `host`, those in `check` with fingerprints (None: all of them, in one call where possible).

    Raises ConnectError and its kin.
    """
    in_one_call = check is None and host.wants_all
    found = _sorted_out(agent.offers(fingerprints=in_one_call), host)
    if in_one_call:
        return found
    ready = sorted(offer.name for offer in found.ready if check is None or offer.name in check)
    if not ready:
        return found
    checked = {offer.name: offer for offer in agent.offers(fingerprints=True, names=ready).modules}
    offers = tuple(
        replace(offer, fingerprint=checked[offer.name].fingerprint)
        if offer.name in checked and checked[offer.name].state is ModuleState.READY
        else offer
        for offer in found.offers
    )
    return replace(found, offers=offers)


def _sorted_out(offered: Offers, host: Host) -> Discovery:
    offers: dict[str, ModuleOffer] = {}
    names: set[str] = set()
    problems = list(offered.dropped)
    for offer in offered.modules:
        if not valid_name(offer.name):
            problems.append(f"the agent offers a module with an impossible name: {printable(offer.name[:80])}")
        elif offer.name in names:
            problems.append(f"the agent offers the module {offer.name} twice")
        elif host.wants(offer.name):
            offers[offer.name] = offer
        names.add(offer.name)
    problems += [
        f"module {offer.name} is invalid: {printable(offer.reason)}"
        for offer in offers.values()
        if offer.state is ModuleState.INVALID
    ]
    return Discovery(tuple(offers[name] for name in sorted(offers)), tuple(problems))
