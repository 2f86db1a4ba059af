"""The collector's own keys and invitations."""

from __future__ import annotations

import stat
import subprocess

import pytest
from pyrsyncbackup.identity import Invitation
from pyrsyncbackup_collector.errors import BackupError
from pyrsyncbackup_collector.transport.invitations import invite, own_identity, own_ssh_key


def test_an_invitation_is_the_same_until_its_secret_is_removed(tmp_path):
    first = invite(tmp_path)
    assert invite(tmp_path) == first == Invitation.parse(first.format())
    assert first.certificate_pem == own_identity(tmp_path).certificate_pem
    secret = tmp_path / "invitations/fleet.secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    secret.unlink()
    assert invite(tmp_path).secret != first.secret
    assert invite(tmp_path, "web1").secret != invite(tmp_path).secret


def test_the_ssh_key_is_one_that_openssh_reads(tmp_path):
    public = own_ssh_key(tmp_path)
    assert own_ssh_key(tmp_path) == public
    key = tmp_path / "ssh/id_ed25519"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    shown = subprocess.run(["ssh-keygen", "-y", "-f", key], capture_output=True, text=True, check=True).stdout
    assert shown.split()[:2] == public.split()[:2]


def test_a_secret_that_is_none_is_one_error_with_the_next_step(tmp_path):
    (tmp_path / "invitations").mkdir()
    (tmp_path / "invitations/fleet.secret").write_text("short")
    with pytest.raises(BackupError, match="cannot be used") as caught:
        invite(tmp_path)
    assert "remove it" in caught.value.hint


def test_a_public_ssh_key_that_is_missing_names_the_command_that_makes_it(tmp_path):
    own_ssh_key(tmp_path)
    (tmp_path / "ssh/id_ed25519.pub").unlink()
    with pytest.raises(BackupError) as caught:
        own_ssh_key(tmp_path)
    assert "ssh-keygen -y -f" in caught.value.hint
