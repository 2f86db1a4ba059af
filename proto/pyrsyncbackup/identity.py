"""Keys, certificates, the invitation and its proof: what agent and collector must make and check alike.

A side is its P-256 key: the certificate around it is self-signed, named by the digest of the key, no authority, and
valid from 1970 to 9999 because hosts have wrong clocks. Whom to trust is not decided here: the agent has its folder of
accepted collectors, the collector its pins.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pyrsyncbackup.proof import SECRET_SIZE, InvalidIdentity, format_secret, new_secret, parse_secret, proof

__all__ = [
    "CERTIFICATE_FILE",
    "KEY_FILE",
    "MAX_TEXT",
    "SECRET_SIZE",
    "Identity",
    "InvalidIdentity",
    "Invitation",
    "certificate_der",
    "certificate_name",
    "check_certificate",
    "create",
    "fingerprint",
    "format_secret",
    "load_or_create",
    "new_secret",
    "parse_secret",
    "proof",
    "same_fingerprint",
    "write_atomically",
]

KEY_FILE = "key.pem"
CERTIFICATE_FILE = "certificate.pem"
# A certificate of ours has about 700 bytes, an invitation 2 kB; more than this is something else.
MAX_TEXT = 65536

_NAME_SUFFIX = ".pyrsyncbackup"
_CERTIFICATE_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n")


@dataclass(frozen=True)
class Identity:
    """One side's key pair; `fingerprint` is what a person compares."""

    key_pem: bytes
    certificate_pem: bytes
    fingerprint: str

    def __repr__(self) -> str:
        """Without the key."""
        return f"Identity({self.fingerprint})"


@dataclass(frozen=True)
class Invitation:
    """What a host needs to accept a collector; `secret` proves the host's own key at first contact."""

    collector_name: str
    certificate_pem: bytes
    ssh_public_key: str
    secret: bytes

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Invitation({self.collector_name!r}, {fingerprint(self.certificate_pem)})"

    def format(self) -> str:
        """The text file that the administrator carries to the host."""
        return f"""\
# Invitation of a pyRsyncBackup collector. On the host, as root:
#     pyrsyncbackup-agent accept FILE
# It holds a secret that proves the host at first contact: keep it private, delete it when it was accepted.
Version: 1
Collector: {self.collector_name}
Fingerprint: {fingerprint(self.certificate_pem)}
Secret: {base64.b64encode(self.secret).decode()}

# For authorized_keys of the user whose sshd forwards to the agent; "restrict,port-forwarding" is all it needs.
SSH-Key: {self.ssh_public_key}

# The collector's certificate: the agent trusts exactly this one.
{self.certificate_pem.decode().strip()}
"""

    @staticmethod
    def parse(text: str) -> Invitation:
        """Read the text of `format`; raises InvalidIdentity."""
        if len(text) > MAX_TEXT:
            raise InvalidIdentity("this is no invitation: it is too long")
        text = text.replace("\r\n", "\n") + "\n"
        blocks = _CERTIFICATE_BLOCK.findall(text)
        if len(blocks) != 1:
            raise InvalidIdentity("this is no invitation: it must hold exactly one certificate")
        fields = _fields(_CERTIFICATE_BLOCK.sub("", text))
        if fields["Version"] != "1":
            raise InvalidIdentity(f"invitation of version {fields['Version'][:20]!r}, but only 1 is known here")
        certificate_pem = check_certificate(blocks[0].encode())
        if not same_fingerprint(fields["Fingerprint"], certificate_pem):
            raise InvalidIdentity("the invitation was changed: fingerprint and certificate differ")
        return Invitation(fields["Collector"], certificate_pem, fields["SSH-Key"], parse_secret(fields["Secret"]))


def _fields(text: str) -> dict[str, str]:
    wanted = ("Version", "Collector", "Fingerprint", "Secret", "SSH-Key")
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        key, colon, value = line.partition(":")
        if not colon or key not in wanted or key in fields or not value.strip().isprintable():
            raise InvalidIdentity(f"this is no invitation: cannot understand the line {line[:60]!r}")
        fields[key] = value.strip()
    missing = [key for key in wanted if key not in fields]
    if missing:
        raise InvalidIdentity(f"the invitation is incomplete: no {', '.join(missing)}")
    return fields


