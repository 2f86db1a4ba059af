"""How the files of a copy are named and wrapped: as in the store, or encrypted by age to somebody's public key.

The collector needs the public key alone: it writes what it cannot read. Objects of an encrypted copy are named by
HMAC-SHA256 of their digest under a random key, so that nobody who sees the copy can tell whether it holds a file that
he has. That key is the collector's secret and lies in the copy too, encrypted. It also encrypts the lists of objects
(`form.Refs`), which the collector must read to thin the copy out.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import pyrage
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from pyrsyncbackup_collector.copies.credentials import read_private
from pyrsyncbackup_collector.copies.proven import Proven
from pyrsyncbackup_collector.errors import CopyDamaged, CopySealed, StoreError

AGE: Final = "age"
SUFFIX: Final = ".age"
_NONCE: Final = 12
_REFS_LABEL: Final = b"pyrsyncbackup copy refs 1"


class Seal(Protocol):
    """Names and wraps. `kind` is what format.json says: "" or "age". Any thread may use it."""

    @property
    def kind(self) -> str:
        """As in format.json."""
        ...

    def object_name(self, sha256: str) -> str:
        """64 hexadecimal digits under which an object lies in the copy."""
        ...

    def file(self, name: str) -> str:
        """The name of a manifest, log, head or object as a file of the copy."""
        ...

    def wrap(self, source: Path, place: Path, sum: str = "") -> None:
        """Make the file `place` of the store's file `source`; StoreDamaged if that has another SHA-256 than `sum`."""
        ...

    def wrap_refs(self, data: bytes, name: str) -> bytes:
        """A list of objects as it goes into the copy, as `name`."""
        ...

    def unwrap_refs(self, data: bytes, name: str) -> bytes:
        """The reverse; CopyDamaged if it was changed."""
        ...


class Plain:
    """As in the store."""

    kind = ""

    def object_name(self, sha256: str) -> str:
        """Its digest."""
        return sha256

    def file(self, name: str) -> str:
        """The same."""
        return name

    def wrap(self, source: Path, place: Path, sum: str = "") -> None:
        """The same bytes."""
        with source.open("rb") as plain:
            place.write_bytes(Proven(plain, sum, source).read())

    def wrap_refs(self, data: bytes, name: str) -> bytes:  # noqa: ARG002 - the protocol's
        """The same."""
        return data

    def unwrap_refs(self, data: bytes, name: str) -> bytes:  # noqa: ARG002 - the protocol's
        """The same."""
        return data


class Sealed:
    """Encrypted to `recipients` (public keys of age); `key` is the 32 bytes that name objects."""

    kind = AGE

    def __init__(self, recipients: tuple[str, ...], key: bytes) -> None:
        self._recipients = [_recipient(text) for text in recipients]
        self._key = key
        self._refs = ChaCha20Poly1305(hmac.digest(key, _REFS_LABEL, hashlib.sha256))

    def object_name(self, sha256: str) -> str:
        """HMAC-SHA256 of the digest."""
        return hmac.digest(self._key, bytes.fromhex(sha256), hashlib.sha256).hex()

    def file(self, name: str) -> str:
        """With .age behind it."""
        return name + SUFFIX

    def wrap(self, source: Path, place: Path, sum: str = "") -> None:
        """Encrypted."""
        with source.open("rb") as plain, open(place, "wb") as sealed:
            proven = Proven(plain, sum, source)
            try:
                pyrage.encrypt_io(proven, sealed, self._recipients)
            except pyrage.EncryptError as fault:
                where = f"{source} cannot be encrypted into {place.parent}: {fault}"
                raise proven.fault or StoreError(where, "is there room on the store's file system?") from None

    def wrap_refs(self, data: bytes, name: str) -> bytes:
        """Encrypted with a key made of the naming key, bound to the file's name."""
        nonce = os.urandom(_NONCE)
        return nonce + self._refs.encrypt(nonce, data, name.encode())

    def unwrap_refs(self, data: bytes, name: str) -> bytes:
        """Decrypted."""
        try:
            return self._refs.decrypt(data[:_NONCE], data[_NONCE:], name.encode())
        except (InvalidTag, ValueError):
            raise CopyDamaged(f"{name} was changed, or is of another copy") from None

    def names(self) -> bytes:
        """The naming key, encrypted for readers."""
        return bytes(pyrage.encrypt(self._key.hex().encode() + b"\n", self._recipients))


class Opener:
    """Reads what `Sealed` wrote, with the identities (secret keys of age) in the file `identity`, 0600."""

    def __init__(self, identity: Path) -> None:
        lines = [line.strip() for line in read_private(identity).splitlines()]
        secrets = [line for line in lines if line and not line.startswith("#")]
        try:
            self._identities = [pyrage.x25519.Identity.from_str(line) for line in secrets]
        except pyrage.IdentityError:
            raise CopySealed(f"{identity} has a line that is no secret key of age", "`age-keygen` makes one") from None
        if not self._identities:
            raise CopySealed(f"{identity} has no secret key of age", "it is a line AGE-SECRET-KEY-1...")

    def names(self, data: bytes) -> bytes:
        """The naming key."""
        try:
            return bytes.fromhex(pyrage.decrypt(data, self._identities).decode().strip())
        except pyrage.DecryptError:
            raise CopySealed("the copy is encrypted to another key", "give the identity that fits") from None
        except ValueError:
            raise CopyDamaged("the key that names objects is damaged") from None

    def unwrap(self, source: BinaryIO, place: BinaryIO, name: str) -> None:
        """Decrypt a file; `name` is for messages."""
        try:
            pyrage.decrypt_io(source, place, self._identities)
        except (pyrage.DecryptError, OSError) as fault:
            raise CopyDamaged(f"{name} cannot be decrypted: {fault}", "it was changed, or is cut short") from None


def new_key() -> bytes:
    """A naming key."""
    return os.urandom(32)


def _recipient(text: str) -> pyrage.x25519.Recipient:
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError as fault:
        raise CopySealed(f"{text} is not a public key of age: {fault}", "`age-keygen -y FILE` prints it") from None
