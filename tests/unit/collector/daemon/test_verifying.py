"""The daemon's own reading of objects, and what is done about damaged ones, with a real store and catalog."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.clock import Clock, SystemClock
from pyrsyncbackup_collector.config.model import Upkeep
from pyrsyncbackup_collector.daemon.chore import Work
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.daemon.verifying import handle_damage, verify
from pyrsyncbackup_collector.errors import Cancelled, StoreMissing
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.store import aside
from pyrsyncbackup_collector.store.rehash import Rehash
from pyrsyncbackup_collector.store.store import Store

from tests.support.estate import Content
from tests.support.fleet import make_config
from tests.support.vault import Vault, flip

DAY = 86400.0
SAME = hashlib.sha256(b"same 1\n").hexdigest()


@dataclass(frozen=True)
class Tools:
    """What the chore works with."""

    store: Store
    catalog: Catalog
    clock: Clock


@dataclass
class Later:
    """Now, so many days later; monotonic time is real."""

    days: float = 0.0

    def now(self) -> float:
        return SystemClock().now() + self.days * DAY

    def monotonic(self) -> float:
        return SystemClock().monotonic()


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    made = Vault(tmp_path)
    made.fill()
    yield made
    made.close()


def work(vault: Vault, clock: Clock, cancel: Cancel | None = None, rate: int = 1 << 30) -> Work:
    upkeep = Upkeep(verify="30d", verify_rate=rate)
    config = make_config(vault.directory)
    object.__setattr__(config, "upkeep", upkeep)
    vault.catalog._clock = clock
    return Work(cast(Parts, Tools(vault.store, vault.catalog, clock)), config, cancel or Cancel(), lambda *_: None)


def test_what_was_read_while_the_clock_was_ahead_is_read_again_when_it_is_right(vault: Vault) -> None:
    assert verify(work(vault, Later(3650)), {})["objects"] == 8
    assert verify(work(vault, Later(0)), {})["objects"] == 8
    assert verify(work(vault, Later(0)), {})["objects"] == 0
    assert verify(work(vault, Later(31)), {})["objects"] == 8


def test_each_object_is_read_once_in_its_turn_and_damage_is_set_aside(vault: Vault) -> None:
    assert verify(work(vault, Later(0)), {})["objects"] == 0
    assert verify(work(vault, Later(28)), {})["objects"] == 0
    flip(vault.store.objects.place(SAME))
    first = verify(work(vault, Later(31)), {})
    assert (first["objects"], first["damaged"]) == (8, 1)
    assert verify(work(vault, Later(31)), {})["objects"] == 0
    assert verify(work(vault, Later(62)), {})["objects"] == 7
    assert [each.name for each in (vault.store.path / "damaged").iterdir()] == [SAME]
    assert vault.catalog.known([SAME]) == {}
    assert {(each.host, each.kind) for each in vault.catalog.damage()} == {("web1", "rotten")}
    assert vault.catalog.lost("web1", "etc") == {SAME}
    assert vault.catalog.fingerprints("web1") == {}
    assert set(vault.catalog.fingerprints("web2")) == {"etc"}


def test_a_catalog_from_before_damage_was_found_is_known_for_an_older_copy(vault: Vault) -> None:
    before = vault.store.removals()
    flip(vault.store.objects.place(SAME))
    assert verify(work(vault, Later(31)), {})["damaged"] == 1
    assert vault.store.removals() not in ("", before)
    assert vault.store.removals() in vault.catalog.removals()
    assert vault.catalog.check_against(vault.store) == []


def test_what_was_read_before_it_is_stopped_is_not_read_again(vault: Vault) -> None:
    cancel = Cancel()
    read: list[str] = []
    taken = work(vault, Later(31), cancel)
    real = vault.catalog.due_objects

    class Stopping(Rehash):
        def one(self, sha256: str, *tick: Any) -> Any:
            if len(read) == 3:
                cancel.set()
                cancel.check()
            read.append(sha256)
            return super().one(sha256, *tick)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyrsyncbackup_collector.daemon.verifying.Rehash", Stopping)
        with pytest.raises(Cancelled):
            verify(taken, {})
    assert len(real(Later(31).now() - 29 * DAY, 100)) == 5


def test_reading_ends_at_once_although_it_is_held_back(vault: Vault) -> None:
    cancel = Cancel()
    # At a byte a second it would take minutes.
    taken = work(vault, Later(31), cancel, rate=1)
    thread = threading.Timer(0.2, cancel.set)
    thread.start()
    with pytest.raises(Cancelled):
        verify(taken, {})
    thread.join()


def test_a_command_is_not_believed_what_is_damaged(vault: Vault) -> None:
    other = hashlib.sha256(b"same 2\n").hexdigest()
    vault.store.objects.place(other).unlink()
    told = handle_damage(work(vault, Later()), {"digests": [SAME, other, "no digest", "f" * 64]})
    assert told == {"damaged": [other], "sound": [SAME, "f" * 64]}
    assert vault.catalog.known([SAME]) == {SAME: 7}


def test_what_somebody_put_back_is_known_again_and_status_is_quiet(vault: Vault, capsys) -> None:
    place = vault.store.objects.place(SAME)
    sound = place.read_bytes()
    flip(place)
    assert handle_damage(work(vault, Later()), {"digests": [SAME]}) == {"damaged": [SAME], "sound": []}
    assert {view.sha256 for view in vault.catalog.damage()} == {SAME}
    place.write_bytes(sound)
    vault.unlock()
    assert vault.say(capsys, "verify").code == 0
    with Store.open(vault.directory / "store") as store:
        catalog = Catalog.open(vault.catalog_path, store.id)
    assert catalog.damage() == []
    assert catalog.known([SAME]) == {SAME: 7}
    catalog.close()


def test_what_is_sound_and_not_awaited_gets_no_row(vault: Vault) -> None:
    left = vault.directory / "left"
    left.write_bytes(b"left by a crash\n")
    with left.open("rb") as file:
        found = vault.store.objects.ingest(file.fileno(), 1 << 20)
    assert handle_damage(work(vault, Later()), {"digests": [found.sha256]})["sound"] == [found.sha256]
    assert vault.catalog.known([found.sha256]) == {}


def test_a_file_that_another_pull_put_in_its_place_stays(vault: Vault) -> None:
    place = vault.store.objects.place(SAME)
    sound = place.read_bytes()
    flip(place)
    with Rehash(vault.store.objects.place) as rehash:
        found = rehash.one(SAME)
    # As a pull does: two files that are there at one moment are never taken for one.
    place.with_name("draft").write_bytes(sound)
    place.with_name("draft").rename(place)
    assert not vault.catalog.damage_found(SAME, "rotten", "x", lambda: aside.is_same(place, found.file))
    assert aside.set_aside(vault.store.path, place, SAME, found.file) is None
    assert place.read_bytes() == sound


CHILD = """
import os, signal, sys
from pathlib import Path
from pyrsyncbackup_collector.store import aside
aside.set_aside = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from tests.unit.collector.daemon.test_verifying import Later, Tools, Work, Cancel, cast
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.daemon.verifying import handle_damage
base = Path(sys.argv[1])
with Store.open(base / "store", lock=True) as store, Catalog.open(base / "catalog.sqlite", store.id) as catalog:
    work = Work(Tools(store, catalog, Later()), None, Cancel(), lambda *_: None)
    handle_damage(work, {"digests": [sys.argv[2]]})
