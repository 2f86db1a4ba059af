"""Finding hosts by name and pattern."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyrsyncbackup_collector.config import load
from pyrsyncbackup_collector.errors import NotFound
from pyrsyncbackup_collector.fleet import Fleet, Host, Ssh


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    hosts = "".join(f'[[host]]\nname = "{name}"\n' for name in ("web1", "web2", "db1"))
    (tmp_path / "collector.toml").write_text(f'store = "s"\ncatalog = "c"\nstate = "state"\n{hosts}')
    return Fleet.from_config(load(tmp_path / "collector.toml"))


def test_a_host_has_the_defaults_where_nothing_is_written(fleet: Fleet, tmp_path: Path) -> None:
    ssh = Ssh("pyrsyncbackup", 22, tmp_path / "state/ssh/id_ed25519")
    assert fleet.host("db1") == Host("db1", "db1", "sshtunnel", ssh, 9737)


@pytest.mark.parametrize(
    ("pattern", "names"), [("web1", ["web1"]), ("web*", ["web1", "web2"]), ("*", ["web1", "web2", "db1"])]
)
def test_a_pattern_matches_names(fleet: Fleet, pattern: str, names: list[str]) -> None:
    assert [host.name for host in fleet.match(pattern)] == names


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("web3", "no host is called web3 (did you mean web2 or web1?)"),
        ("mail", "no host is called mail (`pyrsyncbackup host list` shows all)"),
        ("mail*", "no host matches mail* (`pyrsyncbackup host list` shows all)"),
        ("\x1b[m", "no host matches \\x1b[m (`pyrsyncbackup host list` shows all)"),
    ],
)
def test_an_unknown_host_is_told_with_near_names(fleet: Fleet, pattern: str, message: str) -> None:
    with pytest.raises(NotFound) as caught:
        fleet.match(pattern)
    assert str(caught.value) == message


def test_without_hosts_the_message_says_where_to_add_them() -> None:
    with pytest.raises(NotFound) as caught:
        Fleet(()).host("web1")
    assert str(caught.value) == "no host is called web1 (no hosts are configured: add one in hosts.d)"


def test_modules_are_chosen_by_include_and_exclude() -> None:
    host = Host("a", "a", "direct", Ssh("u", 22, Path("k")), 1, include=("etc", "nginx*"), exclude=("nginx-cache",))
    assert [name for name in ("etc", "nginx", "nginx-cache", "ssh") if host.wants(name)] == ["etc", "nginx"]
