"""The secret of an invitation, and the proof at first contact that a side holds it.

Apart from `identity`, so that a process that only answers with the proof need not load what makes certificates.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

SECRET_SIZE = 32

_PROOF_CONTEXT = b"pyrsyncbackup first contact 1\0"


class InvalidIdentity(ValueError):
    """A key, certificate or invitation that cannot be used; the text says which and why."""


def new_secret() -> bytes:
    """A secret for an invitation."""
    return secrets.token_bytes(SECRET_SIZE)


def parse_secret(text: str) -> bytes:
    """A secret from its base64 text; raises InvalidIdentity."""
    try:
        secret = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) != SECRET_SIZE:
        raise InvalidIdentity("the secret is not 32 bytes in base64")
    return secret


def format_secret(secret: bytes) -> str:
    """A secret as one line of base64."""
    return base64.b64encode(secret).decode() + "\n"


def proof(secret: bytes, agent_der: bytes, collector_der: bytes) -> bytes:
    """What the agent answers at first contact: it holds the invitation's secret and sees these two certificates."""
    message = _PROOF_CONTEXT + hashlib.sha256(agent_der).digest() + hashlib.sha256(collector_der).digest()
    return hmac.new(secret, message, hashlib.sha256).digest()