"""


def test_killed_between_row_and_file_the_next_one_who_has_the_content_replaces_it(vault: Vault, capsys) -> None:
    place = vault.store.objects.place(SAME)
    flip(place)
    vault.close()
    killed = subprocess.run(
        [sys.executable, "-c", CHILD, vault.directory, SAME], env={**os.environ, "PYTHONPATH": "."}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    vault.store = Store.open(vault.directory / "store", lock=True, signer=vault.signer)
    vault.catalog = Catalog.open(vault.catalog_path, vault.store.id)
    assert place.exists()
    # Nobody can claim it, it is told, and whoever sends it replaces the file.
    assert vault.catalog.known([SAME]) == {}
    assert vault.catalog.lost("web1", "etc") == {SAME}
    vault.pull("web3", "etc", {b"etc/it": Content(b"same 1\n")})
    assert vault.catalog.damage() == []
    vault.close()
    assert vault.findings(capsys) == []


# Logs and manifests


def damaged_log(vault: Vault) -> None:
    flip(vault.module() / "log.jsonl")


def cut_log(vault: Vault) -> None:
    log = vault.module() / "log.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:2]))


def damaged_manifest(vault: Vault) -> None:
    flip(next(vault.module().glob("000002-*")))


def lost_manifest(vault: Vault) -> None:
    next(vault.module().glob("000003-*")).unlink()


def lost_module(vault: Vault) -> None:
    shutil.rmtree(vault.module())


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (damaged_log, [("log", "tampered"), ("manifest", "tampered")]),
        (cut_log, [("log", "tampered")]),
        (damaged_manifest, [("manifest", "tampered")]),
        (lost_manifest, [("manifest", "missing")]),
        (lost_module, [("log", "missing")]),
    ],
)
def test_each_log_and_manifest_is_read_once_in_its_turn_and_what_is_wrong_is_recorded(
    vault: Vault, capsys: pytest.CaptureFixture[str], damage: Callable[[Vault], None], expected: list[tuple[str, str]]
) -> None:
    assert verify(work(vault, Later(0)), {})["logs"] == 0
    first = verify(work(vault, Later(31)), {})
    assert (first["logs"], first["manifests"], first["findings"]) == (2, 4, 0)
    aside = vault.directory / "aside"
    shutil.copytree(vault.module(), aside)
    damage(vault)
    assert verify(work(vault, Later(32)), {})["logs"] == 0
    found = verify(work(vault, Later(62)), {})
    assert found["logs"] == 2
    assert found["findings"] >= len(expected)
    assert [(each.what, each.kind) for each in vault.catalog.unsound()] == expected
    before = vault.catalog.unsound()
    assert verify(work(vault, Later(93)), {})["findings"] == found["findings"]
    assert vault.catalog.unsound() == before
    # The module is pulled soon, and an administrator is told.
    assert set(vault.catalog.fingerprints("web1")) == set()
    assert set(vault.catalog.fingerprints("web2")) == {"etc"}
    vault.unlock()
    told = vault.say(capsys, "status")
    assert told.code == 14
    assert f"the {expected[0][0]}" in told.out
    assert f"is {expected[0][1]}:" in told.out
    # What somebody put back is seen by `verify`, and all is well again.
    shutil.rmtree(vault.module(), ignore_errors=True)
    aside.rename(vault.module())
    assert vault.say(capsys, "verify").code == 0
    vault.store = Store.open(vault.directory / "store", lock=True, signer=vault.signer)
    vault.catalog = Catalog.open(vault.catalog_path, vault.store.id)
    assert vault.catalog.unsound() == []


def test_a_command_leaves_what_it_found_wrong_with_manifests_in_status(
    vault: Vault, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged_manifest(vault)
    vault.unlock()
    assert vault.say(capsys, "verify", "web1/etc").code == 15
    told = vault.say(capsys, "status", "--json")
    assert told.code == 14
    (problem,) = (each for each in json.loads(told.out)["problems"] if each["state"] != "stopped")
    assert (problem["state"], problem["host"], problem["module"]) == ("damaged", "web1", "etc")


def test_an_object_without_a_file_is_found_before_its_turn(vault: Vault) -> None:
    vault.store.objects.place(SAME).unlink()
    found = verify(work(vault, Later(1)), {})
    assert (found["objects"], found["damaged"]) == (0, 1)
    assert vault.catalog.lost("web1", "etc") == {SAME}


def test_a_store_whose_objects_are_not_mounted_loses_none(vault: Vault) -> None:
    objects = vault.store.path / "objects"
    away = objects.rename(vault.directory / "away")
    for made in (False, True):
        if made:
            objects.mkdir()
        with pytest.raises(StoreMissing):
            verify(work(vault, Later(31)), {})
        assert vault.catalog.damage() == []
    objects.rmdir()
    away.rename(objects)
    assert verify(work(vault, Later(31)), {})["damaged"] == 0
