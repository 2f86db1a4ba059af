"""What is kept of a cut transfer: what was asked for and came, whatever else a taken-over rsync left there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup import identity
from pyrsyncbackup_collector.pull.salvage import Parts, keep
from pyrsyncbackup_collector.pull.task import Task

from tests.support.puller import Puller

TASK = Task("run-1", "web1", "etc")


@pytest.fixture
def puller(tmp_path: Path) -> Iterator[Puller]:
    with Puller(tmp_path / "c", identity.load_or_create(tmp_path / "own")) as puller:
        yield puller


@pytest.fixture
def data(puller: Puller) -> Path:
    """Where a run of rsync wrote, with a list beside it that names a file of the collector's."""
    data = puller.store.incoming(TASK.run) / "000001" / "0" / "data"
    data.mkdir(parents=True)
    data.with_name("list").write_bytes(b"../../../../secret\0")
    (puller.store.path / "secret").write_text("the collector's own")
    return data


def kept(puller: Puller, parts: Parts) -> int:
    return keep(TASK, puller.store.objects, puller.catalog, parts)


def test_only_names_that_were_asked_for_are_kept(puller: Puller, data: Path, tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts")
    for name in ("asked", "list", "unasked"):
        (data / name).write_text(name)
    (data / "link").symlink_to(puller.store.path / "secret")
    parts.note_asked(data, [b"asked", b"link", b"never came"])
    assert kept(puller, parts) == 1
    assert sorted(os.listdir(data)) == ["link", "list", "unasked"]
    # It is asked once: the next attempt writes to the same places.
    assert kept(puller, parts) == 0


def test_what_is_known_already_is_nothing_new(puller: Puller, data: Path, tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts")
    for expected in (1, 0):
        (data / "file").write_text("the same")
        parts.note_asked(data, [b"file"])
        assert kept(puller, parts) == expected


def test_a_place_that_is_gone_or_exchanged_is_passed_over(puller: Puller, data: Path, tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts")
    parts.note_asked(data.with_name("gone"), [b"file"])
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("the collector's own")
    data.with_name("exchanged").symlink_to(other)
    parts.note_asked(data.with_name("exchanged"), [b"file"])
    assert kept(puller, parts) == 0
    assert (other / "file").exists()
