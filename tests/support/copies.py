"""Places for second copies, of each kind, and rounds of copying without a daemon."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyrage
from pyrsyncbackup_collector.config.copies import SshPlace
from pyrsyncbackup_collector.copies.credentials import Credentials
from pyrsyncbackup_collector.copies.directory import DirectoryTarget
from pyrsyncbackup_collector.copies.founding import found
from pyrsyncbackup_collector.copies.replicate import Replication, Rules
from pyrsyncbackup_collector.copies.report import Round
from pyrsyncbackup_collector.copies.s3 import Patience, S3Target
from pyrsyncbackup_collector.copies.seal import Plain, Seal, Sealed, new_key
from pyrsyncbackup_collector.copies.ssh import SshTarget
from pyrsyncbackup_collector.copies.target import Target
from pyrsyncbackup_collector.store.store import Store

from tests.support import swift
from tests.support.estate import Content, Estate
from tests.support.sshd import Sshd
from tests.support.swift import Swift

# Quick to give up: what is tried again is tested by counting, not by waiting.
QUICK = Patience(request=120, connect=60, retries=2, total=120)

_numbers = itertools.count()


def nothing(*_: object) -> None:
    """Not cancelled; told to nobody."""


def directory(path: Path) -> DirectoryTarget:
    path.mkdir(exist_ok=True)
    return DirectoryTarget(path)


def over_ssh(
    directory: Path, sshd: Sshd, *, path: str = "", wait: Callable[[float], None] = nothing, **changed: Any
) -> SshTarget:
    """`directory` on the machine of this sshd, which is this one; `path`: what it is called there."""
    directory.mkdir(exist_ok=True)
    place = SshPlace("127.0.0.1", path or str(directory), sshd.user, sshd.port)
    values: dict[str, Any] = {
        "key": sshd.user_key,
        "known_hosts": [sshd.folder / "user_known_hosts"],
        "connect": 60.0,
        "check": nothing,
        "wait": wait,
        "pauses": (0.0, 0.0),
    }
    return SshTarget(place, **(values | changed))


def in_bucket(server: Swift, prefix: str = "", *, endpoint: str = "", patience: Patience = QUICK) -> S3Target:
    """A part of the bucket that no other test uses, or the one named."""
    return S3Target(
        swift.BUCKET,
        prefix or f"test-{next(_numbers)}",
        Credentials(swift.ACCESS, swift.SECRET),
        region=swift.REGION,
        endpoint=endpoint or server.endpoint,
        patience=patience,
    )


@contextmanager
def staged():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def make(target: Target, store: Store, seal: Seal | None = None) -> bool:
    """Make an empty copy."""
    with staged() as stage:
        return found(target, store.id, seal or Plain(), stage)


def replicate(
    store: Store,
    target: Target,
    seal: Seal | None = None,
    *,
    now: float = 1_790_000_100.0,
    check: Callable[[], None] = nothing,
    tell: Callable[[str, int, int], None] = nothing,
    **rules: Any,
) -> Round:
    """One round."""
    with staged() as stage:
        return Replication(store, target, seal or Plain(), Rules(**rules), stage, now, check=check, tell=tell).run()


@dataclass(frozen=True)
class Keys:
    """A pair of age: the public key, and the file with the secret one."""

    public: str
    identity: Path

    @classmethod
    def make(cls, folder: Path) -> Keys:
        secret = pyrage.x25519.Identity.generate()
        identity = folder / "identity.txt"
        identity.write_text(f"# a key of a test\n{secret}\n")
        identity.chmod(0o600)
        return cls(str(secret.to_public()), identity)

    def seal(self) -> Sealed:
        return Sealed((self.public,), new_key())


def fill(estate: Estate) -> None:
    """Two hosts with two snapshots each, most of it alike."""
    for host in ("web1", "web2"):
        files = {b"etc/f%d" % number: Content(b"%d" % number * 50) for number in range(8)}
        estate.pull(host, "etc", files)
        estate.pull(host, "etc", {b"etc/f1": Content(host.encode())})


def prove_whole(copy: Store) -> int:
    """All that the copy lists is there, and sound; how many snapshots that is."""
    count = 0
    for host, module in copy.modules():
        for snapshot in copy.snapshots(host, module):
            count += 1
            for entry in copy.entries(snapshot, verify=True):
                if entry.sha256:
                    copy.objects.read_entry(entry)
    return count
