"""Which SSH host keys are right for a server: known_hosts files, read and written as OpenSSH does.

Hashed names, "[host]:port", patterns, and @revoked lines count; certificates of host authorities (@cert-authority) are
not supported and ignored. Our own file decides alone for a server that it knows; the user's is asked about the others.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pyrsyncbackup.identity import write_atomically

from pyrsyncbackup_collector.errors import HostKeyChanged, HostKeyUnknown


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public key as SSH sends it; `kind` as in known_hosts, "ssh-ed25519"."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` shows it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    def __str__(self) -> str:
        """Kind and fingerprint, for people."""
        return f"{self.kind} {self.fingerprint}"


@dataclass(frozen=True, slots=True)
class Server:
    """An SSH server; `jump` is the host through whose SSH connection it is reached, empty where there is none.

    Behind different bastions the same private address means different machines. So a server behind one has a name of
    its own in our file, and only where that is asked in vain counts what the user's file says of the address.
    """

    address: str
    port: int
    jump: str = ""

    @property
    def name(self) -> str:
        """How known_hosts names it."""
        address = self.address.lower()
        return address if self.port == 22 else f"[{address}]:{self.port}"

    @property
    def own_name(self) -> str:
        """How our file names it."""
        return f"{self.name}@{self.jump}" if self.jump else self.name

    def __str__(self) -> str:
        """For messages."""
        return f"{self.name} behind {self.jump}" if self.jump else self.name


@dataclass(frozen=True, slots=True)
class _Line:
    marker: str
    names: str
    key: HostKey

    def matches(self, name: str) -> bool:
        if self.names.startswith("|1|"):
            return _hash_matches(self.names, name)
        patterns = self.names.lower().split(",")
        if any(fnmatchcase(name, pattern[1:]) for pattern in patterns if pattern.startswith("!")):
            return False
        # Brackets are part of "[host]:port", not of a pattern.
        return any(fnmatchcase(name, pattern.replace("[", "[[]")) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Known:
    """What the files say of one server."""

    keys: tuple[HostKey, ...]
    revoked: tuple[HostKey, ...]
    file: Path | None = None

    def kinds(self) -> tuple[str, ...]:
        """The kinds of the known keys, in the order of the file: the negotiation should prefer these."""
        return tuple(dict.fromkeys(key.kind for key in self.keys))


class KnownHosts:
    """The files, in the order in which they are asked; the first is ours and the one that is written."""

    def __init__(self, own: Path, others: Iterable[Path] = ()) -> None:
        self._own = own
        self._others = tuple(others)

    @property
    def own(self) -> Path:
        """Our file."""
        return self._own

    def known(self, server: Server) -> Known:
        """What is known of this server, read anew."""
        revoked: list[HostKey] = []
        found = Known((), ())
        for file in (self._own, *self._others):
            name = server.own_name if file == self._own else server.name
            lines = [line for line in _lines(file) if line.matches(name)]
            # A key that is worth nothing is so under every name of the server.
            marked = [line for line in _lines(file) if line.matches(server.name)] if name != server.name else lines
            revoked += [line.key for line in {*lines, *marked} if line.marker == "@revoked"]
            keys = tuple(line.key for line in lines if not line.marker)
            if keys and not found.keys:
                found = Known(keys, (), file)
        return Known(found.keys, tuple(revoked), found.file)

    def check(self, host: str, server: Server, key: HostKey) -> None:
        """Raise HostKeyUnknown or HostKeyChanged unless `key`, which the server of `host` showed, is the right one."""
        known = self.known(server)
        if key in known.revoked:
            raise HostKeyChanged(
                f"{host}: the SSH host key of {server} is marked as revoked: {key}",
                "somebody may be listening; find out why it was revoked",
            )
        if key in known.keys:
            return
        if not known.keys:
            raise HostKeyUnknown(
                f"{host}: the SSH host key of {server} is not known: {key}",
                f"compare it with `ssh-keygen -lf` on the host, then run `pyrsyncbackup host trust {host}`",
            )
        expected = ", ".join(str(known_key) for known_key in known.keys)
        raise HostKeyChanged(
            f"{host}: THE SSH HOST KEY OF {server} HAS CHANGED: {known.file} has {expected}, "
            f"the server now shows {key}",
            f"somebody may be listening; if it was set up anew: `pyrsyncbackup host trust {host} --replace`",
        )

    def trust(self, host: str, server: Server, key: HostKey, *, replace: bool = False) -> None:
        """Add `key` to our file. A server that is known with other keys is refused unless `replace`."""
        name = server.own_name
        self._own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self._own.parent / ".known_hosts.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = self.known(server)
            if key in known.keys and known.file == self._own:
                return
            if known.keys and key not in known.keys and not replace:
                self.check(host, server, key)
            kept = [text for text, line in _texts(self._own) if line is None or line.marker or not line.matches(name)]
            kept.append(f"{name} {key.kind} {base64.b64encode(key.blob).decode()}")
            write_atomically(self._own, ("\n".join(kept) + "\n").encode(), 0o600)


def _hash_matches(hashed: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in hashed.split("|")[2:4])
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


def _lines(file: Path) -> Iterator[_Line]:
    return (line for _, line in _texts(file) if line is not None)


def _texts(file: Path) -> Iterator[tuple[str, _Line | None]]:
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return
    for text in content.decode("utf-8", "surrogateescape").splitlines():
        yield text, _parse(text)


def parse_key(text: str) -> tuple[str, HostKey] | None:
    """Names and key of a line of known_hosts; None for what is no plain key."""
    line = _parse(text)
    return (line.names, line.key) if line is not None and not line.marker else None


def _parse(text: str) -> _Line | None:
    fields = text.split()
    if not fields or fields[0].startswith("#"):
        return None
    marker = fields.pop(0) if fields[0].startswith("@") else ""
    if len(fields) < 3 or marker not in ("", "@revoked"):
        return None
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except (ValueError, binascii.Error):
        return None
    kind = fields[1]
    # The blob begins with its own kind: a line whose two kinds differ is no key.
    if blob[4 : 4 + len(kind)] != os.fsencode(kind):
        return None
    return _Line(marker, fields[0], HostKey(kind, blob))
