"""Contents in chunks by every way out of the store, whole and with one chunk damaged."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import StoreDamaged
from pyrsyncbackup_collector.mount.content import Contents
from pyrsyncbackup_collector.store import mirror
from pyrsyncbackup_collector.store.chunks import ChunkList
from pyrsyncbackup_collector.store.objects import ObjectStore
from pyrsyncbackup_collector.store.restore_report import Reason
from pyrsyncbackup_collector.store.snapshot import Snapshot

from tests.integration.test_drill import hold
from tests.support.estate import Content
from tests.support.vault import Vault, flip, rewrite, swap

MIB = 1 << 20
CHANCE = random.Random(5)
TEXT = "\n".join(CHANCE.randbytes(40).hex() for _ in range(70_000)).encode() + b"\n"
CHANGED = TEXT[: 2 * MIB] + b"changed\n" + TEXT[2 * MIB :]


class Scene:
    """web1/etc with a file in chunks, of two versions, and small ones beside it."""

    def __init__(self, directory: Path) -> None:
        self.folder = directory
        (directory / "state").mkdir()
        self.vault = Vault(directory, large=MIB)
        files = {b"etc/big": Content(TEXT), b"etc/a": Content(b"small\n"), b"etc/z": Content(b"last\n")}
        self.vault.pull("web1", "etc", files)
        self.snapshot: Snapshot = self.vault.pull("web1", "etc", {b"etc/big": Content(CHANGED)})
        self.entry: Entry = next(e for e in self.vault.store.entries(self.snapshot) if e.path == b"etc/big")
        self.chunks = list(self.vault.store.objects.chunks_of(self.entry))

    def object(self, number: int) -> Path:
        return self.vault.store.objects.place(self.chunks[number].sha256)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    assert len(made.chunks) >= 3
    yield made
    made.vault.close()


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


ALL = {"etc/a": b"small\n", "etc/big": CHANGED, "etc/z": b"last\n"}
REST = {"etc/a": b"small\n", "etc/z": b"last\n"}
DAMAGES: dict[str, Callable[[Scene], object]] = {
    "missing": lambda scene: scene.object(1).unlink(),
    "rotten": lambda scene: flip(scene.object(1)),
    # Each is a sound frame; only the digests tell.
    "swapped": lambda scene: swap(scene.object(1), scene.object(2)),
    "replaced": lambda scene: replace(scene, 1),
    "no list": lambda scene: scene.vault.store.objects.place(scene.entry.chunks).unlink(),
}


def replace(scene: Scene, number: int) -> None:
    """Another sound frame, of the same size."""
    (scene.folder / "other").mkdir()
    objects = ObjectStore(scene.folder / "other")
    name = ingest(scene, objects, bytes(scene.chunks[number].size))
    rewrite(scene.object(number), objects.place(name).read_bytes())
    objects.close()


def to_directory(scene: Scene, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, dict[str, bytes]]:
    told = scene.vault.say(capsys, "restore", "web1/etc", "--to", str(scene.folder / "out"))
    return told.code, told.out + told.err, files(scene.folder / "out")


def to_tar(scene: Scene, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, dict[str, bytes]]:
    archive = scene.folder / "out.tar"
    told = scene.vault.say(capsys, "restore", "web1/etc", "--tar", str(archive))
    listed = subprocess.run(["tar", "-tf", archive], capture_output=True, text=True)
    assert (listed.returncode, listed.stderr) == (0, "")
    with tarfile.open(archive) as opened:
        found = {one.name: opened.extractfile(one).read() for one in opened if one.isfile()}  # type: ignore[union-attr]
    return told.code, told.out + told.err, found


def to_zip(scene: Scene, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, dict[str, bytes]]:
    archive = scene.folder / "out.zip"
    told = scene.vault.say(capsys, "restore", "web1/etc", "--zip", str(archive))
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        found = {name: opened.read(name) for name in opened.namelist() if not name.endswith("/")}
    return told.code, told.out + told.err, found


WAYS = {"--to": to_directory, "--tar": to_tar, "--zip": to_zip}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_restored(scene: Scene, capsys: pytest.CaptureFixture[str], way: str) -> None:
    code, _, found = WAYS[way](scene, capsys)
    assert code == 0
    assert found == ALL


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("way", WAYS)
def test_with_a_damaged_chunk_it_is_left_out_and_named(
    scene: Scene, capsys: pytest.CaptureFixture[str], way: str, damage: str
) -> None:
    DAMAGES[damage](scene)
    code, said, found = WAYS[way](scene, capsys)
    assert code == 13
    assert "etc/big" in said
    assert "no sound content in the store" in said
    assert "Traceback" not in said
    assert found == REST, "nothing wrong is written"


def kept_as_one(scene: Scene) -> None:
    ingest(scene, ObjectStore(scene.vault.store.path / "objects"), CHANGED)


def cut_otherwise(scene: Scene) -> None:
    """In pieces of one size, known to the catalog; and a second list of another content, which it takes for this."""
    for content in (TEXT, CHANGED):
        pieces = [content[at : at + MIB - 1000] for at in range(0, len(content), MIB - 1000)]
        chunks = ChunkList()
        for piece in pieces:
            chunks.append(bytes.fromhex(ingest(scene, scene.vault.store.objects, piece)), len(piece))
        name = ingest(scene, scene.vault.store.objects, chunks.encode())
        with contextlib.closing(sqlite3.connect(scene.vault.catalog_path)) as raw, raw:
            values = bytes.fromhex(scene.entry.sha256), bytes.fromhex(name)
            raw.execute("INSERT INTO lists (content, list) VALUES (?, ?)", values)


def ingest(scene: Scene, objects: ObjectStore, content: bytes) -> str:
    path = scene.folder / "content"
    path.write_bytes(content)
    with path.open("rb") as file:
        return objects.ingest(file.fileno(), 1 << 30).sha256


SPARES: dict[str, Callable[[Scene], None]] = {"one object": kept_as_one, "another list": cut_otherwise}


@pytest.mark.parametrize("spare", SPARES)
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_one_that_is_there_once_more_is_restored_from_that(
    scene: Scene, capsys: pytest.CaptureFixture[str], way: str, damage: str, spare: str
) -> None:
    SPARES[spare](scene)
    DAMAGES[damage](scene)
    code, _, found = WAYS[way](scene, capsys)
    assert (code, found) == (0, ALL)


@pytest.mark.parametrize("spare", SPARES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_that_is_there_once_more_is_read_anywhere(
    scene: Scene, capsys: pytest.CaptureFixture[str], damage: str, spare: str
) -> None:
    SPARES[spare](scene)
    DAMAGES[damage](scene)
    assert scene.vault.say(capsys, "cat", "web1/etc", "etc/big").out.encode() == CHANGED
    objects = scene.vault.store.objects
    objects.other_lists = scene.vault.catalog.lists_of
    with contextlib.closing(Contents(objects).open(scene.entry)) as content:
        for _ in range(50):
            offset, size = CHANCE.randrange(len(CHANGED) + 10), CHANCE.randrange(300_000)
            assert content.read(offset, size) == CHANGED[offset : offset + size]


def test_a_spare_that_is_damaged_too_is_not_believed(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    kept_as_one(scene)
    flip(scene.vault.store.objects.place(scene.entry.sha256))
    scene.object(1).unlink()
    code, said, found = to_directory(scene, capsys)
    assert (code, found) == (13, REST)
    assert scene.chunks[1].sha256 in said, "the first damage is the one that is named"


def test_cat_and_diff_show_it(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    assert scene.vault.say(capsys, "cat", "web1/etc", "etc/big").out.encode() == CHANGED
    assert scene.vault.say(capsys, "cat", "web1/etc@1", "etc/big").out.encode() == TEXT
    told = scene.vault.say(capsys, "diff", "web1/etc@1", "web1/etc@2")
    assert "etc/big" in told.out


@pytest.mark.parametrize("damage", DAMAGES)
def test_cat_of_a_damaged_one_shows_nothing_wrong(
    scene: Scene, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    DAMAGES[damage](scene)
    told = scene.vault.say(capsys, "cat", "web1/etc", "etc/big")
    assert told.code == 10
    assert told.err.startswith("error: object ")
    assert CHANGED.startswith(told.out.encode())
    assert len(told.out) < len(CHANGED)
    told = scene.vault.say(capsys, "diff", "web1/etc@1", "web1/etc@2")
    assert "etc/big" in told.out + told.err
    assert "Traceback" not in told.out + told.err


def test_a_mount_reads_it_anywhere(scene: Scene) -> None:
    content = Contents(scene.vault.store.objects).open(scene.entry)
    for _ in range(200):
        offset, size = CHANCE.randrange(len(CHANGED) + 10), CHANCE.randrange(300_000)
        assert content.read(offset, size) == CHANGED[offset : offset + size]
    content.close()


@pytest.mark.parametrize("damage", ["missing", "rotten", "swapped"])
def test_a_mount_reads_what_is_sound_of_a_damaged_one(scene: Scene, damage: str) -> None:
    DAMAGES[damage](scene)
    content = Contents(scene.vault.store.objects).open(scene.entry)
    first = scene.chunks[0].size
    assert content.read(0, first) == CHANGED[:first]
    for offset in (first, first - 1):
        with pytest.raises(StoreDamaged, match=scene.chunks[1].sha256):
            content.read(offset, 2)
    assert content.read(len(CHANGED) - 7, 100) == CHANGED[-7:]
    content.close()


def test_a_mirror_holds_it_and_keeps_the_old_one_where_the_new_one_is_damaged(scene: Scene) -> None:
    store, where = scene.vault.store, scene.folder / "mirror"
    first = next(each for each in store.recorded("web1", "etc") if each.sequence == 1)
    mirror.update(store, store.snapshot(first), where)
    assert files(where / "web1" / "etc") == ALL | {"etc/big": TEXT}
    new = next(n for n, c in enumerate(scene.chunks) if c.sha256 not in old_chunks(scene))
    place = scene.object(new)
    place.rename(scene.folder / "away")
    report = mirror.update(store, scene.snapshot, where)
    assert report
    assert [(each.reason, each.examples[0][0]) for each in mirror.lacking(report)] == [(Reason.DAMAGED, b"etc/big")]
    assert files(where / "web1" / "etc") == ALL | {"etc/big": TEXT}
    (scene.folder / "away").rename(place)
    mirror.update(store, scene.snapshot, where)
    assert files(where / "web1" / "etc") == ALL


def old_chunks(scene: Scene) -> set[str]:
    store = scene.vault.store
    first = store.snapshot(next(each for each in store.recorded("web1", "etc") if each.sequence == 1))
    entry = next(each for each in store.entries(first) if each.path == b"etc/big")
    return {chunk.sha256 for chunk in store.objects.chunks_of(entry)}


@pytest.mark.parametrize("damage", [None, *DAMAGES])
def test_a_drill_brings_it_back_or_names_it(scene: Scene, damage: str | None) -> None:
    scene.vault.prune("web1", "etc", 1)
    if damage:
        DAMAGES[damage](scene)
    done = hold(scene.vault, scene.folder)
    (held,) = done.document["drills"]
    assert done.outcome == ("partial" if damage else "complete")
    assert held["examples"] == (["/etc/big: it is missing"] if damage else [])
