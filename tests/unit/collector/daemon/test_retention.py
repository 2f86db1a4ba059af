"""Retention at work on a real store and catalog: what is removed, and what keeps it from removing anything."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.rebuild import rebuild
from pyrsyncbackup_collector.config import Config, retention_rules
from pyrsyncbackup_collector.config.model import CopyConfig, HostConfig, Keep, PolicySettings
from pyrsyncbackup_collector.copies.directory import DirectoryTarget
from pyrsyncbackup_collector.copies.founding import found
from pyrsyncbackup_collector.copies.seal import Plain
from pyrsyncbackup_collector.daemon import chores, retention
from pyrsyncbackup_collector.daemon.composition import Parts
from pyrsyncbackup_collector.errors import (
    BackupError,
    ClockDoubtful,
    NotFound,
    SandboxUnavailable,
    UsageError,
)
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.pull.ledger import ModuleMemory
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.transport.offer import ModuleOffer, ModuleState

from tests.support.estate import Content, Estate
from tests.support.fleet import make_config
from tests.support.still_clock import StillClock

DAY = 86400.0
FILES = {b"etc/%02d" % number: Content(b"content %d" % number) for number in range(30)}


class Scene:
    """A collector's parts, without connections, and its policy."""

    def __init__(self, folder: Path) -> None:
        self.clock = StillClock()
        self.estate = Estate(folder, self.clock)
        self.config: Config = make_config(folder)
        self.policy(keep=Keep.model_validate({"daily": 3}))

    @property
    def parts(self) -> Parts:
        sandbox = SandboxUnavailable("none")
        return Parts(self.estate.store, self.estate.catalog, cast(Any, None), sandbox, self.clock)

    def policy(self, **settings: Any) -> None:
        self.config = replace(self.config, policy=PolicySettings.model_construct(set(settings), **settings))

    def pull(self, name: str = "web1/etc", files: dict[bytes, Content | None] | None = None, **also: Any) -> None:
        """A pull a day after the one before; changes one file if nothing else is said."""
        host, _, module = name.partition("/")
        self.clock.time += DAY
        if files is None:
            first = not self.estate.store.recorded(host, module)
            files = {**FILES} if first else {b"etc/00": Content(b"%f" % self.clock.time)}
        self.estate.pull(host, module, files, time=self.clock.time, **also)

    def chore(self, name: str, **options: Any) -> dict[str, Any]:
        done = chores.do(name, self.parts, self.config, options, Cancel(), trigger="command")
        if done.error:
            raise done.error
        return done.document

    def left(self, name: str = "web1/etc") -> list[int]:
        host, _, module = name.partition("/")
        found = [one.sequence for one in self.estate.catalog.snapshots(host, module)]
        assert found == [one.sequence for one in self.estate.store.recorded(host, module)]
        return found


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.estate.close()


def test_rules_that_the_daemon_did_not_read_yet_are_not_gone_against(scene: Scene) -> None:
    for _ in range(6):
        scene.pull()
    asked = retention_rules(scene.config)
    scene.policy(keep=Keep.model_validate({"daily": 2}))
    with pytest.raises(UsageError, match="it read its configuration before they were changed"):
        scene.chore("prune", rules=asked)
    assert len(scene.left()) == 6
    assert scene.chore("prune", rules=retention_rules(scene.config))["removed"] == 4


def test_what_no_rule_keeps_is_removed_in_store_and_catalog(scene: Scene) -> None:
    for _ in range(6):
        scene.pull()
    scene.pull("db1/etc")
    done = scene.chore("prune")
    assert (done["removed"], done["kept"], done["problems"]) == (3, 4, 0)
    [module] = done["modules"]
    assert [(one["sequence"], one["removed"], one["reasons"]) for one in module["snapshots"]] == [
        (number, True, ["no rule keeps it"]) for number in (1, 2, 3)
    ]
    assert (scene.left(), scene.left("db1/etc")) == ([4, 5, 6], [1])
    assert scene.chore("prune")["removed"] == 0
    [run] = scene.estate.catalog.runs(kind="prune", limit=1)
    assert run.outcome == "complete"


