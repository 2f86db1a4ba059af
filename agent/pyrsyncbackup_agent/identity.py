"""The agent's own key, and taking in the collectors that invited it.

What a certificate must be is decided in `pyrsyncbackup.identity`, whom the running agent trusts in `trusted`, which
reads what is written here: collectors.d/NAME.pem and, beside it, NAME.secret for the proof at first contact.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from pyrsyncbackup import identity, valid_name
from pyrsyncbackup.identity import Identity, InvalidIdentity, Invitation

from pyrsyncbackup_agent.errors import IdentityError
from pyrsyncbackup_agent.printable import printable


@dataclass(frozen=True)
class Accepted:
    """A collector that is trusted from now on; `was_known` if it was already."""

    name: str
    fingerprint: str
    ssh_public_key: str
    file: Path
    was_known: bool


def own(directory: Path) -> Identity:
    """The agent's key and certificate, made at first use. Raises IdentityError."""
    try:
        made = not (directory / identity.KEY_FILE).exists()
        result = identity.load_or_create(directory, "agent")
        if made and os.geteuid() == 0:
            _give_to_owner_of(directory)
    except InvalidIdentity as error:
        raise IdentityError(str(error)) from error
    except OSError as error:
        raise IdentityError(f"no identity in {directory}: {error.strerror}", "run it as the agent or root") from error
    return result


def _give_to_owner_of(directory: Path) -> None:
    """Made by root on the command line, the key must still be the agent's: its folder is in the agent's state."""
    status = directory.parent.stat()
    for path in (directory, *directory.iterdir()):
        os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)


def read_invitation(file: str) -> str:
    """The text of an invitation's file, "-" for standard input. Raises IdentityError."""
    try:
        with sys.stdin.buffer if file == "-" else open(file, "rb") as source:
            return source.read(identity.MAX_TEXT + 1).decode()
    except OSError as error:
        raise IdentityError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise IdentityError(f"{file} is no invitation") from error


def accept(text: str, directory: Path, *, replace: bool = False) -> Accepted:
    """Trust the collector of this invitation: write its certificate and secret to `directory`.

    A collector of the same name with another key is refused unless `replace`. Raises IdentityError.
    """
    try:
        invitation = Invitation.parse(text)
    except InvalidIdentity as error:
        raise IdentityError(str(error), "make a new one with `pyrsyncbackup invitation` on the collector") from error
    name = invitation.collector_name
    if not valid_name(name):
        raise IdentityError(f"{printable(name)} is no name for a collector")
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        was_known = _check_others(directory, name, invitation.certificate_pem, replace)
        secret = identity.format_secret(invitation.secret).encode()
        # The secret first: the moment the certificate is there, the collector may ask for the proof.
        identity.write_atomically(directory / f"{name}.secret", secret, 0o600)
        identity.write_atomically(directory / f"{name}.pem", invitation.certificate_pem, 0o644)
        if os.geteuid() == 0:
            status = directory.stat()
            os.chown(directory / f"{name}.secret", status.st_uid, status.st_gid)
    except OSError as error:
        raise IdentityError(f"cannot write to {directory}: {error.strerror}", "run it as root") from error
    file = directory / f"{name}.pem"
    fingerprint = identity.fingerprint(invitation.certificate_pem)
    return Accepted(name, fingerprint, invitation.ssh_public_key, file, was_known)


def _check_others(directory: Path, name: str, certificate_pem: bytes, replace: bool) -> bool:
    """Whether this certificate was trusted before; raises IdentityError if it may not join the others."""
    was_known = False
    for file in sorted(directory.glob("*.pem")):
        try:
            other = identity.check_certificate(file.read_bytes())
        except InvalidIdentity:
            continue
        if file.stem == name:
            was_known = other == certificate_pem
            if not was_known and not replace:
                raise IdentityError(
                    f"a collector {name} with another key is trusted already: {identity.fingerprint(other)}, "
                    f"the invitation has {identity.fingerprint(certificate_pem)}",
                    "if the collector was set up anew, accept it with --replace",
                )
        elif identity.certificate_name(other) == identity.certificate_name(certificate_pem):
            raise IdentityError(f"this collector is trusted already, as {file}", "remove that file first")
    return was_known
