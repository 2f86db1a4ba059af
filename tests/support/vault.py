"""A collector's configuration with a signed store and its catalog, filled without a host, to be damaged by hand."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from pyrsyncbackup_collector import cli
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.store.objects import LARGE
from pyrsyncbackup_collector.store.signature import KeySigner
from pyrsyncbackup_collector.store.snapshot import Snapshot
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.transport.invitations import own_identity

from tests.support.estate import Content, Estate


@dataclass(frozen=True)
class Told:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


class Vault(Estate):
    """An Estate whose logs are signed, with a collector.toml, and commands that are run in this process."""

    def __init__(self, directory: Path, *, large: int = LARGE) -> None:
        self.directory = directory
        self.file = directory / "collector.toml"
        self.catalog_path = directory / "catalog.sqlite"
        (directory / "hosts.d").mkdir(parents=True)
        self.file.write_text('store = "store"\ncatalog = "catalog.sqlite"\nruntime = "run"\n')
        self.signer = KeySigner(own_identity(directory).key_pem)
        Store.create(directory / "store")
        self.store = Store.open(directory / "store", lock=True, signer=self.signer, large=large)
        self.catalog = Catalog.create(self.catalog_path, self.store.id)

    def fill(self) -> list[Snapshot]:
        """Three snapshots of web1/etc, the later ones deltas, and one of web2/etc; of the last one all is its own."""
        many: dict[bytes, Content | None] = {b"etc/%03d" % n: Content(b"same %d\n" % (n % 3)) for n in range(40)}
        many |= {b"etc/first": Content(b"first\n"), b"etc/changing": Content(b"version 1\n")}
        return [
            self.pull("web1", "etc", many),
            self.pull("web1", "etc", {b"etc/changing": Content(b"version 2\n")}),
            self.pull("web1", "etc", {b"etc/changing": Content(b"version 3\n"), b"etc/first": None}),
            self.pull("web2", "etc", {b"etc/own": Content(b"of web2\n")}),
        ]

    def module(self, host: str = "web1") -> Path:
        """The directory of manifests and log."""
        return self.directory / "store" / "manifests" / host / "etc"

    def manifest(self, snapshot: Snapshot) -> Path:
        """Its file."""
        return next(self.module(snapshot.host).glob(f"{snapshot.name}.*.zst"))

    def unlock(self) -> None:
        """Give the store and the catalog to the commands."""
        self.close()

    def say(self, capsys, *arguments: str) -> Told:
        """Run a command."""
        capsys.readouterr()
        code = cli.run(["--config", str(self.file), *arguments])
        said = capsys.readouterr()
        return Told(code, said.out, said.err)

    def findings(self, capsys, *arguments: str) -> list[tuple[str, str, str, list[str]]]:
        """What `verify` finds: kind, what, name, snapshots; names without their times."""
        told = self.say(capsys, "verify", "--json", *arguments)
        document = json.loads(told.out)
        assert told.code == (15 if document["findings"] else 0), told
        return sorted(
            (each["kind"], each["what"], short(each["name"]), sorted(map(short, each["snapshots"])))
            for each in document["findings"]
        )


def short(name: str) -> str:
    """HOST/MODULE@NUMBER of a snapshot's full name; a digest's first eight characters."""
    where, at, rest = name.partition("@")
    return f"{where}@{int(rest[:6])}" if at else name[:8] if len(name) == 64 else name


def rewrite(path: Path, data: bytes) -> None:
    """Change a file that nobody may write."""
    path.chmod(0o600)
    path.write_bytes(data)


def flip(path: Path) -> None:
    """One bit, in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    rewrite(path, bytes(data))


def swap(one: Path, other: Path) -> None:
    """Each takes the other's place."""
    aside = one.with_name("aside")
    os.rename(one, aside)
    os.rename(other, one)
    os.rename(aside, other)
