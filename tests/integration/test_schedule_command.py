"""`schedule` as an administrator calls it, on a catalog that pulls filled."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pyrsyncbackup_collector.errors import HostUnreachable
from pyrsyncbackup_collector.transport.offer import ModuleOffer, ModuleState

from tests.support.commands import Said, say
from tests.support.estate import Content, Estate

CONFIGURATION = """
store = "store"
catalog = "catalog.sqlite"

[policy]
zone = "Asia/Tokyo"

[[rule]]
modules = "daily"
pull = "daily at 02:30"

[[rule]]
modules = "night"
pull = "1h30m"
windows = ["2199-01-01..2199-01-02"]

[[rule]]
modules = "off"
enabled = false

[[rule]]
modules = "never"
windows = ["2001-01-01"]

[[host]]
name = "web1"
modules = { exclude = ["docker"] }

[[host]]
name = "down"
"""
MODULES = ("daily", "etc", "never", "new", "night", "off", "docker")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "collector.toml").write_text(CONFIGURATION)
    estate = Estate(tmp_path)
    offers = [ModuleOffer(name, name, ModuleState.READY, "") for name in MODULES]
    estate.catalog.seen("web1", offers)
    for name in MODULES:
        if name != "new":
            estate.pull("web1", name, {b"a": Content(b"a")})
    estate.catalog.seen("down", [offers[1]])
    error = HostUnreachable("down: no route to \x1b[31mhost", "plug it in")
    estate.catalog.check_done("down", begin=4e9, error=error, next_try=4e9)
    yield tmp_path / "collector.toml"
    estate.close()


def reasons(said: Said) -> dict[str, tuple[str, str]]:
    assert said.code == 0, said.err
    return {f"{m['host']}/{m['module']}": (m["next"][0]["why"], m["next"][0]["reason"]) for m in said.answer["modules"]}


def test_each_module_is_told_with_what_decides_its_next_pull(file: Path) -> None:
    assert reasons(say(file, "schedule", "--json")) == {
        "down/etc": ("backoff", "waits after a failure: down: no route to \x1b[31mhost"),
        "web1/daily": ("calendar", "daily at 02:30 (Asia/Tokyo)"),
        "web1/etc": ("interval", "every 1d"),
        "web1/never": ("closed", "no window is ever open"),
        "web1/new": ("new", "it was not pulled yet"),
        "web1/night": ("window", "every 1h30m; waits for a window: 2199-01-01..2199-01-02 (Asia/Tokyo)"),
        "web1/off": ("disabled", "enabled = false in its policy"),
    }


def test_more_moments_are_told_when_asked_for(file: Path) -> None:
    (module,) = say(file, "schedule", "web1/daily", "--next", "3", "--json").answer["modules"]
    zone = ZoneInfo("Asia/Tokyo")
    moments = [datetime.fromisoformat(one["at"]).astimezone(zone) for one in module["next"]]
    assert [f"{moment:%H:%M}" for moment in moments] == ["02:30"] * 3
    assert len({moment.date() for moment in moments}) == 3


def test_a_table_shows_the_soonest_first_and_no_control_characters(file: Path) -> None:
    said = say(file, "schedule")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].split() == ["MODULE", "NEXT", "PULL", "IN", "WHY"]
    assert lines[1].startswith("web1/new ")
    assert lines[1].split()[3:] == ["now", "it", "was", "not", "pulled", "yet"]
    assert "\x1b" not in said.out
    assert lines[-2].startswith("moments are of this machine's clock (")
    assert lines[-1] == "daemon: does not run; nothing is pulled by schedule"


def test_what_does_not_exist_is_refused(file: Path) -> None:
    said = say(file, "schedule", "web1/nginx")
    assert said.code == 4
    shown = "`pyrsyncbackup modules web1 --all` shows what it has, and what not"
    assert said.err == f"error: web1 has no module nginx\n  next: {shown}\n"
