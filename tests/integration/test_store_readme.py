"""The script that each store's README.txt prints restores a snapshot with bash, zstd, jq and coreutils alone."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from pathlib import Path

import pytest
from pyrsyncbackup_collector.entry import DIRECTORY, FIFO, SYMLINK, Entry, order, text_or_bytes
from pyrsyncbackup_collector.store.snapshot import Change, Snapshot
from pyrsyncbackup_collector.store.store import Store

NAMES = [
    b"plain",
    b"new\nline\n",
    b" two  words ",
    b"-rf",
    b"quote'\"\\$(id)`*?[x]",
    b"not\xffutf8\n",
    "ärger".encode(),
    b"n" * 255,
    b"\xfe" * 255,
    b"=",
]


@pytest.fixture
def store(tmp_path: Path):
    Store.create(tmp_path / "store")
    with Store.open(tmp_path / "store", lock=True, large=3_000_000) as opened:
        yield opened


def script(store: Store, to: Path) -> list[str]:
    text = (store.path / "README.txt").read_text().split("-----8<-----\n")[1]
    assert text.count("\n") <= 40
    (to.parent / "restore.sh").write_text(text)
    return ["bash", str(to.parent / "restore.sh"), str(store.path)]


def entry(store: Store, source: bytes, path: bytes, seen: dict[int, bytes]) -> Entry:
    """What an agent would say of a file, with its content made an object."""
    full = os.path.join(source, path)
    info = os.lstat(full)
    text, raw = text_or_bytes(path)
    kind, target, link, digest, chunks = "file", (("", b"")), ("", b""), "", ""
    if stat.S_ISDIR(info.st_mode):
        kind = DIRECTORY
    elif stat.S_ISLNK(info.st_mode):
        kind, target = SYMLINK, text_or_bytes(os.readlink(full))
    elif stat.S_ISFIFO(info.st_mode):
        kind = FIFO
    else:
        link = text_or_bytes(seen.setdefault(info.st_ino, path))
        link = ("", b"") if seen[info.st_ino] == path else link
        with open(full, "rb", buffering=0) as file:
            found = store.objects.ingest(file.fileno(), 1 << 30)
            digest, chunks = found.sha256, found.chunked.list.sha256.hex() if found.chunked else ""
    seconds, nanoseconds = divmod(info.st_mtime_ns, 10**9)
    return Entry(
        path_text=text, path_b64=raw, type=kind, mode=stat.S_IMODE(info.st_mode), uid=info.st_uid, gid=info.st_gid,
        size=info.st_size, mtime_s=seconds, mtime_ns=nanoseconds, target_text=target[0], target_b64=target[1],
        link_to_text=link[0], link_to_b64=link[1], sha256=digest, chunks=chunks,
    )  # fmt: skip


def listed(store: Store, source: Path) -> list[Entry]:
    root = os.fsencode(source)
    paths = [
        os.path.relpath(os.path.join(directory, name), root)
        for directory, directories, files in os.walk(root)
        for name in directories + files
    ]
    seen: dict[int, bytes] = {}
    return [entry(store, root, path, seen) for path in sorted(paths, key=order)]


def described(root: Path) -> dict[bytes, tuple[object, ...]]:
    """All that the script brings back, as the file system tells it."""
    found: dict[bytes, tuple[object, ...]] = {}
    groups: dict[int, int] = {}
    top = os.fsencode(root)
    for directory, directories, files in os.walk(top):
        for name in sorted(directories + files):
            full = os.path.join(directory, name)
            info = os.lstat(full)
            content: object = None
            if stat.S_ISLNK(info.st_mode):
                content = os.readlink(full)
            elif stat.S_ISREG(info.st_mode):
                content = hashlib.sha256(Path(os.fsdecode(full)).read_bytes()).hexdigest()
            group = groups.setdefault(info.st_ino, len(groups)) if info.st_nlink > 1 and content else None
            found[os.path.relpath(full, top)] = (
                info.st_mode,
                info.st_uid,
                info.st_gid,
                info.st_mtime_ns,
                content,
                group,
            )
    return found


def plant(source: Path) -> None:
    top = os.fsencode(source)
    deep = source.joinpath("d", *("e" * 40 for _ in range(20)))
    deep.mkdir(parents=True)
    (deep / "bottom").write_bytes(os.urandom(2_000_000))
    (deep / "large").write_bytes(os.urandom(3_000_000) + bytes(9_000_000) + b"end")
    for number, name in enumerate(NAMES):
        with open(top + b"/d/" + name, "wb") as file:
            file.write(name * number)
        os.utime(top + b"/d/" + name, ns=(0, number * 10**17 * (-1) ** number + 123456789))
        os.chmod(top + b"/d/" + name, 0o600 + number)
        if os.geteuid() == 0:
            os.chown(top + b"/d/" + name, 1000 + number, 2**32 - 10 - number)
        os.mkdir(top + b"/" + name)
        os.symlink(name + b"\n", top + b"/" + name + b"/l")
        os.utime(top + b"/" + name + b"/l", ns=(0, -1), follow_symlinks=False)
    os.symlink(b"/", top + b"/root")
    os.mkfifo(source / "fifo", 0o640)
    os.link(source / "d/plain", source / "hard")
    os.link(top + b"/d/not\xffutf8\n", top + b"/d/hard\xff")
    os.mkdir(source / "empty", 0o555)
    for directory, _, _ in os.walk(top, topdown=False):
        os.utime(directory, ns=(0, 1_600_000_000_000_000_001))
    (source / "d").chmod(0o500)


def commit(store: Store, changes: list[Change], previous: Snapshot | None) -> Snapshot:
    return store.commit("web1", "etc", time=1.79e9, state="complete", changes=changes, previous=previous)


def test_the_script_restores_a_full_snapshot_and_a_delta(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    plant(source)
    first = listed(store, source)
    full = commit(store, [Change(e.path, e) for e in first], None)
    before = described(source)

    (source / "d").chmod(0o700)
    (source / "d/plain").write_bytes(b"changed")
    os.unlink(os.fsencode(source) + b"/d/" + NAMES[5])
    os.unlink(os.fsencode(source) + b"/d/hard\xff")
    (source / "fifo").unlink()
    (source / "d/added").write_bytes(b"")
    second = listed(store, source)
    old, new = {e.path: e for e in first}, {e.path: e for e in second}
    paths = sorted((p for p in old.keys() | new.keys() if old.get(p) != new.get(p)), key=order)
    delta = commit(store, [Change(p, new.get(p)) for p in paths], full)
    assert delta.base == full.name

    for snapshot, expected in ((full, before), (delta, described(source))):
        to = tmp_path / f"restored {snapshot.sequence}"
        command = [*script(store, to), "web1", "etc", snapshot.name, str(to)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert described(to) == expected


def test_the_script_refuses_damage_and_existing_targets(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_text("content")
    entries = listed(store, source)
    snapshot = commit(store, [Change(e.path, e) for e in entries], None)
    place = store.objects.place(entries[0].sha256)
    place.chmod(0o600)
    place.write_bytes(subprocess.run(["zstd", "-c"], input=b"other", capture_output=True, check=True).stdout)
    command = [*script(store, tmp_path / "to"), "web1", "etc", snapshot.name, str(tmp_path / "to")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"damaged: object {entries[0].sha256}" in done.stderr
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "File exists" in done.stderr


def test_the_script_refuses_a_large_content_that_lacks_a_chunk(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_bytes(os.urandom(6_000_000))
    (found,) = listed(store, source)
    snapshot = commit(store, [Change(found.path, found)], None)
    chunk = store.objects.chunks_of(found)[1].sha256
    store.objects.place(chunk).unlink()
    command = [*script(store, tmp_path / "to"), "web1", "etc", snapshot.name, str(tmp_path / "to")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert chunk[2:] in done.stderr
    assert f"damaged: object {found.sha256}" in done.stderr
