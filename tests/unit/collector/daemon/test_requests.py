"""Requests of commands, from the row to the result, against a real catalog."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.daemon.requests import Desk
from pyrsyncbackup_collector.daemon.work import Ended
from pyrsyncbackup_collector.discovery import Discovery
from pyrsyncbackup_collector.errors import CommitOverdue, HostUnreachable, TransferFailed
from pyrsyncbackup_collector.fleet import Fleet, Host, Ssh
from pyrsyncbackup_collector.transport.offer import ModuleOffer, ModuleState

SSH = Ssh("u", 22, Path("k"))
FLEET = Fleet(
    (
        Host("web1", "web1", "direct", SSH, 9737, exclude=("www",)),
        Host("off", "off", "direct", SSH, 9737, enabled=False),
    )
)
OFFERS = Discovery(
    (
        ModuleOffer("broken", "", ModuleState.INVALID, "line 3"),
        ModuleOffer("etc", "", ModuleState.READY, ""),
        ModuleOffer("mysql", "", ModuleState.ABSENT, "no /etc/mysql"),
        ModuleOffer("nginx", "", ModuleState.READY, ""),
    )
)


class Board:
    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def request_check(self, host: str) -> None:
        self.asked.append(("check", host))

    def request_pull(self, host: str, module: str) -> None:
        self.asked.append(("pull", host, module))

    def withdraw(self, host: str, module: str) -> None:
        self.asked.append(("withdraw", host, module))


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.create(tmp_path / "catalog.sqlite", "store") as made:
        yield made


class Desks:
    def __init__(self, catalog: Catalog) -> None:
        self.catalog, self.board, self.stopped = catalog, Board(), list[str]()
        self.desk = Desk(catalog, self.board, self.stopped.append)

    def ask(self, host: str, module: str = "") -> int:
        number = self.catalog.request(host, module)
        self.desk.poll(FLEET)
        return number

    def result(self, number: int) -> Any:
        view = self.catalog.request_view(number)
        assert view is not None
        return view.result if view.done else None


@pytest.fixture
def desks(catalog: Catalog) -> Desks:
    return Desks(catalog)


def test_a_check_that_was_asked_for_comes_at_once_and_nobody_waits_for_it(desks: Desks) -> None:
    number = desks.catalog.request("web1", kind="check")
    assert desks.desk.poll(FLEET)
    assert desks.board.asked == [("check", "web1")]
    assert desks.result(number) == {}
    assert not desks.desk.poll(FLEET)
    desks.catalog.request_cancel(desks.catalog.request("web1", kind="check"))
    assert not desks.desk.poll(FLEET)
    assert desks.board.asked == [("check", "web1")]


def test_a_request_for_a_module_is_followed_to_its_result(desks: Desks) -> None:
    number = desks.ask("web1", "etc")
    desks.desk.checked("web1", OFFERS)
    assert desks.board.asked == [("check", "web1"), ("pull", "web1", "etc")]
    desks.desk.pull_begun("web1", "etc", "run1")
    view = desks.catalog.request_view(number)
    assert view is not None
    assert view.runs == ("run1",)
    assert desks.result(number) is None
    desks.desk.pull_ended("web1", "etc", Ended("run1", "complete"))
    assert desks.result(number) == {"modules": {"etc": {"run": "run1", "outcome": "complete"}}, "error": None}


def test_who_waits_for_a_pull_that_hangs_is_told_and_so_is_who_asks_meanwhile(desks: Desks) -> None:
    first = desks.ask("web1", "etc")
    desks.desk.checked("web1", OFFERS)
    desks.desk.pull_begun("web1", "etc", "run1")
    # Asked for while it runs: for the one after it.
    second = desks.ask("web1")
    desks.desk.checked("web1", OFFERS)
    error = CommitOverdue("the commit did not end", "look at the disk")
    desks.desk.pull_given_up("web1", "etc", error)
    hangs = {"type": "CommitOverdue", "cause": "the commit did not end", "hint": "look at the disk"}
    told = {"run": "run1", "outcome": "failed", "error": hangs}
    assert desks.result(first) == {"modules": {"etc": told}, "error": None}
    assert desks.result(second) is None
    desks.desk.pull_begun("web1", "nginx", "run2")
    desks.desk.pull_ended("web1", "nginx", Ended("run2", "complete"))
    assert desks.result(second)["modules"]["etc"] == told | {"run": ""}
    third = desks.ask("web1", "etc")
    desks.desk.checked("web1", OFFERS)
    assert desks.result(third)["modules"]["etc"]["error"] == hangs
    # It ends after all: the next one is pulled.
    desks.desk.pull_ended("web1", "etc", Ended("run1", "complete"))
    fourth = desks.ask("web1", "etc")
    desks.board.asked.clear()
    desks.desk.checked("web1", OFFERS)
    assert desks.board.asked == [("pull", "web1", "etc")]
    assert desks.result(fourth) is None


def test_a_request_for_a_host_waits_for_all_its_ready_modules(desks: Desks) -> None:
    number = desks.ask("web1")
    desks.desk.checked("web1", OFFERS)
    for module in ("etc", "nginx"):
        assert desks.result(number) is None
        desks.desk.pull_begun("web1", module, f"run-{module}")
        error = TransferFailed("cut") if module == "nginx" else None
        desks.desk.pull_ended("web1", module, Ended(f"run-{module}", "failed" if error else "unchanged", error=error))
    failure = {"type": "TransferFailed", "cause": "cut", "hint": ""}
    assert desks.result(number) == {
        "modules": {
            "etc": {"run": "run-etc", "outcome": "unchanged"},
            "nginx": {"run": "run-nginx", "outcome": "failed", "error": failure},
        },
        "error": None,
    }


@pytest.mark.parametrize(
    ("host", "module", "error"),
    [
        (
            "web9",
            "",
            (
                "NotFound",
                "the daemon does not know web9: it was defined after it read its configuration",
                f"`systemctl reload pyrsyncbackup`, or kill -HUP {os.getpid()}",
            ),
        ),
        ("off", "", ("BackupError", "off is disabled", "set enabled = true in its definition")),
        (
            "web1",
            "www",
            ("BackupError", "web1/www is left out by the host's definition", "see its modules.include and exclude"),
        ),
        ("web1", "etcc", ("ModuleUnknown", "web1 has no module etcc", "did you mean etc? it has etc, nginx")),
        (
            "web1",
            "mysql",
            ("ModuleNotReady", "web1/mysql is absent: no /etc/mysql", "`pyrsyncbackup modules web1` shows more"),
        ),
        ("web1", "broken", ("ModuleNotReady", "web1/broken is invalid: line 3", "correct its definition on the host")),
    ],
)  # fmt: skip
def test_what_cannot_be_pulled_is_refused_with_the_reason(
    desks: Desks, host: str, module: str, error: tuple[str, str, str]
) -> None:
    number = desks.ask(host, module)
    desks.desk.checked(host, OFFERS)
    assert desks.result(number) == {"modules": {}, "error": dict(zip(("type", "cause", "hint"), error, strict=True))}


def test_a_host_that_does_not_answer_fails_the_request(desks: Desks) -> None:
    number = desks.ask("web1", "etc")
    desks.desk.check_failed("web1", HostUnreachable("web1: connection refused", "start it"))
    assert desks.result(number)["error"]["cause"] == "web1: connection refused"


def test_two_requests_for_one_module_share_a_pull_that_began_after_both(desks: Desks) -> None:
    first = desks.ask("web1", "etc")
    desks.desk.checked("web1", OFFERS)
    desks.desk.pull_begun("web1", "etc", "run1")
    second, third = desks.ask("web1", "etc"), desks.ask("web1", "etc")
    desks.desk.checked("web1", OFFERS)
    desks.desk.pull_ended("web1", "etc", Ended("run1", "complete"))
    assert desks.result(first)
    assert not desks.result(second)
    desks.desk.pull_begun("web1", "etc", "run2")
    desks.desk.pull_ended("web1", "etc", Ended("run2", "unchanged"))
    assert desks.result(second) == desks.result(third)


def test_a_withdrawn_request_stops_its_pull_and_what_still_waits(desks: Desks) -> None:
    number = desks.ask("web1")
    desks.desk.checked("web1", OFFERS)
    desks.desk.pull_begun("web1", "etc", "run1")
    desks.catalog.request_cancel(number)
    desks.desk.poll(FLEET)
    assert desks.stopped == ["run1"]
    assert ("withdraw", "web1", "nginx") in desks.board.asked
    assert desks.result(number)["error"]["type"] == "Cancelled"


def test_a_pull_that_could_not_begin_is_a_result_too(desks: Desks) -> None:
    number = desks.ask("web1", "etc")
    desks.desk.checked("web1", OFFERS)
    desks.desk.pull_lost("web1", "etc", TransferFailed("no"))
    assert desks.result(number)["modules"]["etc"]["outcome"] == "failed"
