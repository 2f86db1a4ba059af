"""Keys, certificates and invitations, as both sides use them."""

from __future__ import annotations

import datetime
import os
import stat
import subprocess

import pytest
from cryptography import x509
from pyrsyncbackup import identity
from pyrsyncbackup.identity import Identity, InvalidIdentity, Invitation


def test_an_identity_is_made_once_and_read_afterwards(tmp_path):
    first = identity.load_or_create(tmp_path / "identity")
    assert identity.load_or_create(tmp_path / "identity") == first
    assert stat.S_IMODE((tmp_path / "identity").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "identity/key.pem").stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path / "identity")) == ["certificate.pem", "key.pem"]


def test_a_certificate_is_named_by_its_key_and_valid_whatever_the_clock_says(tmp_path):
    pem = identity.load_or_create(tmp_path).certificate_pem
    certificate = x509.load_pem_x509_certificate(pem)
    assert certificate.not_valid_before_utc == datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    assert certificate.not_valid_after_utc.year == 9999
    name = identity.certificate_name(pem)
    assert name.endswith(".pyrsyncbackup")
    assert len(name) == 46
    assert certificate.subject.rfc4514_string() == f"CN={name}"
    assert identity.check_certificate(pem) == pem


def test_key_and_secret_stay_out_of_representations(tmp_path):
    own = identity.load_or_create(tmp_path)
    assert "PRIVATE" not in repr(own)
    assert "secret" not in repr(Invitation("c", own.certificate_pem, "ssh-ed25519 AAAA", b"s" * 32))


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda d: os.chmod(d / "key.pem", 0o640), "can be read by others"),
        (lambda d: os.unlink(d / "certificate.pem"), "is missing"),
        (lambda d: (d / "key.pem").write_text("nonsense"), "cannot be read"),
        (lambda d: (d / "certificate.pem").write_text("nonsense"), "cannot be read"),
        (lambda d: (d / "certificate.pem").write_bytes(identity.create()[1]), "do not belong together"),
    ],
)
def test_a_damaged_identity_is_refused_with_its_reason(tmp_path, damage, text):
    identity.load_or_create(tmp_path)
    damage(tmp_path)
    with pytest.raises(InvalidIdentity, match=text):
        identity.load_or_create(tmp_path)


def test_a_certificate_without_key_is_what_a_crash_leaves_and_is_replaced(tmp_path):
    stray = identity.create()[1]
    (tmp_path / "certificate.pem").write_bytes(stray)
    assert isinstance(identity.load_or_create(tmp_path), Identity)
    assert (tmp_path / "certificate.pem").read_bytes() != stray


def test_foreign_certificates_are_no_identities(tmp_path):
    def made(*options: str) -> bytes:
        subprocess.run(
            ["openssl", "req", "-x509", "-nodes", "-keyout", tmp_path / "k", "-out", tmp_path / "c", *options],
            check=True,
            capture_output=True,
        )
        return (tmp_path / "c").read_bytes()

    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    for options in (("-newkey", "rsa:2048", "-subj", "/CN=x"), (*ec, "-subj", "/CN=x")):
        with pytest.raises(InvalidIdentity):
            identity.check_certificate(made(*options))
    both = identity.create()[1] + identity.create()[1]
    with pytest.raises(InvalidIdentity, match="one certificate is expected"):
        identity.check_certificate(both)


def test_fingerprints_compare_in_our_form_and_in_openssls():
    pem = identity.create()[1]
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256"], input=pem, capture_output=True, check=True
    ).stdout.decode()
    assert identity.same_fingerprint(identity.fingerprint(pem), pem)
    assert identity.same_fingerprint(shown.partition("=")[2], pem)
    assert identity.same_fingerprint(shown.strip(), pem)
    assert not identity.same_fingerprint(identity.fingerprint(identity.create()[1]), pem)
    assert not identity.same_fingerprint("", pem)


def test_an_invitation_comes_back_as_it_was_written():
    invitation = Invitation("backup1", identity.create()[1], "ssh-ed25519 AAAAC3 c@b", identity.new_secret())
    assert Invitation.parse(invitation.format()) == invitation
    assert Invitation.parse(invitation.format().replace("\n", "\r\n")) == invitation


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: "", "exactly one certificate"),
        (lambda t: t * 2, "exactly one certificate"),
        (lambda t: t.replace("Secret: ", "Secret: x"), "secret"),
        (lambda t: t.replace("Version: 1", "Version: 2"), "only 1 is known"),
        (lambda t: t.replace("Collector: ", "Colector: "), "cannot understand"),
        (lambda t: t.replace("Collector: a\n", ""), "incomplete"),
        (lambda t: t.replace("Fingerprint: SHA256:", "Fingerprint: SHA256:A"), "was changed"),
        (lambda t: "x" * 70000, "too long"),
    ],
)
def test_a_changed_invitation_is_refused_with_its_reason(change, text):
    good = Invitation("a", identity.create()[1], "ssh-ed25519 AAAAC3", identity.new_secret()).format()
    with pytest.raises(InvalidIdentity, match=text):
        Invitation.parse(change(good))


def test_the_proof_depends_on_secret_and_both_certificates():
    secret, other = identity.new_secret(), identity.new_secret()
    proofs = {
        identity.proof(secret, b"agent", b"collector"),
        identity.proof(other, b"agent", b"collector"),
        identity.proof(secret, b"agent2", b"collector"),
        identity.proof(secret, b"agent", b"collector2"),
        identity.proof(secret, b"collector", b"agent"),
    }
    assert len(proofs) == 5
    assert identity.parse_secret(identity.format_secret(secret)) == secret
