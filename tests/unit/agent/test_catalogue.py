from __future__ import annotations

import re

import pytest
from pyrsyncbackup_agent.modules import sources

CATALOGUE = sources.read([], frozenset({0})).by_name


def test_the_catalogue_has_what_every_host_is_asked_for() -> None:
    names = "apache apt bind cron docker etc haproxy letsencrypt mysql network nginx postgresql ssh systemd"
    assert list(CATALOGUE) == names.split()


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_shipped_definition_parses_and_has_no_hooks(name: str) -> None:
    source = CATALOGUE[name]
    assert source.fault == ""
    assert source.definition is not None
    assert not source.definition.hooks
    assert re.fullmatch(r"\S.{0,40}", source.definition.title)


@pytest.mark.parametrize("name", CATALOGUE)
def test_private_keys_are_never_excluded(name: str) -> None:
    definition = CATALOGUE[name].definition
    assert definition is not None
    for path in (b"ssh_host_ed25519_key", b"privkey.pem", b"private/server.key", b"id_ed25519", b"shadow"):
        assert not definition.rules.excluded(path, is_dir=False)
