"""What a host offers, sorted out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pyrsyncbackup_collector.discovery import discover
from pyrsyncbackup_collector.fleet import Host, Ssh
from pyrsyncbackup_collector.transport.offer import Fingerprint, ModuleOffer, ModuleState, Offers

HOST = Host("web1", "web1", "direct", Ssh("u", 22, Path("k")), 9737)
PRINT = Fingerprint(b"f", settled=True, entries=3)


class Agent:
    """Offers fixed modules and keeps a record of what it was asked."""

    def __init__(self, *offers: ModuleOffer) -> None:
        self.has = offers
        self.asked: list[tuple[bool, tuple[str, ...]]] = []

    def offers(self, *, fingerprints: bool = False, names: Iterable[str] = ()) -> Offers:
        names = tuple(names)
        self.asked.append((fingerprints, names))
        found = [
            ModuleOffer(o.name, o.title, o.state, o.reason, fingerprint=PRINT if fingerprints else None)
            for o in self.has
            if not names or o.name in names
        ]
        return Offers(tuple(found), ("the agent offers 3 modules without a name",) if not self.has else ())


def offer(name: str, state: ModuleState = ModuleState.READY, reason: str = "") -> ModuleOffer:
    return ModuleOffer(name, name.title(), state, reason)


def test_a_check_of_all_modules_is_one_call() -> None:
    agent = Agent(offer("nginx"), offer("etc"))
    found = discover(agent, HOST, check=None)
    assert [(o.name, o.fingerprint) for o in found.offers] == [("etc", PRINT), ("nginx", PRINT)]
    assert agent.asked == [(True, ())]


def test_only_what_is_due_gets_a_fingerprint() -> None:
    agent = Agent(offer("nginx"), offer("etc"), offer("gone", ModuleState.ABSENT))
    found = discover(agent, HOST, check={"etc", "gone", "never"})
    assert [(o.name, o.fingerprint) for o in found.offers] == [("etc", PRINT), ("gone", None), ("nginx", None)]
    assert agent.asked == [(False, ()), (True, ("etc",))]


def test_what_is_left_out_is_not_read_on_the_host_either() -> None:
    host = Host("web1", "web1", "direct", HOST.ssh, 9737, exclude=("www*",))
    agent = Agent(offer("www-data"), offer("etc"))
    found = discover(agent, host, check=None)
    assert [o.name for o in found.offers] == ["etc"]
    assert agent.asked == [(False, ()), (True, ("etc",))]


def test_impossible_and_repeated_names_are_told_and_dropped() -> None:
    found = discover(Agent(offer("../etc"), offer("etc"), offer("etc"), offer("a\x1b[2J")), HOST)
    assert [o.name for o in found.offers] == ["etc"]
    assert found.problems == (
        "the agent offers a module with an impossible name: ../etc",
        "the agent offers the module etc twice",
        "the agent offers a module with an impossible name: a\\x1b[2J",
    )


def test_an_invalid_module_is_told_and_others_go_on() -> None:
    found = discover(Agent(offer("bad", ModuleState.INVALID, "line 3:\x07"), offer("etc")), HOST)
    assert [o.name for o in found.ready] == ["etc"]
    assert found.problems == ("module bad is invalid: line 3:\\x07",)
    assert found.offer("bad") is not None
    assert found.offer("none") is None


def test_what_was_dropped_on_receipt_is_told() -> None:
    assert discover(Agent(), HOST).problems == ("the agent offers 3 modules without a name",)
