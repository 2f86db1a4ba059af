"""Ways that lead nowhere, in a circle or too far are mistakes of the configuration, told with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyrsyncbackup_collector.config import load
from pyrsyncbackup_collector.errors import ConfigError
from pyrsyncbackup_collector.fleet import Fleet

GOOD = 'store = "store"\ncatalog = "catalog.sqlite"\n'


def write(tmp_path: Path, *hosts: str) -> Path:
    (tmp_path / "hosts.d").mkdir()
    (tmp_path / "hosts.d" / "a.toml").write_text("".join(f"[[host]]\n{lines}\n" for lines in hosts))
    file = tmp_path / "collector.toml"
    file.write_text(GOOD)
    return file


def chain(length: int) -> list[str]:
    hosts = ['name = "h1"']
    return hosts + [f'name = "h{number}"\nvia = "h{number - 1}"' for number in range(2, length + 1)]


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (
            ['name = "bastion"', 'name = "db1"\nvia = "bastoin"'],
            '5: host[2].via: no host is called "bastoin"; did you mean "bastion"?',
        ),
        (
            ['name = "bastion"', 'name = "db1"\nssh = { jump = "gate" }'],
            '5: host[2].ssh.jump: no host is called "gate"',
        ),
        (['name = "a"\nvia = "a"'], "3: host[1].via: leads in a circle: a leads to a"),
        (
            ['name = "a"\nvia = "b"', 'name = "b"\nvia = ["c"]', 'name = "c"\nssh = { jump = "a" }'],
            "3: host[1].via: leads in a circle: a leads to b leads to c leads to a",
        ),
        (
            ['name = "a"', 'name = "b"\nvia = "a"\naddress = "b.example.org"'],
            "6: host[2].address: means nothing beside `via`: the relay knows the way; remove one of both",
        ),
        (
            ['name = "a"', 'name = "b"\nvia = "a"\ntransport = "openssh"'],
            "6: host[2].transport: means nothing beside `via`: the relay knows the way; remove one of both",
        ),
        (
            ['name = "a"\npeer = "x"'],
            "3: host[1].peer: means nothing without `via`: it is a relay's name for this host",
        ),
        (
            ['name = "a"', 'name = "b"\ntransport = "direct"\nssh = { jump = "a" }'],
            '6: host[2].ssh.jump: means nothing with transport = "direct": no SSH connection is made',
        ),
        (
            ['name = "a"\ntransport = "direct"', 'name = "b"\nssh = { jump = "a" }'],
            '6: host[2].ssh.jump: "a" is not reached by SSH itself, so nobody can jump through it',
        ),
        (['name = "a"', 'name = "b"\nvia = ["a", "a"]'], "5: host[2].via: names a host twice"),
        (['name = "a"', 'name = "b"\nvia = 5'], "5: host[2].via: must be a list, not 5"),
        (['name = "a"\naccept = "yes"'], '3: host[1].accept: must be "auto" or "manual", not "yes"'),
        (
            [*chain(9), 'name = "far"\nvia = ["h9", "typo"]'],
            '29: host[10].via: no host is called "typo"',
        ),
        (chain(9), "26: host[9].via: the way to this host has 9 hops; at most 8 are allowed"),
    ],
)
def test_a_fault_of_a_way_is_told_once_with_line_and_key(tmp_path: Path, hosts: list[str], expected: str) -> None:
    file = write(tmp_path, *hosts)
    with pytest.raises(ConfigError) as caught:
        load(file)
    # The circle may be told of any of its hosts; what else these do wrong is told, too.
    found = [problem for problem in caught.value.problems if expected.partition(": ")[2] in problem]
    assert found == [f"{file.parent}/hosts.d/a.toml:{expected}"]


def test_a_chain_without_end_is_too_long_and_nothing_worse(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has 9 hops") as caught:
        load(write(tmp_path, *chain(3000)))
    assert len(caught.value.problems) == 1


def test_eight_hops_are_a_way_and_a_host_knows_the_hosts_before_it(tmp_path: Path) -> None:
    host = Fleet.from_config(load(write(tmp_path, *chain(8)))).host("h8")
    names = []
    while host.via:
        (host,) = host.via
        names.append(host.name)
    assert names == [f"h{number}" for number in range(7, 0, -1)]


def test_hosts_that_were_accepted_lie_in_the_state_directory(tmp_path: Path) -> None:
    file = write(tmp_path, 'name = "bastion"')
    file.write_text(GOOD + 'state = "keys"\n')
    accepted = tmp_path / "keys" / "accepted"
    accepted.mkdir(parents=True)
    (accepted / "db1.toml").write_text('[[host]]\nname = "db1"\nvia = "bastion"\n')
    assert Fleet.from_config(load(file)).host("db1").peer == "db1"
