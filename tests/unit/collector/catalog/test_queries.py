"""What the catalog answers."""

from __future__ import annotations

from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.views import Failure, SpaceView
from pyrsyncbackup_collector.errors import HostUnreachable, TransferFailed
from pyrsyncbackup_collector.pull.ledger import ModuleMemory
from pyrsyncbackup_collector.transport.offer import AgentInfo, Hints, ModuleOffer, ModuleState, Root

from tests.support.snapshots import change, digest, memory, snapshot, stored
from tests.support.still_clock import StillClock


def offer(name: str, state: ModuleState = ModuleState.READY) -> ModuleOffer:
    roots = (Root(1, b"etc/" + name.encode() + b"\xff"),)
    return ModuleOffer(name, name.title(), state, "why", roots, ("*.tmp",), (), Hints(pull="1d", keep={"last": 3}))


INFO = AgentInfo("web1", "0.1.0", "Debian", "6.1", "id", "3.5.0", 1, 1, False, b"proof")


def test_an_empty_catalog_answers(catalog: Catalog) -> None:
    fleet = catalog.fleet()
    assert (fleet.hosts, fleet.modules, fleet.running, fleet.daemon) == ((), (), (), None)
    assert catalog.host("x") is None
    assert catalog.run("x") is None
    assert catalog.request_view(1) is None
    assert catalog.snapshots() == catalog.runs() == []
    assert catalog.space() == SpaceView(0, 0, 0, 0)


def test_the_fleet_shows_what_is_well_what_fails_and_since_when(catalog: Catalog, clock: StillClock) -> None:
    start = clock.time
    catalog.seen("web1", [offer("etc"), offer("nginx", ModuleState.ABSENT)], INFO)
    catalog.check_done("web1", begin=start)
    catalog.commit(catalog.run_begin("web1", "etc"), snapshot(1, module="etc"), [change(b"etc")], memory(1))
    run = catalog.runs(kind="pull")[0].id
    catalog.run_end(run, "complete", sequence=1)
    clock.time += 100
    catalog.check_done("web2", begin=clock.time, error=HostUnreachable("web2 is off", "switch it on"), next_try=7.0)
    open_run = catalog.run_begin("web1", "etc", trigger="schedule")
    catalog.run_progress(open_run, phase="transfer", files_done=1, files_total=5)
    catalog.heartbeat(1, "landlock")

    fleet = catalog.fleet()
    web1, web2 = fleet.hosts
    assert (web1.name, web1.agent["version"], web1.last_seen, web1.health.failure) == ("web1", "0.1.0", start, None)
    assert (web2.name, web2.last_seen, web2.health.failing_since, web2.health.next_try) == (
        "web2",
        None,
        clock.time,
        7.0,
    )
    assert web2.health.failure == Failure("HostUnreachable", "web2 is off", "switch it on", True)
    etc, nginx = fleet.modules
    assert (etc.name, etc.state, etc.last_good, etc.last_run, etc.running) == ("etc", "ready", start, run, open_run)
    assert (etc.newest, etc.snapshots, etc.health.outcome) == (snapshot(1, module="etc"), 1, "complete")
    assert (etc.paths, etc.hints, etc.excludes) == ((b"etc/etc\xff",), Hints(None, "1d", {"last": 3}), ("*.tmp",))
    assert (nginx.state, nginx.reason, nginx.newest, nginx.snapshots) == ("absent", "why", None, 0)
    assert [(run.id, run.phase, run.files_total) for run in fleet.running] == [(open_run, "transfer", 5)]
    assert fleet.daemon is not None
    assert fleet.daemon.sandbox == "landlock"


def test_modules_are_listed_by_host_or_alone(catalog: Catalog) -> None:
    catalog.seen("web1", [offer("etc"), offer("nginx")])
    catalog.seen("web2", [offer("etc")])
    assert [(view.host, view.name) for view in catalog.modules("web1")] == [("web1", "etc"), ("web1", "nginx")]
    assert [(view.host, view.name) for view in catalog.modules(module="etc")] == [("web1", "etc"), ("web2", "etc")]
    assert catalog.modules("web2", "nginx") == []


def test_snapshots_come_oldest_first(catalog: Catalog) -> None:
    for sequence in (1, 2):
        catalog.commit("r", snapshot(sequence), [], memory(sequence))
    catalog.commit("r", snapshot(1, "web0"), [], memory(1))
    assert catalog.snapshots() == [snapshot(1, "web0"), snapshot(1), snapshot(2)]
    assert catalog.snapshots("web1", "nginx") == [snapshot(1), snapshot(2)]


def test_fingerprints_are_those_that_were_settled(catalog: Catalog) -> None:
    catalog.remember("web1", "etc", ModuleMemory(1, b"", b"f"))
    catalog.remember("web1", "nginx", ModuleMemory(1, b"", b""))
    assert catalog.fingerprints("web1") == {"etc": b"f"}


def test_the_history_of_a_path_is_its_versions(catalog: Catalog) -> None:
    catalog.commit("r", snapshot(1), [change(b"etc/a", "1"), change(b"etc/b", "1")], memory(1))
    catalog.commit("r", snapshot(2), [change(b"etc/b", None)], memory(2))
    catalog.commit("r", snapshot(3), [change(b"etc/a", "22"), change(b"etc/b", "333")], memory(3))
    found = catalog.path_history("web1", "nginx", b"etc/b")
    assert [(one.first.sequence, one.end and one.end.sequence, one.state.size, one.sha256) for one in found] == [
        (1, 2, 1, digest("1")),
        (3, None, 3, digest("333")),
    ]
    assert catalog.path_history("web1", "nginx", b"none") == []


def test_a_run_tells_how_it_went(catalog: Catalog, clock: StillClock) -> None:
    run = catalog.run_begin("web1", "etc", trigger="command")
    clock.time += 3
    error = TransferFailed("gone", "again")
    catalog.run_end(
        run, "failed", error=error, rsync_code=12, rsync_tail="x", counters={"a": 1}, problems=[(b"p", "q")]
    )
    view = catalog.run(run)
    assert view is not None
    assert (view.end, view.failure) == (clock.time, Failure("TransferFailed", "gone", "again", True))
    assert (view.rsync_code, view.counters, view.problems) == (12, {"a": 1}, 1)
    assert catalog.run_paths(run) == [(b"p", "q")]
    assert catalog.runs("web1", "etc", kind="pull") == [view]
    assert catalog.runs(kind="check") == catalog.runs(open_only=True) == []


def test_open_requests_are_offered_oldest_first(catalog: Catalog) -> None:
    first = catalog.request("web1", "etc", {"full": True})
    second = catalog.request("web2")
    catalog.request_take(first)
    assert [(one.id, one.module, one.taken is None) for one in catalog.requests()] == [
        (first, "etc", False),
        (second, "", True),
    ]
    catalog.request_runs(first, ["r1", "r2"])
    catalog.request_done(first, {"ok": 1})
    view = catalog.request_view(first)
    assert view is not None
    assert (view.options, view.runs, view.result) == ({"full": True}, ("r1", "r2"), {"ok": 1})
    assert [one.id for one in catalog.requests()] == [second]


def test_space_sums_contents_once(catalog: Catalog) -> None:
    catalog.record_objects("p", "web1", [stored("12"), stored("1234")])
    catalog.record_objects("p", "web2", [stored("12")])
    catalog.commit("r", snapshot(1), [], memory(1))
    assert catalog.space() == SpaceView(objects=2, size=6, stored_size=3, snapshots=1)