def test_one_host_or_module_is_pruned_alone_and_what_is_kept_is_told_too(scene: Scene) -> None:
    for _ in range(5):
        for name in ("web1/etc", "web1/cron", "db1/etc"):
            scene.pull(name)
    done = scene.chore("prune", host="web1", module="cron")
    assert [(one["host"], one["module"]) for one in done["modules"]] == [("web1", "cron")]
    assert {one["reasons"][0] for one in done["modules"][0]["snapshots"] if one["keep"]} >= {"newest complete"}
    assert len(scene.left("web1/cron")) < 5
    assert len(scene.left("web1/etc")) == len(scene.left("db1/etc")) == 5


def test_a_module_that_is_known_no_more_stands_still(scene: Scene) -> None:
    for _ in range(3):
        scene.pull()
    scene.clock.time += 400 * DAY
    assert scene.chore("prune")["removed"] == 0
    assert scene.left() == [1, 2, 3]


def test_a_module_without_changes_goes_on_while_it_is_known(scene: Scene) -> None:
    for _ in range(3):
        scene.pull()
    scene.clock.time += 10 * DAY
    scene.estate.catalog.check_done("web1", begin=scene.clock.time, unchanged=["etc"])
    scene.chore("prune")
    assert scene.left() == [3]


def test_partial_snapshots_do_not_make_complete_ones_expire(scene: Scene) -> None:
    """A host that was taken over needs only to hide one file, and no snapshot is ever judged again."""
    for _ in range(3):
        scene.pull()
    for _ in range(10):
        scene.pull(state="partial")
    scene.chore("prune")
    assert scene.left() == [1, 2, 3, 11, 12, 13]
    scene.pull()
    scene.chore("prune")
    assert scene.left() == [3, 14]


def test_a_host_that_is_gone_stands_still_in_a_second_copy_too(scene: Scene, tmp_path: Path) -> None:
    second = CopyConfig.model_validate({"name": "second", "to": str(tmp_path / "copy"), "keep": {"daily": 3}})
    scene.config = replace(scene.config, copies=(second,))
    (tmp_path / "copy").mkdir()
    with TemporaryDirectory(dir=tmp_path) as stage:
        found(DirectoryTarget(tmp_path / "copy"), scene.estate.store.id, Plain(), Path(stage))
    for _ in range(3):
        scene.pull()
    assert scene.chore("replicate")["snapshots"] == 3
    scene.clock.time += 40 * DAY
    done = scene.chore("replicate", names=["second"], full=True)
    assert (done["removed"], done["copies"]["second"]["held"]) == (0, 3)
    for _ in range(5):
        scene.pull(state="partial")
    assert scene.chore("replicate", names=["second"])["removed"] == 0
    scene.pull()
    assert scene.chore("replicate", names=["second"])["removed"] > 0


@pytest.mark.parametrize(("zone", "left"), [("Pacific/Kiritimati", [1, 3]), ("Pacific/Pago_Pago", [2, 3])])
def test_days_end_where_the_policy_says(scene: Scene, zone: str, left: list[int]) -> None:
    scene.policy(keep=Keep.model_validate({"daily": 2}), zone=zone)
    # In Kiritimati a day begins at 10:00 UTC, in Pago Pago at 11:00.
    for moment in ("2026-09-20T09:30", "2026-09-20T10:30", "2026-09-20T11:30"):
        scene.clock.time = datetime.fromisoformat(f"{moment}+00:00").timestamp() - DAY
        scene.pull()
    scene.chore("prune")
    assert scene.left() == left


