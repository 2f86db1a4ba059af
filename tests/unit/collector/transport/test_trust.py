"""Pins, and what a proof is worth: also behind a relay that has a secret of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyrsyncbackup import identity
from pyrsyncbackup_collector.errors import AgentKeyChanged, AgentKeyUnknown, BackupError
from pyrsyncbackup_collector.transport.invitations import invite, own_identity
from pyrsyncbackup_collector.transport.trust import Trust


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    return Trust(tmp_path, own_identity(tmp_path))


def prove(state: Path, certificate: bytes, **invited: str) -> bytes:
    """What an agent answers that accepted this invitation."""
    ders = identity.certificate_der(certificate), identity.certificate_der(own_identity(state).certificate_pem)
    return identity.proof(invite(state, **invited).secret, *ders)


@pytest.mark.parametrize(
    ("invited", "host", "relay", "proves"),
    [
        ({}, "web1", "", True),
        ({}, "web1", "bastion", False),
        ({}, "fleet", "", True),
        # What a relay is free to call its peers must not name the secret that it has.
        ({}, "fleet", "bastion", False),
        ({"host": "web1"}, "web1", "", True),
        ({"host": "web1"}, "web1", "bastion", True),
        ({"host": "web1"}, "web2", "bastion", False),
        ({"via": "bastion"}, "web1", "bastion", True),
        ({"via": "bastion"}, "web1", "", False),
        ({"via": "bastion"}, "web1", "other", False),
        ({"via": "bastion"}, "bastion", "", False),
        ({"host": "bastion"}, "web1", "bastion", False),
    ],
)
def test_which_invitation_proves_whom(
    trust: Trust, tmp_path: Path, invited: dict[str, str], host: str, relay: str, proves: bool
) -> None:
    certificate = identity.create()[1]
    proof = prove(tmp_path, certificate, **invited)
    assert trust.proven(host, certificate, proof, relay) is proves
    assert not trust.proven(host, identity.create()[1], proof, relay)
    assert not trust.proven(host, certificate, b"", relay)


def test_without_any_invitation_nothing_is_proven(trust: Trust) -> None:
    certificate = identity.create()[1]
    assert not trust.proven("web1", certificate, b"")
    assert not trust.proven("web1", certificate, b"", "bastion")


def test_a_pin_stays_until_it_is_replaced(trust: Trust, tmp_path: Path) -> None:
    one, two = identity.create()[1], identity.create()[1]
    assert trust.pinned("web1") is None
    trust.pin("web1", one)
    trust.pin("web1", one)
    with pytest.raises(AgentKeyChanged) as caught:
        trust.pin("web1", two)
    assert identity.fingerprint(one) in caught.value.cause
    trust.pin("web1", two, replace=True)
    assert trust.pinned("web1") == two
    assert (tmp_path / "pins" / "web1.pem").stat().st_mode & 0o777 == 0o600


def test_a_key_is_that_of_one_host(trust: Trust, tmp_path: Path) -> None:
    certificate = identity.create()[1]
    trust.pin("web1", certificate)
    for replace in (False, True):
        with pytest.raises(AgentKeyUnknown) as caught:
            trust.pin("web2", certificate, replace=replace)
        assert caught.value.cause == (
            f"web2: the agent there is that of web1: it shows the key {identity.fingerprint(certificate)}"
        )
    (tmp_path / "pins" / "web1.pem").unlink()
    trust.pin("web2", certificate)


def test_a_pin_that_cannot_be_read_is_told_for_its_own_host_alone(trust: Trust, tmp_path: Path) -> None:
    trust.pin("web1", identity.create()[1])
    (tmp_path / "pins" / "web1.pem").write_text("nonsense")
    trust.pin("web2", identity.create()[1])
    with pytest.raises(BackupError) as caught:
        trust.pinned("web1")
    assert caught.value.hint == "restore or remove that file"
