"""Hosts that were taken in are files that the configuration reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyrsyncbackup_collector.config import Config, accepted, load
from pyrsyncbackup_collector.errors import ConfigError
from pyrsyncbackup_collector.fleet import Fleet, newcomer

WHEN = "2026-11-25 10:00 UTC"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "collector.toml").write_text(
        'store = "s"\ncatalog = "c"\nstate = "state"\n[[host]]\nname = "bastion"\naccept = "auto"\n'
        'ssh = { user = "me", port = 2222 }\nbwlimit = "1M"\nmodules = { include = ["x"] }\n'
    )
    return load(tmp_path / "collector.toml")


def test_what_is_written_is_read_back(config: Config) -> None:
    file = accepted.write(config, name="db", relay="bastion", peer="db1", how="by `host accept`", when=WHEN)
    assert file == config.state / "accepted" / "db.toml"
    assert file.read_text().startswith(f"# Taken in by `host accept`, {WHEN}. Edit it")
    assert file.stat().st_mode & 0o777 == 0o600
    fleet = Fleet.from_config(load(config.file))
    host = fleet.host("db")
    assert (host.transport, host.via, host.peer, host.accept) == ("relay", (fleet.host("bastion"),), "db1", "manual")
    assert fleet.behind("bastion", "db1") is host
    assert fleet.behind("bastion", "db") is None
    assert fleet.behind("other", "db1") is None


def test_a_newcomer_is_what_it_will_be_but_for_what_belongs_to_its_relay(config: Config) -> None:
    relay = Fleet.from_config(config).host("bastion")
    made = newcomer(relay, "db", "db1")
    accepted.write(config, name="db", relay="bastion", peer="db1", how="x", when=WHEN)
    read = Fleet.from_config(load(config.file)).host("db")
    for field in ("name", "address", "transport", "via", "peer", "accept", "include", "exclude", "bwlimit", "trust"):
        assert getattr(made, field) == getattr(read, field), field


def test_two_files_with_one_name_are_a_fault_that_names_both(config: Config) -> None:
    accepted.write(config, name="db", relay="bastion", peer="db1", how="x", when=WHEN)
    (config.file.parent / "hosts.d").mkdir()
    (config.file.parent / "hosts.d" / "db.toml").write_text('[[host]]\nname = "db"\n')
    with pytest.raises(ConfigError) as caught:
        load(config.file)
    assert "accepted/db.toml" in str(caught.value)
    assert "hosts.d/db.toml" in str(caught.value)


def test_a_directory_that_cannot_be_written_is_one_error(config: Config) -> None:
    config.state.write_text("no directory")
    with pytest.raises(ConfigError) as caught:
        accepted.write(config, name="db", relay="bastion", peer="db1", how="x", when=WHEN)
    assert caught.value.problems == [f"{config.state}/accepted/db.toml: cannot be written: Not a directory"]


def test_a_definition_that_somebody_edited_is_not_replaced(config: Config) -> None:
    file = accepted.write(config, name="db", relay="bastion", peer="db1", how="x", when=WHEN)
    file.write_text(file.read_text().replace('name = "db"', 'name = "db-main"'))
    with pytest.raises(ConfigError, match="exists already"):
        accepted.write(config, name="db", relay="other", peer="db1", how="x", when=WHEN)
    assert 'name = "db-main"' in file.read_text()
    assert [one.name for one in file.parent.iterdir()] == ["db.toml"]