def test_pinned_ones_stay_and_a_rebuilt_catalog_knows_them(scene: Scene) -> None:
    for _ in range(6):
        scene.pull()
    scene.chore("pin", host="web1", module="etc", sequence=1, why="before the upgrade")
    done = scene.chore("prune", host="web1", module="etc")
    assert done["modules"][0]["snapshots"][0]["reasons"] == ["pinned: before the upgrade"]
    assert scene.left() == [1, 4, 5, 6]
    scene.estate.catalog.close()
    scene.estate.catalog = rebuild(scene.estate.catalog_path, scene.estate.store, clock=scene.clock).catalog
    assert scene.chore("prune")["removed"] == 0
    scene.chore("unpin", host="web1", module="etc", sequence=1)
    assert scene.chore("prune")["removed"] == 1


def test_after_a_pull_its_module_is_pruned(scene: Scene) -> None:
    for _ in range(5):
        scene.pull()
        retention.after_pull(scene.parts, scene.config, "web1", "etc")
    assert scene.left() == [3, 4, 5]


# What keeps it from removing anything


def test_a_snapshot_that_the_store_lost_takes_no_place_and_goes_when_its_time_comes(scene: Scene) -> None:
    for _ in range(6):
        scene.pull()
    scene.policy(keep=Keep.model_validate({"last": 2}))
    next((scene.estate.store.path / "manifests/web1/etc").glob("000006-*")).unlink()
    done = scene.chore("prune", host="web1")
    kept = [one["sequence"] for one in done["modules"][0]["snapshots"] if one["keep"]]
    # By the rule 5 and 6; without 6, which nobody can read, 4 is among the last two.
    assert (kept, done["problems"]) == ([4, 5, 6], 0)
    assert [one.sequence for one in scene.estate.catalog.snapshots("web1")] == [4, 5, 6]
    for _ in range(4):
        scene.estate.catalog.catch_up(scene.estate.store, "web1", "etc")
        previous = scene.estate.store.newest("web1", "etc")
        scene.clock.time += DAY
        snapshot = scene.estate.store.commit(
            "web1", "etc", time=scene.clock.time, state="complete", changes=[], previous=previous, after=6
        )
        memory = ModuleMemory(snapshot.sequence, b"", b"")
        known = scene.estate.catalog.newest("web1", "etc")
        assert known is not None
        scene.estate.catalog.commit("", snapshot, [], memory, previous=known.sequence)
    scene.chore("prune")
    assert scene.left() == [9, 10]
    assert (6, "prune") in [(each.sequence, each.op) for each in scene.estate.store.log("web1", "etc").read().lines]


def test_what_the_log_does_not_name_stays_until_it_is_forgotten(scene: Scene) -> None:
    for _ in range(6):
        scene.pull()
        scene.pull("db1/etc")
    shutil.rmtree(scene.estate.store.path / "manifests/web1")
    assert scene.chore("prune")["problems"] == 0
    assert [one.sequence for one in scene.estate.catalog.snapshots("web1")] == [1, 2, 3, 4, 5, 6]
    scene.estate.catalog.check_against(scene.estate.store)
    assert scene.estate.catalog.unsound() != []
    assert scene.chore("forget", host="web1", module="")["removed"] == 6
    assert scene.estate.catalog.snapshots("web1") == []
    assert scene.estate.catalog.unsound() == []


def test_a_module_whose_pull_is_being_recorded_waits(scene: Scene) -> None:
    for _ in range(6):
        scene.pull()
        scene.pull("db1/etc")
    scene.pull(recorded=False)
    done = scene.chore("prune")
    assert [(one["host"], one["problem"]) for one in done["modules"] if one["problem"]] == [
        ("web1", "a pull is being recorded, or was not: the next prune looks at it again")
    ]
    assert scene.left("db1/etc") == [5, 6]
    assert len(scene.estate.store.recorded("web1", "etc")) == 7


