from pathlib import Path

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.views import Failure, Health, HostView, ModuleView
from pyrsyncbackup_collector.cli.verdict import State, Verdict, judge_chore, judge_host, judge_module
from pyrsyncbackup_collector.config import Policy
from pyrsyncbackup_collector.errors import BackupError, NotFound, StoreFull
from pyrsyncbackup_collector.fleet.hosts import Host, Ssh
from pyrsyncbackup_collector.transport.offer import Hints, Validator

from tests.support.still_clock import StillClock

NOW = 1_800_000_000.0
HOUR, DAY = 3600.0, 86400.0


def health(outcome, failing_since=None, error_type="", cause=""):
    failure = Failure(error_type, cause, "", True) if outcome == "failed" else None
    return Health(outcome, failing_since, 0, failure, None)


def checked(outcome="unchanged", **changes):
    return HostView("web1", {}, NOW - 30 * DAY, NOW - 60, NOW - 60, health(outcome, **changes))


def row(name="nginx", outcome="complete", failing_since=None, **changes):
    fields = {
        "host": "web1",
        "name": name,
        "title": "",
        "state": "ready",
        "reason": "",
        "paths": (),
        "includes": (),
        "excludes": (),
        "hints": Hints(),
        "validator": Validator(),
        "has_hooks": False,
        "first_seen": NOW - 30 * DAY,
        "last_seen": NOW - 60,
        "last_run": "",
        "last_pull": NOW - HOUR,
        "last_good": NOW - HOUR,
        "last_listed": NOW - HOUR,
        "running": "",
        "snapshots": 1,
        "newest": None,
        "health": health(outcome, failing_since),
    }
    return ModuleView(**{**fields, **changes})


def host(**changes):
    return Host("web1", "web1", "direct", Ssh("u", 22, Path("/k")), 9737, **changes)


POLICY = Policy(pull=DAY)


@pytest.mark.parametrize(
    ("module", "state"),
    [
        (row(), State.OK),
        (row(outcome="unchanged"), State.OK),
        (row(last_good=NOW - 1.4 * DAY), State.OK),
        (row(last_good=NOW - 1.6 * DAY), State.LATE),
        (row(outcome="partial"), State.PARTIAL),
        (row(outcome="failed", failing_since=NOW - HOUR), State.FAILING),
        (row(outcome="failed", last_good=NOW - 9 * DAY), State.FAILING),
        (row(state="absent", reason="no such path"), State.ABSENT),
        (row(state="invalid"), State.INVALID),
        (row(state="gone"), State.GONE),
        (row(outcome="", last_pull=None, last_good=None, first_seen=NOW - HOUR), State.PENDING),
        (row(outcome="", last_pull=None, last_good=None, first_seen=NOW - 2 * DAY), State.LATE),
    ],
)
def test_a_module_is_judged_by_its_last_run_and_by_what_the_policy_asks(module, state):
    assert judge_module(host(), module, POLICY, NOW).state is state


def test_what_the_configuration_leaves_out_is_off_whatever_happened():
    broken = row(outcome="failed")
    assert judge_module(host(exclude=("nginx",)), broken, POLICY, NOW).state is State.OFF
    assert judge_module(host(), broken, Policy(enabled=False), NOW).state is State.OFF
    assert judge_module(host(enabled=False), broken, POLICY, NOW).state is State.OFF


def test_lateness_counts_from_when_the_next_pull_was_due():
    verdict = judge_module(host(), row(last_good=NOW - 3 * DAY), POLICY, NOW)
    assert verdict.since == NOW - 2 * DAY


@pytest.mark.parametrize(
    ("error_type", "state"),
    [
        ("HostUnreachable", State.UNREACHABLE),
        ("AgentKeyChanged", State.UNREACHABLE),
        ("AgentBusy", State.FAILING),
        ("NoSuchClassAnyMore", State.FAILING),
    ],
)
def test_a_failed_check_is_told_by_its_kind(error_type, state):
    whole = checked("failed", error_type=error_type, cause="why", failing_since=NOW - HOUR)
    judged = judge_host(host(), whole, [row(last_good=NOW - 9 * DAY)], lambda _: POLICY, NOW)
    assert judged.host.state is state
    assert judged.host.since == NOW - HOUR
    assert [problem.name for problem in judged.problems] == ["web1"]