def load_or_create(directory: Path, name: str = "agent") -> Identity:
    """The identity in `directory` (`key.pem` 0600, `certificate.pem`), made when there is none yet.

    `name` ("agent" or "collector") is for messages. A key whose certificate is lost is refused: a new certificate
    would be a new identity. Raises InvalidIdentity, OSError.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(directory):
        if not (directory / KEY_FILE).exists():
            key_pem, certificate_pem = create()
            # The key comes last: a crash in between leaves a certificate without key, which the next start replaces.
            write_atomically(directory / CERTIFICATE_FILE, certificate_pem, 0o644)
            write_atomically(directory / KEY_FILE, key_pem, 0o600)
        return _load(directory, name)


def _load(directory: Path, name: str) -> Identity:
    key_file, certificate_file = directory / KEY_FILE, directory / CERTIFICATE_FILE
    if key_file.stat().st_mode & 0o077:
        raise InvalidIdentity(f"the {name}'s key {key_file} can be read by others: chmod 600 {key_file}")
    if not certificate_file.exists():
        raise InvalidIdentity(
            f"the {name}'s certificate {certificate_file} is missing: restore it, or remove {key_file}"
        )
    key_pem = key_file.read_bytes()
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise InvalidIdentity(f"the {name}'s key {key_file} cannot be read: {error}") from error
    try:
        certificate_pem = check_certificate(certificate_file.read_bytes())
    except InvalidIdentity as error:
        raise InvalidIdentity(f"the {name}'s certificate {certificate_file}: {error}") from error
    if _spki(key.public_key()) != _spki(x509.load_pem_x509_certificate(certificate_pem).public_key()):
        raise InvalidIdentity(f"the {name}'s key and certificate in {directory} do not belong together")
    return Identity(key_pem, certificate_pem, fingerprint(certificate_pem))


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes, mode: int) -> None:
    """Write `content` to `path` so that a reader sees the old file or the whole new one, with `mode` from the start."""
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def create() -> tuple[bytes, bytes]:
    """A new key and its certificate, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name_of(key.public_key())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(1970, 1, 1))
        .not_valid_after(datetime.datetime(9999, 12, 31, 23, 59, 59))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key_pem, certificate.public_bytes(serialization.Encoding.PEM)


def check_certificate(certificate_pem: bytes) -> bytes:
    """Return the certificate, normalised, if it is one of ours: P-256, self-signed, named by its key, no authority.

    Raises InvalidIdentity. The name being the key's digest is what keeps one trusted side from posing as another.
    """
    if len(certificate_pem) > MAX_TEXT:
        raise InvalidIdentity("the certificate is too long")
    try:
        certificates = x509.load_pem_x509_certificates(certificate_pem)
        if len(certificates) != 1:
            raise InvalidIdentity(f"one certificate is expected, {len(certificates)} are there")
        _check_content(certificates[0])
    except InvalidIdentity:
        raise
    except ValueError as error:
        raise InvalidIdentity(f"the certificate cannot be read: {error}") from error
    return certificates[0].public_bytes(serialization.Encoding.PEM)


def _check_content(certificate: x509.Certificate) -> None:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidIdentity("the certificate's key is not a P-256 key")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _name_of(key))])
    if certificate.subject != subject or certificate.issuer != subject:
        raise InvalidIdentity("the certificate is not named by its key")
    try:
        certificate.verify_directly_issued_by(certificate)
    except (InvalidSignature, TypeError) as error:
        raise InvalidIdentity("the certificate is not signed by its own key") from error
    try:
        authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = True
    if authority:
        raise InvalidIdentity("the certificate claims to be an authority")


def certificate_name(certificate_pem: bytes) -> str:
    """The name in the certificate: what TLS must be told to expect. Raises InvalidIdentity."""
    key = x509.load_pem_x509_certificate(check_certificate(certificate_pem)).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101 - check_certificate made sure
    return _name_of(key)


def certificate_der(certificate_pem: bytes) -> bytes:
    """The certificate's binary form, over which digests are made. Raises InvalidIdentity."""
    try:
        return x509.load_pem_x509_certificate(certificate_pem).public_bytes(serialization.Encoding.DER)
    except ValueError as error:
        raise InvalidIdentity(f"the certificate cannot be read: {error}") from error


def fingerprint(certificate_pem: bytes) -> str:
    """SHA-256 of the certificate, written as OpenSSH writes digests of keys: "SHA256:" and base64."""
    digest = hashlib.sha256(certificate_der(certificate_pem)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def same_fingerprint(given: str, certificate_pem: bytes) -> bool:
    """Whether `given` is the certificate's fingerprint, in our form or as `openssl x509 -fingerprint` has it."""
    given = given.strip()
    digest = hashlib.sha256(certificate_der(certificate_pem)).hexdigest()
    as_hex = re.sub(r"^sha256( fingerprint)?[:=]", "", given.lower()).replace(":", "")
    return given.rstrip("=") == fingerprint(certificate_pem) or as_hex == digest


def _name_of(key: ec.EllipticCurvePublicKey) -> str:
    return hashlib.sha256(_spki(key)).hexdigest()[:32] + _NAME_SUFFIX


def _spki(key: object) -> bytes:
    data: bytes = key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return data