@pytest.mark.parametrize("content", [b"", b"not a manifest"])
@pytest.mark.parametrize("which", [6, 1])
def test_a_module_whose_newest_complete_snapshot_cannot_be_read_is_not_pruned(
    scene: Scene, which: int, content: bytes
) -> None:
    """Number 6 stands on number 1."""
    for _ in range(6):
        scene.pull()
        scene.pull("db1/etc")
    next((scene.estate.store.path / "manifests/web1/etc").glob(f"{which:06d}-*")).write_bytes(content)
    done = scene.chore("prune")
    assert done["problems"] == 1
    [problem] = [one for one in done["modules"] if one["problem"]]
    assert problem["problem"].startswith("nothing is removed: the newest complete snapshot cannot be read: manifest ")
    assert "verify web1/etc" in problem["hint"]
    assert len(scene.left()) == 6
    assert scene.left("db1/etc") == [5, 6]


def test_a_truncated_manifest_that_goes_goes(scene: Scene) -> None:
    for _ in range(6):
        scene.pull()
    next((scene.estate.store.path / "manifests/web1/etc").glob("000002-*")).write_bytes(b"")
    assert scene.chore("prune")["removed"] == 3
    assert scene.left() == [4, 5, 6]


def test_what_is_read_now_goes_the_next_time(scene: Scene) -> None:
    for _ in range(5):
        scene.pull()
    reader = Store.open(scene.estate.store.path)
    with reader.reading(reader.snapshots("web1", "etc")[1]):
        done = scene.chore("prune")
        assert (done["removed"], done["locked"]) == (0, 2)
    assert scene.chore("prune")["removed"] == 2
    reader.close()


@pytest.mark.parametrize(
    ("jump", "left"),
    # What was taken before the clock was set back lies in the future: no rule judges it.
    [
        (-10 * 365 * DAY, [1, 2, 3, 4, 5, 6]),
        (-2 * DAY, [2, 3, 4, 5, 6]),
        (2 * DAY, [4, 5, 6]),
        (10 * 365 * DAY, [4, 5, 6]),
    ],
)
def test_a_clock_that_jumped_removes_nothing_until_somebody_says_that_it_is_right(
    scene: Scene, jump: float, left: list[int]
) -> None:
    for _ in range(6):
        scene.pull()
    retention.check_clock(scene.parts)
    scene.clock.jump(jump)
    with pytest.raises(ClockDoubtful, match="nothing is removed: the clock") as raised:
        scene.chore("prune")
    assert "retention resume --clock" in raised.value.hint
    assert len(scene.left()) == 6
    assert scene.chore("resume", clock=True)["resumed"] is True
    assert scene.chore("prune")["removed"] == 6 - len(left)
    assert scene.left() == left
    assert scene.chore("resume", clock=True)["resumed"] is False


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, -2 * DAY, 2 * DAY])
def test_a_clock_that_jumps_and_comes_back_is_doubted_no_more(scene: Scene, jump: float) -> None:
    for _ in range(6):
        scene.pull()
    retention.check_clock(scene.parts)
    scene.clock.jump(jump)
    retention.after_pull(scene.parts, scene.config, "web1", "etc")
    scene.clock.jump(-jump)
    scene.chore("prune")
    assert scene.left() == [4, 5, 6]


# The freeze


def test_a_module_that_shrinks_freezes_until_it_is_resumed(scene: Scene) -> None:
    for _ in range(5):
        scene.pull()
    scene.pull(files=dict.fromkeys(list(FILES)[:20]))
    done = scene.chore("prune")
    assert (done["removed"], done["frozen"]) == (0, 1)
    assert "has 11 entries, the median of the 5 before it has 31" in done["modules"][0]["frozen"]
    [known] = scene.estate.catalog.retained()
    assert known.frozen == scene.clock.now()
    for _ in range(3):
        scene.pull(files={b"etc/29": Content(b"%f" % scene.clock.time)})
        assert scene.chore("prune", host="web1", module="etc")["frozen"] == 1
    assert scene.left() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    answer = scene.chore("resume", host="web1", module="etc")
    assert answer["resumed"] is True
    assert "11 entries" in answer["was"]
    assert scene.chore("prune")["removed"] == 6
    scene.pull(files={b"etc/29": Content(b"after")})
    assert scene.chore("prune")["frozen"] == 0


