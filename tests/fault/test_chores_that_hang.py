"""Chores on file systems that do not answer, and programs that never end: each ends by its limit and is recorded."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.config import Space
from pyrsyncbackup_collector.config.model import Config, CopyConfig, Keep, PolicySettings
from pyrsyncbackup_collector.copies import rsync_process
from pyrsyncbackup_collector.daemon import apart, chores, mirroring, retention
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.daemon.vigil import Vigil
from pyrsyncbackup_collector.errors import BackupError, ChoreOverdue
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.store.store import Store

from tests.support import copies
from tests.support.estate import Content, Estate
from tests.support.fleet import make_config
from tests.support.frozen import Frozen, frozen
from tests.support.waiting import until


class Tools:
    """What a chore works with, as far as these tests need it."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self.store, self.catalog, self.clock = store, catalog, SystemClock()
        self.hanging: dict[str, BackupError] = {}


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")


@pytest.mark.parametrize("script", ["sleep 1000", "trap '' TERM; while :; do sleep 1; done"])
def test_an_rsync_of_a_copy_that_never_ends_is_ended(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rsync_process, "_END", 0.5)
    given_up: list[BackupError] = []
    before = set(threading.enumerate())
    vigil = Vigil("replicate", 1.0, SystemClock(), given_up.append)
    with pytest.raises(ChoreOverdue, match=r"replicate: no sign of life for 1 s \(`limits\.chore`\)"):
        rsync_process.run(["sh", "-c", script], vigil.look)
    vigil.close()
    assert not given_up
    assert set(threading.enumerate()) <= before


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Frozen]:
    with frozen(tmp_path) as made:
        yield made


@as_root
def test_a_chore_on_a_frozen_store_is_told_while_it_hangs(tmp_path: Path, disk: Frozen) -> None:
    with ExitStack() as stack:
        Store.create(disk.place / "store")
        store = stack.enter_context(Store.open(disk.place / "store", lock=True))
        catalog = stack.enter_context(Catalog.create(tmp_path / "catalog.sqlite", store.id))
        estate = Estate.__new__(Estate)
        estate.store, estate.catalog, estate.clock = store, catalog, SystemClock()
        estate.pull("web1", "data", {b"file": Content(b"content")})
        made = make_config(tmp_path / "c", chore="1s")
        config = Config(**{**vars(made), "store": store.path, "catalog": tmp_path / "catalog.sqlite"})
        stack.callback(disk.thaw)
        ended: list[chores.Finished] = []
        options = {"host": "web1", "module": "data", "sequence": 1, "why": ""}
        parts = cast(Parts, Tools(store, catalog))

        def pin() -> None:
            ended.append(chores.do("pin", parts, config, options, Cancel(), trigger="command", grace=0.2))

        disk.freeze()
        thread = threading.Thread(target=pin, daemon=True)
        thread.start()
        until(lambda: [run for run in catalog.runs(kind="pin") if run.end], what="the run to end")
        (run,) = catalog.runs(kind="pin")
        assert run.failure is not None
        assert (run.outcome, run.failure.type) == ("failed", "ChoreOverdue")
        assert thread.is_alive()
        disk.thaw()
        thread.join(60)
        assert [done.outcome for done in ended] == ["complete"]
        (run,) = catalog.runs(kind="pin")
        assert run.outcome == "complete"


@as_root
def test_a_mirror_on_a_frozen_disk_is_told_while_it_hangs_and_right_when_it_ends(tmp_path: Path, disk: Frozen) -> None:
    with ExitStack() as stack:
        estate = Estate(tmp_path)
        stack.callback(estate.close)
        estate.pull("web1", "data", {b"file": Content(b"content")})
        parts = cast(Parts, Tools(estate.store, estate.catalog))
        stack.callback(disk.thaw)

        told: list[BackupError] = []

        def follow() -> None:
            mirroring.follow(
                parts, "web1", "data", disk.place, Space(), Cancel(), silence=1.0, given_up=told.append, grace=0.2
            )

        disk.freeze()
        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        until(lambda: told, what="it to be given up")
        (run,) = estate.catalog.runs(kind="mirror")
        assert run.failure is not None
        assert (run.outcome, run.failure.type) == ("failed", "ChoreOverdue")
        assert thread.is_alive()
        disk.thaw()
        thread.join(60)
        # It was asked to end while it hung, and did so as soon as it could: the next pull brings it up to date.
        (run,) = estate.catalog.runs(kind="mirror")
        assert run.outcome == "failed"
        mirroring.follow(parts, "web1", "data", disk.place, Space(), Cancel())
        assert (disk.place / "web1" / "data" / "file").read_bytes() == b"content"


@as_root
def test_a_copy_on_a_frozen_disk_hangs_alone(tmp_path: Path, disk: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"copy frozen": (1.0, 0.2)}

    def vigil(what: str, _silence: float, clock: SystemClock, given_up: Any, _grace: float) -> Vigil:
        silence, grace = limits.get(what, (3600.0, 600.0))
        return Vigil(what, silence, clock, given_up, grace)

    monkeypatch.setattr(apart, "Vigil", vigil)
    with ExitStack() as stack:
        estate = Estate(tmp_path)
        stack.callback(estate.close)
        estate.pull("web1", "data", {b"file": Content(b"content")})
        places = {"frozen": disk.place / "copy", "good": tmp_path / "good"}
        for place in places.values():
            target = copies.directory(place)
            copies.make(target, estate.store)
            target.close()
        configured = tuple(CopyConfig(name=name, to=str(place)) for name, place in places.items())
        config = replace(make_config(tmp_path / "c"), copies=configured)
        parts = Tools(estate.store, estate.catalog)
        stack.callback(disk.thaw)

        def replicate() -> dict[str, Any]:
            return chores.do("replicate", cast(Parts, parts), config, {}, Cancel(), trigger="schedule").document

        disk.freeze()
        done = replicate()
        assert [(one["name"], one["type"]) for one in done["failed"]] == [("frozen", "ChoreOverdue")]
        assert done["copies"]["good"]["held"] == 1
        assert "it hangs still" in replicate()["failed"][0]["cause"]
        disk.thaw()
        until(lambda: not parts.hanging, what="the round to end")
        limits.clear()
        assert {name: one["held"] for name, one in replicate()["copies"].items()} == {"frozen": 1, "good": 1}


@as_root
def test_retention_after_a_pull_on_a_frozen_store_is_told_while_it_hangs(tmp_path: Path, disk: Frozen) -> None:
    with ExitStack() as stack:
        estate = Estate(disk.place)
        stack.callback(estate.close)
        for number in range(3):
            estate.pull("web1", "data", {b"file": Content(b"%d" % number)})
        keep = PolicySettings.model_construct({"keep"}, keep=Keep.model_validate({"last": 1}))
        config = replace(make_config(tmp_path / "c", chore="1s"), policy=keep)
        parts = cast(Parts, Tools(estate.store, estate.catalog))
        said = io.StringIO()
        logs.configure(stream=said)
        stack.callback(logs.configure)
        stack.callback(disk.thaw)
        disk.freeze()
        thread = threading.Thread(
            target=retention.after_pull, args=(parts, config, "web1", "data"), kwargs={"grace": 0.2}, daemon=True
        )
        thread.start()
        until(lambda: "retention of web1/data hangs and is given up" in said.getvalue(), what="it to be given up")
        assert thread.is_alive()
        disk.thaw()
        thread.join(60)
        assert not thread.is_alive()
        retention.after_pull(parts, config, "web1", "data")
        assert [one.sequence for one in estate.store.recorded("web1", "data")] == [3]
