"""What a reload changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyrsyncbackup_collector.config import load
from pyrsyncbackup_collector.config.model import Workers
from pyrsyncbackup_collector.daemon import reload
from pyrsyncbackup_collector.errors import ConfigError

BASE = 'store = "store"\ncatalog = "catalog"\n'


def host(name: str, text: str = "") -> str:
    return f'[[host]]\nname = "{name}"\n{text}\n'


def test_hosts_are_told_apart_by_what_became_of_them(tmp_path: Path) -> None:
    file = tmp_path / "collector.toml"
    file.write_text(BASE + host("same") + host("moved") + host("gone") + host("off"))
    old = load(file)
    file.write_text(
        BASE + host("new") + host("moved", 'address = "10.0.0.1"') + host("same") + host("off", "enabled = false")
    )
    found = reload.read(old)
    assert found.difference == reload.Difference(("new",), ("gone", "off"), ("moved",), ("same",))
    assert found.kept == ()
    assert [one.name for one in found.config.hosts] == ["new", "moved", "same", "off"]


def test_what_cannot_change_under_running_pulls_stays_and_is_named(tmp_path: Path) -> None:
    file = tmp_path / "collector.toml"
    file.write_text(BASE)
    old = load(file)
    file.write_text('store = "elsewhere"\ncatalog = "catalog"\nsandbox = "off"\n[limits]\npulls = 3\nidle = "9s"\n')
    found = reload.read(old)
    assert found.kept == ("store", "sandbox", "limits.idle")
    assert (found.config.store, found.config.sandbox) == (old.store, "require")
    assert found.config.limits.pulls == Workers(min=3, max=3)


def test_a_wrong_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "collector.toml"
    file.write_text(BASE)
    old = load(file)
    file.write_text("store = 3\n")
    with pytest.raises(ConfigError):
        reload.read(old)
