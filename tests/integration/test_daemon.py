"""The daemon as a process, against a real agent: what it starts by itself, on request, and how it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.catalog.views import HostView, RequestView, RunView

from tests.support.agent import RunningAgent
from tests.support.collector import RunningCollector
from tests.support.orphans import command, descendants
from tests.support.waiting import until

# The agent finds modules of this very machine too: none of these names is one of the catalogue.
OWN = 'modules = { include = ["data", "shop", "slow", "none"] }'
QUICK = '[policy]\ncheck = "1s"\npull = "1h"\n'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    tree = tmp_path / "data"
    (tree / "sub").mkdir(parents=True)
    (tree / "a").write_text("one\n")
    (tree / "sub" / "b").write_text("two\n")
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return tree


@pytest.fixture
def agent(tmp_path: Path, data: Path) -> Iterator[RunningAgent]:
    with RunningAgent(tmp_path / "agent") as made:
        made.module("data", data)
        yield made


@pytest.fixture
def collector(tmp_path: Path, agent: RunningAgent) -> Iterator[RunningCollector]:
    made = RunningCollector(tmp_path / "collector", QUICK)
    made.host("web1", agent, OWN)
    yield made
    made.stop(signal.SIGKILL)


def ask(collector: RunningCollector, host: str, module: str = "") -> RequestView:
    """Request a pull and wait for its result."""
    with collector.catalog() as catalog:
        number = catalog.request(host, module)

        def done() -> RequestView | None:
            view = catalog.request_view(number)
            return view if view is not None and view.done else None

        return until(done, what=f"the request for {host}/{module}, see {collector.log_file}")


def test_what_a_host_offers_is_pulled_and_pulled_again_when_it_changed(collector: RunningCollector, data: Path) -> None:
    with collector.start():
        until(lambda: collector.events("pull ended", outcome="complete", module="data"))
        until(lambda: collector.events("pull ended", outcome="unchanged") or checked_unchanged(collector))
        assert len(collector.snapshots("web1", "data")) == 1
        (data / "a").write_text("changed\n")
        until(lambda: len(collector.snapshots("web1", "data")) == 2)


def checked_unchanged(collector: RunningCollector) -> bool:
    with collector.catalog() as catalog:
        module = catalog.modules("web1", "data")
        return bool(
            module and module[0].last_good and module[0].last_pull and module[0].last_good > module[0].last_pull
        )


def test_software_that_is_installed_later_appears_by_itself(
    collector: RunningCollector, agent: RunningAgent, tmp_path: Path
) -> None:
    with collector.start():
        until(lambda: collector.snapshots("web1", "data"))
        (tmp_path / "shop").mkdir()
        agent.module("shop", tmp_path / "shop")
        until(lambda: collector.snapshots("web1", "shop"))
        until(lambda: collector.events("modules changed", appeared=["shop"], gone=[]))


def test_a_restart_shifts_nothing_and_pulls_nothing_twice(collector: RunningCollector) -> None:
    collector.settings('[policy]\ncheck = "1h"\npull = "1d"\n')
    with collector.start():
        until(lambda: collector.events("pull ended"))
        assert collector.stop() == 0
    with collector.start():
        until(lambda: len(collector.events("modules found")) == 2)
        result = ask(collector, "web1")
        assert result.result["modules"]["data"]["outcome"] == "unchanged"
    with collector.catalog() as catalog:
        assert sorted(run.trigger for run in catalog.runs(kind="pull")) == ["request", "schedule"]


def test_checks_go_on_outside_the_windows_and_pulls_wait_but_for_requests(
    collector: RunningCollector, data: Path
) -> None:
    shut = '[policy]\ncheck = "1s"\npull = "1h"\nwindows = ["2199-01-01"]\n'
    collector.settings(shut)
    with collector.start():
        until(lambda: collector.events("modules found"))
        assert ask(collector, "web1", "data").result["modules"]["data"]["outcome"] == "complete"
        (data / "a").write_text("changed\n")
        until(lambda: collector.events("changed", modules=["data"]))
        until(lambda: len(collector.events("changed", modules=["data"])) > 1)
        assert [run.trigger for run in pulls_of(collector)] == ["request"]
        collector.settings(shut.replace('windows = ["2199-01-01"]', 'blackouts = ["2199-01-01"]'))
        collector.send(signal.SIGHUP)
        until(lambda: len(collector.snapshots("web1", "data")) == 2)
        # A check that comes before the end of that pull finds it changed once more.
        assert {run.trigger for run in pulls_of(collector)} == {"change", "request"}


def test_the_daemon_says_how_many_workers_it_has(collector: RunningCollector) -> None:
    collector.settings("[limits]\npulls = { min = 3, max = 5 }")
    with collector.start(), collector.catalog() as catalog:
        told = until(lambda: catalog.fleet().daemon)
        assert told.workers == 5


def connected(collector: RunningCollector) -> sqlite3.Connection:
    return sqlite3.connect(collector.base / "catalog.sqlite", timeout=60, isolation_level=None)


def pulls_of(collector: RunningCollector) -> list[RunView]:
    with collector.catalog() as catalog:
        return list(catalog.runs(kind="pull"))


def test_requests_are_answered_with_their_run_or_the_reason(collector: RunningCollector) -> None:
    collector.settings('[policy]\ncheck = "1h"\n')
    with collector.start():
        done = ask(collector, "web1", "data")
        assert done.result["error"] is None
        assert done.runs == (done.result["modules"]["data"]["run"],)
        assert ask(collector, "web2").result["error"]["cause"].startswith("the daemon does not know web2")
        assert ask(collector, "web1", "none").result["error"] == {
            "type": "ModuleUnknown",
            "cause": "web1 has no module none",
            "hint": "it has data",
        }


def test_a_host_that_is_down_is_recorded_and_others_go_on(collector: RunningCollector) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        collector.unreachable_host("down", taken.getsockname()[1])
        with collector.start():
            until(lambda: collector.snapshots("web1", "data"))
            until(lambda: collector.events("check failed", host="down"))
            with collector.catalog() as catalog:

                def failed() -> HostView | None:
                    row = catalog.host("down")
                    return row if row is not None and row.health.outcome == "failed" else None

                row = until(failed)  # it is logged before it is recorded
                assert row.health.failing_since is not None
                assert row.health.next_try is not None
            error = ask(collector, "down").result["error"]
            assert error["type"] in ("HostUnreachable", "AgentUnreachable")
    assert "Traceback" not in collector.log


def test_a_reload_takes_new_hosts_in_and_refuses_a_broken_configuration(
    collector: RunningCollector, agent: RunningAgent
) -> None:
    with collector.start():
        until(lambda: collector.snapshots("web1", "data"))
        collector.settings("[policy]\ncheck = 15\n")
        collector.send(signal.SIGHUP)
        (refused,) = until(lambda: collector.events("configuration refused"))
        assert refused["problem"] == (
            f'{collector.file}:5: policy.check: 15 is not a duration: write it as text with a unit, such as "15s"'
        )
        collector.settings(QUICK)
        collector.host("web2", agent, OWN)
        collector.send(signal.SIGHUP)
        until(lambda: collector.snapshots("web2", "data"))
        until(lambda: collector.events("configuration reloaded", added=1, removed=0, changed=0, same=1))
        assert len(collector.events("modules found", host="web1")) == 1


def test_a_reload_ends_pulls_of_removed_hosts_and_of_no_others(
    collector: RunningCollector, agent: RunningAgent, data: Path, tmp_path: Path
) -> None:
    slow = 'modules = { include = ["slow"] }'
    agent.module("slow", data, before=[["sleep", "60"]], timeout=90)
    collector.host("web1", agent, slow)
    with RunningAgent(tmp_path / "second") as second, collector.start():
        second.module("slow", data, before=[["sleep", "60"]], timeout=90)
        collector.host("web2", second, slow)
        collector.send(signal.SIGHUP)
        with collector.catalog() as catalog:
            until(lambda: len(catalog.runs(open_only=True)) == 2)
            (collector.base / "hosts.d" / "web2.toml").unlink()
            collector.send(signal.SIGHUP)
            until(lambda: collector.events("pull cancelled", host="web2"))
            until(lambda: collector.events("configuration reloaded", removed=1, same=1))
            until(lambda: [run.host for run in catalog.runs(open_only=True)] == ["web1"])


def test_sigterm_ends_a_running_pull_and_leaves_nothing_behind(
    collector: RunningCollector, agent: RunningAgent, data: Path
) -> None:
    agent.module("slow", data, before=[["sleep", "60"]], timeout=90)
    with collector.start():
        with collector.catalog() as catalog:
            until(lambda: [run for run in catalog.runs(open_only=True) if run.module == "slow"])
        assert collector.process is not None
        pid = collector.process.pid
        assert collector.stop() == 0
        assert descendants(pid) == []
    with collector.catalog() as catalog:
        assert [run.outcome for run in catalog.runs("web1", "slow")] == ["cancelled"]
        assert catalog.daemon() is None
    assert list((collector.base / "store" / "incoming").iterdir()) == []
    assert "Traceback" not in collector.log


def test_after_sigkill_the_next_start_tidies_up_and_goes_on(
    collector: RunningCollector, agent: RunningAgent, data: Path
) -> None:
    go = data.parent / "go"
    agent.module("slow", data, before=[["sh", "-c", f"until test -e {go}; do sleep 0.1; done"]])
    with collector.start():
        with collector.catalog() as catalog:
            until(lambda: [run for run in catalog.runs(open_only=True) if run.module == "slow"])
        collector.stop(signal.SIGKILL)
    go.touch()
    with collector.start():
        assert len(collector.events("run was interrupted")) == 1
        until(lambda: collector.snapshots("web1", "slow"))


def test_a_second_collector_is_refused_with_the_name_of_the_first(collector: RunningCollector) -> None:
    with collector.start():
        second = RunningCollector.__new__(RunningCollector)
        second.__dict__ |= collector.__dict__ | {"process": None, "log_file": collector.base / "second.log"}
        with second.start(ready=False):
            assert second.process is not None
            assert second.process.wait(60) != 0
        assert collector.process is not None
        assert f"process {collector.process.pid}" in second.log
        assert "StoreBusy" in second.log


def test_a_store_that_goes_away_stops_pulls_until_it_is_back(collector: RunningCollector, data: Path) -> None:
    with collector.start():
        # Not when the store has the snapshot: the pull has more to do then.
        until(lambda: collector.events("pull ended", module="data"))
        store, away = collector.base / "store", collector.base / "away"
        store.rename(away)
        (data / "a").write_text("changed\n")
        until(lambda: collector.events("pull failed", error="StoreMissing"))
        away.rename(store)
        with collector.catalog() as catalog:
            catalog.request("web1", "data")
        until(lambda: len(collector.snapshots("web1", "data")) == 2)
        assert collector.process is not None
        assert collector.process.poll() is None


def test_what_was_transferred_before_sigterm_is_not_transferred_again(
    collector: RunningCollector, agent: RunningAgent, data: Path
) -> None:
    for number in range(60):
        (data / f"large{number:02}").write_bytes(os.urandom(100_000))
    collector.settings(QUICK + "[limits]\nbatch_files = 5\n")
    collector.host("web1", agent, OWN + '\nbwlimit = "300K"')
    with collector.start():
        assert collector.process is not None
        pid = collector.process.pid
        with collector.catalog() as catalog:
            until(lambda: catalog.space().objects >= 10)
            below = descendants(pid)
            assert collector.stop() == 0
            assert [command(child) for child in below if command(child)] == []
            kept = catalog.space().objects
            assert 10 <= kept < 62
            assert [run.outcome for run in catalog.runs("web1", "data")] == ["cancelled"]
    assert collector.snapshots("web1", "data") == []
    assert list((collector.base / "store" / "incoming").iterdir()) == []
    collector.host("web1", agent, OWN)
    with collector.start():
        (ended,) = until(lambda: collector.events("pull ended", module="data"))
        assert ended["outcome"] == "complete"
        assert ended["sent_files"] <= 62 - kept


def test_a_locked_catalog_is_told_once_and_the_daemon_goes_on(collector: RunningCollector, data: Path) -> None:
    with collector.start():
        # Not when the store has the snapshot: the catalog is written after that.
        until(lambda: collector.events("pull ended", module="data"))
        with contextlib.closing(connected(collector)) as other:
            other.execute("BEGIN IMMEDIATE")
            (data / "a").write_text("changed\n")
            until(lambda: any("CatalogLocked" in line for line in collector.log.splitlines()))
            other.execute("ROLLBACK")
        with collector.catalog() as catalog:
            catalog.request("web1", "data")
        until(lambda: len(collector.snapshots("web1", "data")) == 2)
    assert "Traceback" not in collector.log


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system of a given size")
def test_a_full_store_fails_the_pull_and_space_is_used_when_it_is_there(
    collector: RunningCollector, data: Path
) -> None:
    (data / "large").write_bytes(os.urandom(12 << 20))
    objects = collector.base / "store"
    shutil.move(objects, collector.base / "kept")
    objects.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", objects], check=True)
    try:
        shutil.copytree(collector.base / "kept", objects, dirs_exist_ok=True)
        with collector.start():
            until(lambda: collector.events("pull failed", error="StoreFull"))
            assert collector.snapshots("web1", "data") == []
            subprocess.run(["mount", "-o", "remount,size=256m", objects], check=True)
            # Unless it was tried again before.
            assert ask(collector, "web1", "data").result["modules"]["data"]["outcome"] in ("complete", "unchanged")
            assert len(collector.snapshots("web1", "data")) == 1
    finally:
        subprocess.run(["umount", "-l", objects], check=True)


def test_a_module_that_is_larger_than_allowed_is_not_transferred(collector: RunningCollector, data: Path) -> None:
    (data / "large").write_bytes(bytes(4096))
    collector.settings(QUICK + '[limits]\nmax_module_size = "4K"\n')
    with collector.start():
        failed, *_ = until(lambda: collector.events("pull failed"))
        assert failed["cause"] == "web1/data: more than 4096 bytes to transfer"
        assert collector.snapshots("web1", "data") == []


def test_systemd_hears_how_it_does(collector: RunningCollector, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        # The socket takes ten, as long as nobody listens.
        collector.environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "4000000"}
        with collector.start():
            heard = set[bytes]()
            while b"WATCHDOG=1" not in heard:
                heard.add(manager.recv(200))
            assert b"READY=1" in heard
            collector.send(signal.SIGHUP)
            while not any(line.startswith(b"RELOADING=1\nMONOTONIC_USEC=") for line in heard):
                heard.add(manager.recv(200))
            while manager.recv(200) != b"READY=1":
                pass
            collector.send(signal.SIGTERM)
            while manager.recv(200) != b"STOPPING=1":
                pass
            assert collector.process is not None
            assert collector.process.wait(60) == 0
