"""The collector's own SSH key: made once, without passphrase, because a daemon logs in with it."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from pyrsyncbackup.identity import write_atomically

from pyrsyncbackup_collector.errors import BackupError, ConfigError


def create(path: Path, comment: str) -> None:
    """Write a new Ed25519 key to `path` (0600) and its public half beside it as `.pub`. Raises BackupError."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(Path(f"{path}.pub"), public + f" {comment}\n".encode(), 0o644)
        write_atomically(path, private, 0o600)
    except OSError as error:
        raise BackupError(f"cannot write the SSH key {path}: {error.strerror}") from error


def public_half(path: Path) -> str:
    """The line for authorized_keys that belongs to the key in `path`. Raises ConfigError."""
    try:
        return Path(f"{path}.pub").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(
            [f"cannot read the public half of the SSH key {path}: {error.strerror}"],
            f"make it with `ssh-keygen -y -f {path} > {path}.pub`, or a new pair with `pyrsyncbackup init`",
        ) from error
