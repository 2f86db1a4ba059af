"""The agent's own key for the process that serves: read and checked in a child, of which only the result is kept.

What makes and checks certificates takes 10 MB of memory, and the serving process needs it once.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path

from pyrsyncbackup_agent.errors import IdentityError


@dataclass(frozen=True)
class Key:
    """Key and certificate as PEM; `fingerprint` is what a person compares."""

    key_pem: bytes
    certificate_pem: bytes
    fingerprint: str

    def __repr__(self) -> str:
        """Without the key."""
        return f"Key({self.fingerprint})"


def read(directory: Path) -> Key:
    """Return the key in `directory`, made at first use. Raise IdentityError. Call it before any thread is started."""
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(source)
            with open(sink, "w") as file:
                json.dump(_checked(directory), file)
            status = 0
        finally:
            os._exit(status)
    os.close(sink)
    with open(source) as file:
        text = file.read()
    _, status = os.waitpid(pid, 0)
    if status or not text:
        raise IdentityError(f"the key in {directory} cannot be read", "run `pyrsyncbackup-agent identity` to see why")
    result = json.loads(text)
    if "cause" in result:
        raise IdentityError(result["cause"], result["hint"])
    return Key(base64.b64decode(result["key"]), result["certificate"].encode(), result["fingerprint"])


def _checked(directory: Path) -> dict[str, str]:
    from pyrsyncbackup_agent import identity

    try:
        own = identity.own(directory)
    except IdentityError as error:
        return {"cause": error.cause, "hint": error.hint}
    return {
        "key": base64.b64encode(own.key_pem).decode(),
        "certificate": own.certificate_pem.decode(),
        "fingerprint": own.fingerprint,
    }
