"""The signature under the head of a log: who wrote the last line, and that none was taken away since.

`cryptography` is loaded with the first key: who reads a store needs none, and would wait for it.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Protocol

import msgspec

from pyrsyncbackup_collector.errors import StoreError


class Signer(Protocol):
    """Signs for the collector. Any thread may call it."""

    @property
    def key(self) -> str:
        """SHA-256 of the public key (SubjectPublicKeyInfo, DER), hexadecimal."""
        ...

    def sign(self, data: bytes) -> bytes:
        """ECDSA signature (DER) over the SHA-256 of `data`."""
        ...

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `data`."""
        ...


class KeySigner:
    """Signs with a P-256 key in PEM, the one of the collector's identity."""

    def __init__(self, key_pem: bytes) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = serialization.load_pem_private_key(key_pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise StoreError("the collector's key is not an elliptic curve key")
        self._key = key
        self._public = key.public_key()
        info = self._public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self._name = hashlib.sha256(info).hexdigest()

    @property
    def key(self) -> str:
        """SHA-256 of the public key (SubjectPublicKeyInfo, DER), hexadecimal."""
        return self._name

    def sign(self, data: bytes) -> bytes:
        """ECDSA signature (DER) over the SHA-256 of `data`."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `data`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            self._public.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """log.head.json: `lines` counts the log's lines, `digest` is that of the last one. Unsigned: `key` is empty.

    While several lines are being written as one, `coming_lines` and `coming_digest` say what the log will be then.
    """

    lines: int
    digest: str
    key: str = ""
    signature: str = ""
    coming_lines: int = 0
    coming_digest: str = ""


def signed_text(host: str, module: str, head: Head) -> bytes:
    """What the signature is over."""
    text = f"pyrsyncbackup log head 1\n{host}\n{module}\n{head.lines}\n{head.digest}\n"
    return (text + f"{head.coming_lines}\n{head.coming_digest}\n" * bool(head.coming_lines)).encode()


def signed(host: str, module: str, head: Head, signer: Signer | None) -> Head:
    """The head of a log, signed if there is a key."""
    if signer is None:
        return head
    signature = signer.sign(signed_text(host, module, head))
    return msgspec.structs.replace(head, key=signer.key, signature=base64.b64encode(signature).decode())


def head_fault(head: Head, host: str, module: str, signer: Signer | None) -> str:
    """Why the signature of `head` cannot be relied on; nothing if it can, or if there is no key to check it with."""
    if signer is None:
        return ""
    if not head.signature:
        return "the head of the log is not signed"
    if head.key != signer.key:
        return f"the head of the log is signed by another key, {head.key[:64]!r}"
    try:
        signature = base64.b64decode(head.signature, validate=True)
    except ValueError:
        return "the head of the log has a malformed signature"
    if not signer.verify(signed_text(host, module, head), signature):
        return "the head of the log has a wrong signature"
    return ""
