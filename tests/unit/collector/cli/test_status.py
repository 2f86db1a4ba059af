"""`status` as an administrator or a monitoring system asks it, on a real store and catalog."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.errors import BackupError, HostUnreachable

from tests.support.estate import Content, Estate

CONFIG = """
store = "store"
catalog = "catalog.sqlite"
"""
HOST = """
[[host]]
name = "web1"
"""

Say = Callable[..., tuple[int, str, str]]
OnCatalog = Callable[[Callable[[Catalog], None]], None]


@pytest.fixture
def say(tmp_path: Path, command: Say) -> Say:
    """A store with one module, pulled now, of one configured host."""
    estate = Estate(tmp_path)
    estate.pull("web1", "etc", {b"etc/hosts": Content(b"127.0.0.1")}, time=time.time())
    estate.catalog.check_done("web1", begin=time.time())
    estate.close()
    (tmp_path / "collector.toml").write_text(CONFIG + HOST)
    return command


@pytest.fixture
def recorded(say: Say, tmp_path: Path) -> OnCatalog:
    """Write into the catalog, as a daemon does."""
    store_id = json.loads((tmp_path / "store/format.json").read_text())["id"]

    def write(what: Callable[[Catalog], None]) -> None:
        with Catalog.open(tmp_path / "catalog.sqlite", store_id) as catalog:
            what(catalog)

    return write


def told(say: Say) -> tuple[int, list[Any]]:
    code, out, _ = say("status", "--json")
    return code, json.loads(out)["problems"]


def test_that_no_daemon_ever_ran_is_the_first_problem(say: Say) -> None:
    code, out, _ = say("status")
    assert code == 14
    first, cause, *_ = out.splitlines()
    assert first == "stopped daemon"
    assert cause == "  no daemon ran here yet, so nothing is checked, pulled or pruned by schedule"
    assert "next: `systemctl start pyrsyncbackup`, or `pyrsyncbackup daemon`" in out
    assert "1 host, 1 module: 1 problem" in out
    assert "all is well" not in out
    code, (problem,) = told(say)
    assert code == 14
    assert (problem["host"], problem["module"], problem["state"], problem["since"]) == ("daemon", None, "stopped", None)
    assert problem["hint"]


def test_a_daemon_that_was_stopped_is_told_with_the_moment(say: Say, recorded: OnCatalog) -> None:
    recorded(lambda catalog: catalog.heartbeat(os.getpid(), "bubblewrap"))
    recorded(lambda catalog: catalog.daemon_ended(os.getpid()))
    code, (problem,) = told(say)
    assert (code, problem["state"]) == (14, "stopped")
    assert problem["since"]
    assert say("status")[1].startswith("stopped daemon since ")


def test_a_daemon_that_died_is_told_with_its_last_sign_of_life(say: Say, recorded: OnCatalog) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    recorded(lambda catalog: catalog.heartbeat(ended.pid, "bubblewrap"))
    code, (problem,) = told(say)
    assert (code, problem["state"]) == (14, "stopped")
    assert problem["since"]
    assert f"process {ended.pid} ended, or hangs" in problem["cause"]
    assert "journalctl -u pyrsyncbackup" in problem["hint"]


def test_the_worst_comes_first(say: Say, recorded: OnCatalog, tmp_path: Path) -> None:
    (tmp_path / "collector.toml").write_text(CONFIG + '[[host]]\nname = "app1"\n' + HOST)
    error = BackupError("the agent said no", "ask it")
    recorded(lambda catalog: catalog.check_done("app1", begin=time.time(), error=error))
    away = HostUnreachable("web1 does not answer", "is it on?")
    recorded(lambda catalog: catalog.check_done("web1", begin=time.time(), error=away))
    assert [each["state"] for each in told(say)[1]] == ["stopped", "unreachable", "failing"]


def test_where_the_daemon_runs_and_nothing_is_wrong_all_is_well(say: Say, recorded: OnCatalog) -> None:
    recorded(lambda catalog: catalog.heartbeat(os.getpid(), "bubblewrap"))
    code, out, _ = say("status")
    assert code == 0, out
    assert "1 host, 1 module: all is well" in out
    assert told(say) == (0, [])


def test_a_collector_without_hosts_needs_no_daemon_yet(say: Say, tmp_path: Path) -> None:
    (tmp_path / "collector.toml").write_text(CONFIG)
    code, out, _ = say("status")
    assert code == 0
    assert "no hosts are configured" in out
