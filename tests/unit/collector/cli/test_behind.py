"""Hosts behind a dead bastion: told together, whatever the way through it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pyrsyncbackup_collector.cli import status
from pyrsyncbackup_collector.cli.behind import Behind, grouped
from pyrsyncbackup_collector.cli.verdict import State, Verdict
from pyrsyncbackup_collector.errors import HostUnreachable
from pyrsyncbackup_collector.fleet.hosts import Host, Ssh, hops, way

SSH = Ssh("u", 22, Path("k"))


def near(name: str) -> Host:
    return Host(name, name, "sshtunnel", SSH, 1)


def relayed(name: str, *via: Host) -> Host:
    return Host(name, name, "relay", SSH, 1, via=via, peer=name)


def jumped(name: str, jump: Host) -> Host:
    return Host(name, name, "sshtunnel", replace(SSH, jump=jump), 1)


BASTION, OTHER = near("bastion"), near("other")
INNER = relayed("inner", BASTION)


def away(host: Host, hop: int, words: str = "gone: does not answer", since: float = 5.0) -> Verdict:
    error = HostUnreachable(words, "is it on?").at(hop).placed(host.name, hops(host))
    return Verdict(State.UNREACHABLE, host.name, "", since, error.cause, error.hint, 9.0)


@pytest.mark.parametrize(
    ("host", "names"),
    [
        (BASTION, ("bastion",)),
        (INNER, ("bastion", "inner")),
        (relayed("db", INNER), ("bastion", "inner", "db")),
        (jumped("db", jumped("second", BASTION)), ("bastion", "second", "db")),
        (relayed("db", jumped("second", BASTION)), ("bastion", "second", "db")),
        (Host("near", "near", "direct", SSH, 1), ("near",)),
    ],
)
def test_a_way_names_each_of_its_steps(host: Host, names: tuple[str, ...]) -> None:
    assert way(host) == names
    assert len(names) == hops(host)


@pytest.mark.parametrize("make", [relayed, jumped])
def test_fifty_hosts_behind_a_dead_bastion_are_one_problem_that_names_it(make) -> None:
    hosts = [make(f"db{number:02}", BASTION) for number in range(50)]
    problems = [away(host, 1, f"gone {host.name}") for host in hosts]
    (found,) = grouped(problems, [BASTION, *hosts])
    assert found == Behind("bastion", tuple(problems))
    own = away(BASTION, 1)
    (found,) = grouped([problems[0], own, *problems[1:]], [BASTION, *hosts])
    assert found == Behind("bastion", tuple(problems), own)
    assert found.first is own


def test_what_fails_at_the_host_itself_or_elsewhere_stays_a_problem_of_its_own() -> None:
    one, two, three = (relayed(f"db{number}", BASTION) for number in range(3))
    problems = [
        away(one, 2),
        away(two, 2),
        away(three, 1),
        away(OTHER, 1),
        Verdict(State.FAILING, one.name, "etc", 1.0, f"{one.name}: hop 1 of 2: gone"),
        Verdict(State.UNREACHABLE, "removed", "", 1.0, "removed: hop 1 of 2: gone"),
        Verdict(State.FAILING, "gc"),
    ]
    assert grouped(problems, [BASTION, OTHER, one, two, three]) == problems


def test_a_bastion_behind_a_dead_bastion_stands_for_those_behind_it() -> None:
    deep = [relayed(f"deep{number}", INNER) for number in range(3)]
    second = relayed("second", BASTION)
    hosts = [BASTION, INNER, second, *deep]
    problems = [away(INNER, 1), away(second, 1), *(away(host, 2) for host in deep)]
    assert grouped(problems, hosts) == [
        Behind("inner", tuple(problems[2:]), problems[0]),
        Behind("bastion", (problems[0], problems[1])),
    ]
    # All three behind the first one: its own problem and theirs are one.
    problems = [away(INNER, 1), *(away(host, 1) for host in deep)]
    assert grouped(problems, hosts) == [Behind("bastion", tuple(problems))]


def test_hosts_behind_two_dead_relays_are_told_with_both() -> None:
    hosts = [relayed(f"db{number}", BASTION, OTHER) for number in range(3)]
    words = "{}: none of its 2 ways works: hop 1 of 2: bastion is off; hop 1 of 2: other is off"
    problems = [Verdict(State.UNREACHABLE, host.name, "", 1.0, words.format(host.name)) for host in hosts]
    assert grouped(problems, hosts) == [Behind("bastion and other", tuple(problems))]
    mixed = [replace(one, cause=one.cause.replace("hop 1 of 2: other", "hop 2 of 2: other")) for one in problems]
    assert grouped(mixed, hosts) == mixed


def test_the_line_names_the_bastion_and_some_of_those_that_wait(capsys: pytest.CaptureFixture[str]) -> None:
    hosts = [relayed(f"db{number:02}", BASTION) for number in range(50)]
    problems = [away(host, 1, "bastion: port 22 does not answer") for host in hosts]
    (found,) = grouped(problems, hosts)
    status._show_problems([found], 65.0)
    out = capsys.readouterr().out
    assert out.startswith("unreachable bastion since ")
    lines = out.splitlines()
    assert lines[1:4] == [
        "  hop 1 of 2: bastion: port 22 does not answer",
        "  50 hosts behind it wait: db00, db01, db02, db03, db04, db05, db06, db07 and 42 more",
        "  next: is it on?",
    ]
