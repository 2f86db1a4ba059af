"""What is written down about checks, runs and requests."""

from __future__ import annotations

import json
from typing import Any

from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.errors import BackupError, HostUnreachable, TransferFailed
from pyrsyncbackup_collector.transport.offer import Hints, ModuleOffer, ModuleState, Root

from tests.support.still_clock import StillClock


def rows(catalog: Catalog, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with catalog._database.reading() as raw:
        return raw.execute(sql, values).fetchall()


def offer(name: str, state: ModuleState = ModuleState.READY, **more: Any) -> ModuleOffer:
    return ModuleOffer(name, name.title(), state, "", **more)


def test_modules_that_are_offered_no_more_are_gone_and_come_back(catalog: Catalog, clock: StillClock) -> None:
    state = "SELECT name, state, first_seen, last_seen FROM modules ORDER BY name"
    start = clock.time
    catalog.seen("web1", [offer("etc"), offer("nginx")])
    clock.time += 60
    catalog.seen("web1", [offer("etc")])
    assert rows(catalog, state) == [("etc", "ready", start, start + 60), ("nginx", "gone", start, start)]
    clock.time += 60
    catalog.seen("web1", [offer("etc"), offer("nginx", ModuleState.INVALID)])
    assert rows(catalog, state)[1] == ("nginx", "invalid", start, start + 120)


def test_an_offer_of_nothing_makes_all_gone_on_that_host_alone(catalog: Catalog) -> None:
    catalog.seen("web1", [offer("etc")])
    catalog.seen("web2", [offer("etc")])
    catalog.seen("web1", [])
    assert rows(catalog, "SELECT state FROM modules ORDER BY host_id") == [("gone",), ("ready",)]


def test_the_definition_is_kept_with_names_that_are_not_utf8(catalog: Catalog) -> None:
    roots = (Root(1, b"etc/ng\xff"), Root(2, b"etc", frozenset({b"b", b"a"})))
    catalog.seen("web1", [offer("nginx", roots=roots, hints=Hints(check="1h", keep={"last": 3}))])
    definition = json.loads(rows(catalog, "SELECT definition FROM modules")[0][0])
    assert definition["paths"] == ["etc/ng\udcff", "etc/a", "etc/b"]
    assert definition["hints"] == {"check": "1h", "pull": None, "keep": {"last": 3}}


def test_checks_that_end_alike_share_a_row(catalog: Catalog, clock: StillClock) -> None:
    down = HostUnreachable("web1 does not answer", "is it on?")
    for error in (None, None, down, down, down, None):
        catalog.check_done("web1", begin=clock.time, error=error)
        clock.time += 900
    found = rows(catalog, "SELECT outcome, repeats, round(end - begin), error_type FROM runs ORDER BY begin")
    assert found == [
        ("unchanged", 2, 900.0, ""),
        ("failed", 3, 1800.0, "HostUnreachable"),
        ("unchanged", 1, 0.0, ""),
    ]


def test_failing_since_is_the_first_failure_until_one_works(catalog: Catalog, clock: StillClock) -> None:
    state = "SELECT failing_since, failures, cause, next_try FROM hosts"
    start = clock.time
    catalog.check_done("web1", begin=start, error=HostUnreachable("down", "x"), next_try=start + 5)
    clock.time += 10
    catalog.check_done("web1", begin=start, error=HostUnreachable("still down", "x"), next_try=start + 30)
    assert rows(catalog, state) == [(start, 2, "still down", start + 30)]
    catalog.check_done("web1", begin=start)
    assert rows(catalog, state) == [(None, 0, "", None)]


def test_an_unchanged_module_is_good_as_of_the_check(catalog: Catalog, clock: StillClock) -> None:
    run = catalog.run_begin("web1", "etc")
    catalog.run_end(run, "complete")
    clock.time += 900
    catalog.check_done("web1", begin=clock.time, unchanged=["etc"])
    assert rows(catalog, "SELECT last_good - last_listed FROM modules") == [(900.0,)]


def test_a_failed_run_is_recorded_with_its_cause_and_paths(catalog: Catalog, clock: StillClock) -> None:
    run = catalog.run_begin("web1", "etc", trigger="schedule")
    catalog.run_progress(run, phase="transfer", files_done=1, files_total=2, bytes_done=3, bytes_total=4)
    clock.time += 5
    error = TransferFailed("rsync said \udcff\x1b", "try again")
    problems = [(b"p%d" % number, "denied") for number in range(1500)]
    catalog.run_end(run, "failed", error=error, rsync_code=23, rsync_tail="tail", problems=problems, next_try=99.0)
    found = rows(catalog, "SELECT outcome, phase, error_type, cause, retryable, rsync_code, problems FROM runs")
    assert found == [("failed", "transfer", "TransferFailed", "rsync said \\udcff\x1b", 1, 23, 1500)]
    assert rows(catalog, "SELECT count(*) FROM run_paths") == [(1000,)]
    assert rows(catalog, "SELECT last_run, outcome, failures, next_try, last_good FROM modules") == [
        (run, "failed", 1, 99.0, None)
    ]


def test_a_closed_run_stays_as_it_is(catalog: Catalog) -> None:
    run = catalog.run_begin("web1", "etc")
    catalog.run_end(run, "complete", counters={"files": 3})
    catalog.run_end(run, "failed", error=BackupError("late"))
    catalog.run_progress(run, phase="late")
    assert rows(catalog, "SELECT outcome, phase, counters FROM runs") == [("complete", "", '{"files": 3}')]


def test_a_cancelled_pull_is_no_failure_of_the_module(catalog: Catalog) -> None:
    catalog.run_end(catalog.run_begin("web1", "etc"), "complete")
    catalog.run_end(catalog.run_begin("web1", "etc"), "cancelled")
    assert rows(catalog, "SELECT outcome, failures FROM modules") == [("complete", 0)]


def test_recover_closes_what_a_killed_process_left_open(catalog: Catalog) -> None:
    run = catalog.run_begin("web1", "etc")
    request = catalog.request("web1", "etc")
    assert catalog.request_take(request)
    assert catalog.recover() == [run]
    assert catalog.recover() == []
    assert rows(catalog, "SELECT outcome, cause FROM runs") == [
        ("failed", "interrupted: the collector ended while this ran")
    ]
    assert catalog.request_take(request)


def test_a_request_is_taken_once(catalog: Catalog) -> None:
    request = catalog.request("web1", "etc", {"full": True})
    assert catalog.request_take(request)
    assert not catalog.request_take(request)
    catalog.request_runs(request, ["r1"])
    catalog.request_done(request, {"outcome": "complete"})
    assert rows(catalog, "SELECT runs, result, done IS NOT NULL FROM requests") == [
        ('["r1"]', '{"outcome": "complete"}', 1)
    ]


def test_a_withdrawn_request_is_not_taken(catalog: Catalog) -> None:
    request = catalog.request("web1")
    catalog.request_cancel(request)
    assert not catalog.request_take(request)


def test_a_request_that_was_withdrawn_when_the_daemon_died_is_done(catalog: Catalog) -> None:
    withdrawn, wanted = catalog.request("web1"), catalog.request("web2")
    for request in (withdrawn, wanted):
        assert catalog.request_take(request)
    catalog.request_cancel(withdrawn)
    catalog.recover()
    assert [request.id for request in catalog.requests()] == [wanted]


def test_trim_keeps_open_runs_and_the_last_of_each_module(catalog: Catalog, clock: StillClock) -> None:
    for _ in range(2):
        catalog.run_end(catalog.run_begin("web1", "etc"), "complete", problems=[(b"x", "y")])
        clock.time += 1
    still_open = catalog.run_begin("web1", "etc")
    catalog.request_done(catalog.request("web1"), {})
    waiting = catalog.request("web1")
    last = rows(catalog, "SELECT last_run FROM modules")[0][0]
    assert catalog.trim(clock.time + 1) == 1
    assert {row[0] for row in rows(catalog, "SELECT id FROM runs")} == {last, still_open}
    assert [request.id for request in catalog.requests()] == [waiting]
    assert rows(catalog, "SELECT count(*) FROM requests") == [(1,)]


def test_the_daemon_says_that_it_lives_and_when_it_began(catalog: Catalog, clock: StillClock) -> None:
    start = clock.time
    catalog.heartbeat(11, "bubblewrap")
    clock.time += 10
    catalog.heartbeat(11, "bubblewrap", pulls=3, workers=8)
    assert rows(catalog, "SELECT * FROM daemon") == [(1, 11, start, start + 10, "bubblewrap", 3, 8)]
    catalog.daemon_ended(12)
    assert catalog.daemon_ended_at() is None
    catalog.daemon_ended(11)
    assert rows(catalog, "SELECT * FROM daemon") == []
    assert catalog.daemon_ended_at() == catalog.fleet().daemon_ended == clock.time