def test_problems_of_modules_come_the_worst_first():
    rows = [row("a", last_good=NOW - 9 * DAY), row("b", outcome="failed"), row("c"), row("d", outcome="partial")]
    judged = judge_host(host(), checked(), rows, lambda _: POLICY, NOW)
    assert [problem.name for problem in judged.problems] == ["web1/b", "web1/a", "web1/d"]
    assert judged.worst is State.FAILING


def test_a_host_that_was_never_checked_is_pending_and_no_problem():
    judged = judge_host(host(), None, [], lambda _: POLICY, NOW)
    assert judged.worst is State.PENDING
    assert judged.problems == []


@pytest.mark.parametrize(
    ("outcome", "failure", "counters", "state", "cause"),
    [
        ("complete", None, {}, State.OK, ""),
        ("partial", None, {"problems": 1}, State.PARTIAL, "1 problem was found"),
        ("partial", None, {"problems": 3}, State.PARTIAL, "3 problems were found"),
        ("failed", Failure("StoreFull", "no space", "make room", True), {}, State.FAILING, "no space"),
    ],
)
def test_a_chore_is_judged_by_its_last_run(tmp_path: Path, outcome, failure, counters, state, cause) -> None:
    clock = StillClock()
    with Catalog.create(tmp_path / "catalog.sqlite", "store", clock=clock) as catalog:
        older = catalog.run_begin("", "", kind="gc")
        catalog.run_end(older, "failed", error=BackupError("long ago"))
        error = StoreFull(failure.cause, failure.hint) if failure else None
        run = catalog.run_begin("", "", kind="gc")
        catalog.run_end(run, outcome, error=error, counters=counters)
        withdrawn = catalog.run_begin("", "", kind="gc")
        catalog.run_end(withdrawn, "cancelled")
        # A host that was mistyped on the command line is no fault of the chore.
        mistyped = catalog.run_begin("", "", kind="gc")
        catalog.run_end(mistyped, "failed", error=NotFound("there is no snapshot of web9"))
        catalog.run_begin("", "", kind="gc")
        (last,) = catalog.fleet().chores
    verdict = judge_chore(last)
    assert (verdict.name, verdict.state, verdict.cause) == ("gc", state, cause)
    expected = {
        State.OK: "",
        State.FAILING: "make room",
        State.PARTIAL: "`pyrsyncbackup gc` tries it again, and tells more",
    }
    assert verdict.hint == expected[state]
    assert (verdict.last_good == clock.now()) == (state is State.OK)


@pytest.mark.parametrize(
    ("counters", "state", "cause"),
    [
        # What came of each is told with its module.
        ({"held": 3, "not_held": 0, "problems": 2}, State.OK, ""),
        ({"held": 3, "not_held": 1, "problems": 2}, State.PARTIAL, "1 problem was found"),
    ],
)
def test_a_bad_drill_is_told_with_its_module_alone(
    tmp_path: Path, counters: dict[str, int], state: State, cause: str
) -> None:
    with Catalog.create(tmp_path / "catalog.sqlite", "store", clock=StillClock()) as catalog:
        run = catalog.run_begin("", "", kind="drill")
        catalog.run_end(run, "partial", counters=counters)
        (last,) = catalog.fleet().chores
    verdict = judge_chore(last)
    assert (verdict.state, verdict.cause) == (state, cause)
    assert (verdict.last_good is not None) == (state is State.OK)


def test_what_was_found_of_a_module_otherwise_counts_where_it_is_worse():
    judged = judge_host(host(), checked(), [row("etc"), row("nginx", outcome="partial")], lambda _: POLICY, NOW)
    rejected = Verdict(State.REJECTED, "web1", "etc", NOW - 5, "no good", "look")
    damaged = Verdict(State.DAMAGED, "web1", "etc", NOW - 9, "rotten", "verify")
    others = [
        Verdict(State.REJECTED, "web1", "nginx"),
        Verdict(State.DAMAGED, "web2", "nginx"),
        Verdict(State.FAILING, "gc"),
    ]
    found = judged.with_found([rejected, damaged, *others])
    assert [(each.module, each.state) for each in found.modules] == [("etc", State.DAMAGED), ("nginx", State.PARTIAL)]
    assert (found.modules[0].since, found.modules[0].cause, found.modules[0].hint) == (NOW - 9, "rotten", "verify")
    assert found.modules[0].last_good == judged.modules[0].last_good
    assert found.worst is State.DAMAGED