@pytest.mark.parametrize("old", ["lost", "put back"])
def test_a_freeze_outlives_the_catalog(scene: Scene, old: str) -> None:
    for _ in range(3):
        scene.pull()
    path, store = scene.estate.catalog_path, scene.estate.store
    scene.estate.catalog.close()
    copy = path.read_bytes()
    scene.estate.catalog = Catalog.open(path, store.id, clock=scene.clock)
    scene.pull(files={path: Content(b"other") for path in list(FILES)[:20]})
    assert scene.chore("prune")["frozen"] == 1
    since = scene.estate.catalog.retained()[0].frozen
    if old == "lost":
        for _ in range(20):
            scene.pull()
    scene.estate.catalog.close()
    path.write_bytes(copy if old == "put back" else b"")
    if old == "lost":
        scene.estate.catalog = rebuild(path, store, clock=scene.clock).catalog
    else:
        scene.estate.catalog = Catalog.open(path, store.id, clock=scene.clock)
        scene.estate.catalog.check_against(store)
    done = scene.chore("prune")
    assert (done["removed"], done["frozen"]) == (0, 1)
    [known] = scene.estate.catalog.retained()
    assert (known.frozen, known.why) == (since, known.why)
    assert "of the 30 files in 000003" in known.why
    assert "of the 30 files" in scene.chore("resume", host="web1", module="etc")["was"]
    assert scene.chore("prune")["frozen"] == 0
    scene.estate.catalog.close()
    scene.estate.catalog = rebuild(path, store, clock=scene.clock).catalog
    assert scene.chore("prune")["frozen"] == 0


def test_a_frozen_module_that_is_forgotten_and_comes_back_is_not_frozen(scene: Scene) -> None:
    for _ in range(3):
        scene.pull()
    scene.pull(files={path: Content(b"other") for path in list(FILES)[:20]})
    assert scene.chore("prune")["frozen"] == 1
    scene.chore("forget", host="web1", module="")
    for _ in range(6):
        scene.pull()
    assert scene.chore("prune")["frozen"] == 0
    assert scene.left() == [8, 9, 10]


def test_a_module_whose_contents_change_freezes_although_its_size_stays(scene: Scene) -> None:
    for _ in range(5):
        scene.pull()
    scene.pull(files={path: Content(bytes(len(content.data))) for path, content in list(FILES.items())[:16]})
    assert "of the 30 files in 000005-" in scene.chore("prune")["modules"][0]["frozen"]
    assert len(scene.left()) == 6


def test_a_change_is_found_although_others_came_after_it(scene: Scene) -> None:
    for _ in range(5):
        scene.pull()
    scene.chore("prune")
    scene.pull(files=dict.fromkeys(list(FILES)[:20]))
    for _ in range(3):
        scene.pull(files={b"etc/29": Content(b"%f" % scene.clock.time)})
    assert "000006-" in scene.chore("prune")["modules"][0]["frozen"]


def test_a_snapshot_by_a_clock_that_was_ahead_does_not_hide_a_change_before_it(scene: Scene) -> None:
    for _ in range(3):
        scene.pull()
    scene.pull(files={path: Content(b"other") for path in list(FILES)[:20]})
    scene.estate.pull("web1", "etc", {b"etc/00": Content(b"later")}, time=scene.clock.time + 3650 * DAY)
    scene.chore("resume", clock=True)
    assert scene.chore("prune")["frozen"] == 1


