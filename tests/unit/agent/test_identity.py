"""The agent's own key, and accepting invitations."""

from __future__ import annotations

import json
import stat

import pytest
from pyrsyncbackup import identity
from pyrsyncbackup.identity import Invitation
from pyrsyncbackup_agent.cli import main
from pyrsyncbackup_agent.errors import IdentityError
from pyrsyncbackup_agent.identity import accept, own


def invitation(name: str = "backup1") -> Invitation:
    return Invitation(name, identity.create()[1], "ssh-ed25519 AAAAC3 x", identity.new_secret())


def test_the_identity_is_made_once(tmp_path):
    assert own(tmp_path / "identity") == own(tmp_path / "identity")


def test_an_unusable_identity_is_one_error(tmp_path):
    own(tmp_path)
    (tmp_path / "key.pem").write_text("x")
    with pytest.raises(IdentityError, match="cannot be read"):
        own(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(IdentityError, match="no identity in"):
        own(tmp_path / "file")


def test_accepting_writes_certificate_and_secret(tmp_path):
    invited = invitation()
    accepted = accept(invited.format(), tmp_path / "collectors.d")
    assert accepted.file.read_bytes() == invited.certificate_pem
    secret = tmp_path / "collectors.d/backup1.secret"
    assert identity.parse_secret(secret.read_text()) == invited.secret
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert not accepted.was_known
    assert accept(invited.format(), tmp_path / "collectors.d").was_known


def test_another_key_under_a_known_name_needs_replace(tmp_path):
    accept(invitation().format(), tmp_path)
    other = invitation()
    with pytest.raises(IdentityError, match="with another key") as caught:
        accept(other.format(), tmp_path)
    assert "--replace" in caught.value.hint
    assert accept(other.format(), tmp_path, replace=True).file.read_bytes() == other.certificate_pem


def test_one_key_is_not_accepted_under_two_names(tmp_path):
    first = invitation()
    accept(first.format(), tmp_path)
    twin = Invitation("backup2", first.certificate_pem, first.ssh_public_key, first.secret)
    with pytest.raises(IdentityError, match="trusted already, as"):
        accept(twin.format(), tmp_path)


@pytest.mark.parametrize("name", ["../evil", "UPPER", "a b"])
def test_names_that_are_no_names_are_refused(tmp_path, name):
    with pytest.raises(IdentityError, match="no name for a collector"):
        accept(invitation(name).format(), tmp_path)


def test_what_is_no_invitation_is_refused_with_the_next_step(tmp_path):
    with pytest.raises(IdentityError, match="no invitation") as caught:
        accept("hello", tmp_path)
    assert "pyrsyncbackup invitation" in caught.value.hint


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "agent.toml"
    file.write_text('name = "web1"\nstate_dir = "state"\ncollectors_dir = "collectors.d"\nlisten = "127.0.0.1:9999"\n')
    return str(file)


def test_the_command_accepts_a_file_and_prints_what_ssh_needs(tmp_path, config, capsys):
    invited = invitation()
    (tmp_path / "invitation").write_text(invited.format())
    assert main(["--config", config, "accept", str(tmp_path / "invitation")]) == 0
    out = capsys.readouterr().out
    assert f"collector backup1 is trusted: {identity.fingerprint(invited.certificate_pem)}" in out
    assert 'restrict,port-forwarding,permitopen="127.0.0.1:9999" ssh-ed25519 AAAAC3 x' in out
    assert (tmp_path / "collectors.d/backup1.pem").read_bytes() == invited.certificate_pem


def test_the_command_names_what_it_cannot_read(tmp_path, config, capsys):
    assert main(["--config", config, "accept", str(tmp_path / "none")]) == 4
    assert "cannot read" in capsys.readouterr().err
    (tmp_path / "binary").write_bytes(b"\xff" * 10)
    assert main(["--config", config, "accept", str(tmp_path / "binary")]) == 4
    assert "no invitation" in capsys.readouterr().err


def test_the_command_shows_the_identity(tmp_path, config, capsys):
    assert main(["--config", config, "identity"]) == 0
    shown = capsys.readouterr().out
    assert main(["--config", config, "identity", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert shown == f"web1  {facts['fingerprint']}\n"
    assert identity.fingerprint(facts["certificate"].encode()) == facts["fingerprint"]
