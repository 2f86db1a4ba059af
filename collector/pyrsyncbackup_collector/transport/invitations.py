"""The collector's own keys and the invitations that carry them to hosts."""

from __future__ import annotations

import socket
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from pyrsyncbackup import identity, valid_name
from pyrsyncbackup.identity import Identity, InvalidIdentity, Invitation

from pyrsyncbackup_collector.errors import BackupError
from pyrsyncbackup_collector.transport.trust import FLEET, VIA


def own_identity(state: Path) -> Identity:
    """The collector's key and certificate in <state>/identity, made at first use."""
    try:
        return identity.load_or_create(state / "identity", "collector")
    except InvalidIdentity as error:
        raise BackupError(str(error), "restore it from a backup of the state directory") from error
    except OSError as error:
        raise BackupError(
            f"no identity in {state / 'identity'}: {error.strerror}", "check its owner and mode"
        ) from error


def own_ssh_key(state: Path) -> str:
    """The public line of <state>/ssh/id_ed25519, which is made at first use."""
    key_file = state / "ssh" / "id_ed25519"
    public_file = key_file.with_suffix(".pub")
    try:
        if not key_file.exists() and not public_file.exists():
            _make_ssh_key(key_file, public_file)
        return public_file.read_text().strip()
    except OSError as error:
        raise BackupError(
            f"the SSH key {public_file} cannot be used: {error.strerror}", f"`ssh-keygen -y -f {key_file}` prints it"
        ) from error


def _make_ssh_key(key_file: Path, public_file: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    identity.write_atomically(public_file, public + f" pyrsyncbackup@{collector_name()}\n".encode(), 0o644)
    identity.write_atomically(key_file, private, 0o600)


def invite(state: Path, host: str | None = None, name: str | None = None, *, via: str | None = None) -> Invitation:
    """An invitation for `host`, for all hosts behind the relay `via`, or for the whole fleet.

    The same text again until its secret is removed. `name` is how hosts call this collector; the machine's own without
    it. A secret for one host alone keeps a host that was taken over from posing as another at first contact; the one
    for the hosts behind a relay, which does not get it, keeps the relay from doing so.
    """
    file = state / "invitations" / f"{f'{VIA}/{via}' if via else host or FLEET}.secret"
    own = own_identity(state)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists():
            identity.write_atomically(file, identity.format_secret(identity.new_secret()).encode(), 0o600)
        secret = identity.parse_secret(file.read_text())
    except (InvalidIdentity, OSError) as error:
        raise BackupError(f"{file} cannot be used: {error}", "remove it, then make the invitation anew") from error
    return Invitation(name or collector_name(), own.certificate_pem, own_ssh_key(state), secret)


def collector_name() -> str:
    """The machine's name, made fit to be a name of ours."""
    short = socket.gethostname().lower().partition(".")[0]
    name = "".join(char if char.isascii() and (char.isalnum() or char in "-_") else "-" for char in short).strip("-_")
    return name if valid_name(name) else "collector"