def test_what_may_change_is_the_policys(scene: Scene) -> None:
    for _ in range(5):
        scene.pull()
    scene.pull(files=dict.fromkeys(list(FILES)[:20]))
    keep = Keep.model_validate({"daily": 3})
    scene.policy(keep=keep, freeze=None)
    assert scene.chore("prune")["frozen"] == 0
    assert scene.left() == [4, 5, 6]
    scene.policy(keep=Keep())
    scene.pull(files=dict.fromkeys(list(FILES)[20:28]))
    assert scene.chore("prune")["frozen"] == 0
    scene.policy(keep=keep, freeze=0.95)
    assert scene.chore("prune")["frozen"] == 0


def test_only_what_is_known_and_frozen_is_resumed(scene: Scene) -> None:
    scene.pull()
    assert scene.chore("resume", host="web1", module="etc")["resumed"] is False
    with pytest.raises(NotFound, match="there is no module web1/other"):
        scene.chore("resume", host="web1", module="other")


def test_a_freeze_that_only_a_dry_run_showed_can_be_ended_before_a_prune_records_it(scene: Scene) -> None:
    for _ in range(5):
        scene.pull()
    scene.pull(files=dict.fromkeys(list(FILES)[:20]))
    [known] = scene.estate.catalog.retained()
    assert known.frozen is None
    answer = scene.chore("resume", host="web1", module="etc")
    assert answer["resumed"] is True
    assert "has 11 entries, the median of the 5 before it has 31" in answer["was"]
    # The log tells both, so that a catalog that is made anew does not freeze it again.
    assert [line.op for line in scene.estate.store.log("web1", "etc").read().lines][-2:] == ["freeze", "resume"]
    done = scene.chore("prune")
    assert (done["frozen"], done["removed"]) == (0, 3)
    assert scene.chore("resume", host="web1", module="etc")["resumed"] is False


# Forgetting


def test_a_host_that_is_forgotten_leaves_nothing_but_its_log(scene: Scene) -> None:
    for _ in range(3):
        scene.pull()
        scene.pull("web1/cron")
        scene.pull("db1/etc")
    done = scene.chore("forget", host="web1", module="")
    assert (done["removed"], done["problems"]) == (6, 0)
    assert scene.left() == scene.left("web1/cron") == []
    assert [(one.host, one.name) for one in scene.estate.catalog.modules()] == [("db1", "etc")]
    assert len(scene.left("db1/etc")) == 3
    assert scene.chore("prune")["problems"] == 0
    assert scene.estate.store.verify_log("web1", "etc") == []
    scene.pull()
    assert scene.left() == [4]


def test_pinned_snapshots_refuse_to_be_forgotten_unless_it_is_said(scene: Scene) -> None:
    scene.pull()
    scene.pull("web1/cron")
    scene.chore("pin", host="web1", module="etc", sequence=1)
    with pytest.raises(BackupError, match="nothing is removed: web1/etc has pinned snapshots"):
        scene.chore("forget", host="web1", module="")
    assert scene.left("web1/cron") == [1]
    assert scene.chore("forget", host="web1", module="", pinned_too=True)["removed"] == 2


def test_a_module_that_is_still_offered_stays_known(scene: Scene) -> None:
    scene.pull()
    scene.estate.catalog.seen("web1", [ModuleOffer("etc", "Etc", ModuleState.READY, "")])
    scene.config = replace(scene.config, hosts=(HostConfig(name="web1"),))
    scene.chore("forget", host="web1", module="etc")
    [module] = scene.estate.catalog.modules()
    assert (module.name, module.newest, module.snapshots) == ("etc", None, 0)
    assert scene.estate.catalog.memory("web1", "etc") is None


def test_what_is_read_is_not_forgotten_and_that_is_said(scene: Scene) -> None:
    scene.pull()
    scene.pull()
    reader = Store.open(scene.estate.store.path)
    with reader.reading(reader.snapshots("web1", "etc")[0]):
        done = scene.chore("forget", host="web1", module="etc")
        assert (done["removed"], done["problems"]) == (1, 1)
        assert scene.left() == [1]
    assert scene.chore("forget", host="web1", module="etc")["removed"] == 1
    reader.close()
