"""Objects, manifests and logs that are removed, cut, changed or swapped behind our back: told with all it affects."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pyrsyncbackup_collector.store.log import parse
from pyrsyncbackup_collector.store.signature import Head, KeySigner, signed
from pyrsyncbackup_collector.store.snapshot import Snapshot

from tests.support.vault import Vault, flip, rewrite, swap

ALL = ["web1/etc@1", "web1/etc@2", "web1/etc@3"]
WEB2 = ["web2/etc@1"]
SAME = hashlib.sha256(b"same 1\n").hexdigest()
SECOND = hashlib.sha256(b"version 2\n").hexdigest()
OWN = hashlib.sha256(b"of web2\n").hexdigest()


class Scene:
    def __init__(self, base: Path) -> None:
        self.vault = Vault(base)
        self.one, self.two, self.three, self.other = self.vault.fill()
        self.log = self.vault.module() / "log.jsonl"
        self.head = self.vault.module() / "log.head.json"

    def object(self, sha256: str) -> Path:
        return self.vault.store.objects.place(sha256)

    def manifest(self, snapshot: Snapshot) -> Path:
        return self.vault.manifest(snapshot)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path)
    made.vault.unlock()
    return made


def without_second_line(scene: Scene) -> None:
    lines = scene.log.read_bytes().splitlines(keepends=True)
    rewrite(scene.log, b"".join([lines[0], *lines[2:]]))


def rolled_back(scene: Scene) -> None:
    """As it was after the first commit, with the head of that time, and without the later manifests."""
    lines = scene.log.read_bytes().splitlines(keepends=True)
    rewrite(scene.log, lines[0])
    content = parse(lines[0])
    head = signed("web1", "etc", Head(content.count, content.digest), scene.vault.signer)
    rewrite(scene.head, msgspec.json.encode(head) + b"\n")
    scene.manifest(scene.two).unlink()
    scene.manifest(scene.three).unlink()


def signed_by_another(scene: Scene) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    content = parse(scene.log.read_bytes())
    head = signed("web1", "etc", Head(content.count, content.digest), KeySigner(pem))
    rewrite(scene.head, msgspec.json.encode(head) + b"\n")


def replaced(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


def gone_module(scene: Scene) -> None:
    for file in scene.vault.module("web2").iterdir():
        file.unlink()
    scene.vault.module("web2").rmdir()


def cut(path: Path) -> None:
    rewrite(path, path.read_bytes()[:-7])


DAMAGES: dict[str, tuple[Callable[[Scene], object], list[tuple[str, str, str, list[str]]]]] = {
    "a rotten object": (lambda s: flip(s.object(SAME)), [("rotten", "object", SAME[:8], ALL)]),
    "an object of one snapshot": (lambda s: flip(s.object(SECOND)), [("rotten", "object", SECOND[:8], ALL[1:2])]),
    "a cut object": (lambda s: cut(s.object(SAME)), [("rotten", "object", SAME[:8], ALL)]),
    "an empty object": (lambda s: rewrite(s.object(SAME), b""), [("rotten", "object", SAME[:8], ALL)]),
    "no zstd": (lambda s: rewrite(s.object(SAME), b"plain text\n"), [("rotten", "object", SAME[:8], ALL)]),
    "swapped objects": (
        lambda s: swap(s.object(SAME), s.object(OWN)),
        [("rotten", "object", SAME[:8], ALL), ("rotten", "object", OWN[:8], WEB2)],
    ),
    "a removed object": (lambda s: s.object(SAME).unlink(), [("missing", "object", SAME[:8], ALL)]),
    "a directory for an object": (
        lambda s: replaced(s.object(SAME), Path.mkdir),
        [("rotten", "object", SAME[:8], ALL)],
    ),
    "a pipe for an object": (lambda s: replaced(s.object(SAME), os.mkfifo), [("rotten", "object", SAME[:8], ALL)]),
    # The kernel answers a read at the begin of its own memory with EIO, as a disk does that lost a sector.
    "an object that gives an I/O error": (
        lambda s: replaced(s.object(SAME), lambda path: path.symlink_to("/proc/self/mem")),
        [("rotten", "object", SAME[:8], ALL)],
    ),
    "a link to nothing": (
        lambda s: replaced(s.object(SAME), lambda path: path.symlink_to("nowhere")),
        [("missing", "object", SAME[:8], ALL)],
    ),
    "a removed manifest": (lambda s: s.manifest(s.two).unlink(), [("missing", "manifest", ALL[1], ALL[1:2])]),
    "a pipe for a manifest": (
        lambda s: replaced(s.manifest(s.two), os.mkfifo),
        [("tampered", "manifest", ALL[1], ALL[1:2])],
    ),
    "a removed base": (lambda s: s.manifest(s.one).unlink(), [("missing", "manifest", ALL[0], ALL)]),
    "a changed manifest": (lambda s: flip(s.manifest(s.two)), [("tampered", "manifest", ALL[1], ALL[1:2])]),
    "a changed base": (lambda s: flip(s.manifest(s.one)), [("tampered", "manifest", ALL[0], ALL)]),
    "a cut newest manifest": (lambda s: cut(s.manifest(s.three)), [("tampered", "manifest", ALL[2], ALL[2:])]),
    "an empty manifest": (lambda s: rewrite(s.manifest(s.two), b""), [("tampered", "manifest", ALL[1], ALL[1:2])]),
    "swapped manifests of a module": (
        lambda s: swap(s.manifest(s.two), s.manifest(s.three)),
        [("tampered", "manifest", ALL[1], ALL[1:2]), ("tampered", "manifest", ALL[2], ALL[2:])],
    ),
    "swapped manifests of two hosts": (
        lambda s: swap(s.manifest(s.one), s.manifest(s.other)),
        [("tampered", "manifest", ALL[0], ALL), ("tampered", "manifest", WEB2[0], WEB2)],
    ),
    "a manifest without its line": (
        without_second_line,
        [
            ("tampered", "log", "web1/etc", ALL),
            ("tampered", "manifest", ALL[1], []),
        ],
    ),
    "a removed log": (lambda s: s.log.unlink(), [("missing", "log", "web1/etc", ALL)]),
    "an older log with its head": (rolled_back, [("tampered", "log", "web1/etc", ALL)]),
    "a log of garbage": (
        lambda s: rewrite(s.log, b"\xff\xfe\n{}\n"),
        [("tampered", "log", "web1/etc", ALL)],
    ),
    "a torn log": (
        lambda s: rewrite(s.log, s.log.read_bytes()[:-9]),
        [("tampered", "log", "web1/etc", ALL)],
    ),
    "a foreign signature": (signed_by_another, [("tampered", "log", "web1/etc", ALL)]),
    "a removed head": (lambda s: s.head.unlink(), [("tampered", "log", "web1/etc", ALL)]),
    "a head of garbage": (lambda s: rewrite(s.head, b"\x00"), [("tampered", "log", "web1/etc", ALL)]),
    "swapped heads": (
        lambda s: swap(s.head, s.vault.module("web2") / "log.head.json"),
        [("tampered", "log", "web1/etc", ALL), ("tampered", "log", "web2/etc", WEB2)],
    ),
    "a removed module": (gone_module, [("missing", "log", "web2/etc", WEB2)]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_told_with_all_that_it_affects(scene: Scene, capsys, damage: str) -> None:
    assert scene.vault.findings(capsys) == []
    do, expected = DAMAGES[damage]
    do(scene)
    assert scene.vault.findings(capsys) == sorted(expected)


@pytest.mark.parametrize("damage", DAMAGES)
def test_whoever_reads_what_is_damaged_gets_the_right_content_or_one_line(scene: Scene, capsys, damage: str) -> None:
    DAMAGES[damage][0](scene)
    for ref in ("web1/etc", "web1/etc@1", "web1/etc@2", "web2/etc"):
        target = scene.vault.directory / f"out-{ref.replace('/', '-')}"
        for words in (
            ("ls", ref, "-R"),
            ("cat", ref, "/etc/changing"),
            ("cat", ref, "/etc/001"),
            ("diff", ref, "web1/etc@3"),
            ("restore", ref, "--to", str(target)),
            ("verify", ref),
            ("snapshots",),
        ):
            told = scene.vault.say(capsys, *words)
            assert told.code in (0, 4, 10, 11, 13, 15), (words, told)
            assert "unexpected" not in told.err + told.out, (words, told)
            assert "Traceback" not in told.err + told.out
            if told.code in (4, 10):
                assert told.err.startswith("error: "), (words, told)
                assert told.err.count("\n") <= 2, (words, told)
            if words[0] == "cat" and words[2] == "/etc/001" and told.code == 0:
                assert told.out == "same 1\n"
