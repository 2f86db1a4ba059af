"""What may begin when: limits, order, waiting after failures."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyrsyncbackup_collector.config import Policy
from pyrsyncbackup_collector.config.calendar import pull_time
from pyrsyncbackup_collector.config.model import Workers
from pyrsyncbackup_collector.config.spans import spans
from pyrsyncbackup_collector.schedule import Board, CheckJob, Job, PullJob, Slots

T0 = 1_790_000_000.0
POLICY = Policy(check=900, pull=86400)


def fixed(number: int) -> Workers:
    return Workers(min=number, max=number)


def board(*hosts: str, slots: Slots | None = None, policy: Policy = POLICY) -> Board:
    made = Board(slots or Slots(checks=32, pulls=fixed(8), per_host=1))
    made.set_hosts(dict.fromkeys(hosts, policy))
    return made


def known(made: Board, host: str, *modules: str, pulled: float | None = T0, policy: Policy = POLICY) -> None:
    made.remember(host, T0, dict.fromkeys(modules, pulled))
    made.offered(host, dict.fromkeys(modules, policy))


def test_a_new_host_is_asked_at_once_and_its_modules_are_pulled_then() -> None:
    b = board("web1")
    assert b.take(T0) == [CheckJob("web1", ())]
    b.offered("web1", {"etc": POLICY, "nginx": POLICY})
    b.check_ended(CheckJob("web1", ()), T0 + 1)
    assert b.take(T0 + 1) == [PullJob("web1", "etc", "due")]
    b.pull_ended(PullJob("web1", "etc", "due"), T0 + 2)
    assert b.take(T0 + 2) == [PullJob("web1", "nginx", "due")]


def test_a_slow_pull_is_never_started_twice_even_if_its_host_was_removed_meanwhile() -> None:
    b = board("web1")
    known(b, "web1", "etc")
    b.request_pull("web1", "etc")
    assert b.take(T0) == [PullJob("web1", "etc", "requested")]
    b.request_pull("web1", "etc")
    assert b.take(T0 + 10 * 86400) == [CheckJob("web1", None)]
    b.set_hosts({})
    b.set_hosts({"web1": POLICY})
    known(b, "web1", "etc", pulled=None)
    assert [job for job in b.take(T0 + 20 * 86400) if isinstance(job, PullJob)] == []
    b.pull_ended(PullJob("web1", "etc", "requested"), T0 + 20 * 86400)
    assert b.take(T0 + 20 * 86400) == [PullJob("web1", "etc", "due")]


def test_all_modules_of_a_host_are_checked_together() -> None:
    b = board("web1")
    known(b, "web1", "etc", "nginx")
    moment = b.next_due()
    assert T0 < moment <= T0 + 900
    assert b.take(moment - 1) == []
    assert b.take(moment) == [CheckJob("web1", None)]


def test_modules_with_an_interval_of_their_own_are_checked_by_it() -> None:
    b = board("web1")
    b.remember("web1", T0, {"etc": T0, "db": T0, "log": T0})
    b.offered("web1", {"etc": POLICY, "db": Policy(check=86400), "log": Policy(check=None)})
    jobs = b.take(b.next_due())
    assert jobs == [CheckJob("web1", ("etc",))]


def test_without_checks_a_host_is_asked_for_its_modules_at_the_pull_interval() -> None:
    policy = Policy(check=None, pull=3600)
    b = board("web1", policy=policy)
    known(b, "web1", "etc", policy=policy)
    assert T0 < b.next_due() <= T0 + 3600
    kinds = {type(job) for moment in range(0, 3700, 60) for job in b.take(T0 + moment)}
    assert kinds == {CheckJob, PullJob}


def test_what_a_check_found_changed_is_pulled_at_once() -> None:
    b = board("web1")
    known(b, "web1", "etc", "nginx")
    now = b.next_due()
    (job,) = b.take(now)
    assert isinstance(job, CheckJob)
    b.check_ended(job, now, changed=["nginx"])
    assert b.take(now) == [PullJob("web1", "nginx", "changed")]


def test_hosts_that_change_all_the_time_starve_neither_each_other_nor_what_is_due_by_time() -> None:
    """One worker, three hosts that are found changed again while it is at work, and one that is pulled by interval."""
    slow = Policy(check=None, pull=3600)
    b = board("a", "b", "c", "dump", slots=Slots(checks=32, pulls=fixed(1), per_host=1))
    for name in ("a", "b", "c"):
        known(b, name, "etc")
    known(b, "dump", "db", policy=slow)
    now = T0
    begun: Counter[str] = Counter()
    for _ in range(400):
        now += 60
        for name in ("a", "b", "c"):
            b.check_ended(CheckJob(name, None), now, changed=["etc"])
        for job in b.take(now):
            if isinstance(job, PullJob):
                begun[job.host] += 1
                b.pull_ended(job, now + 59)
    assert begun["dump"] == 400 * 60 // 3600
    assert max(begun[name] for name in "abc") - min(begun[name] for name in "abc") <= 1


def test_a_change_seen_before_the_clock_was_set_back_is_pulled_at_once() -> None:
    b = board("a")
    known(b, "a", "etc", pulled=T0 - 10)
    b.take(T0)
    b.check_ended(CheckJob("a", None), T0, changed=["etc"])
    assert PullJob("a", "etc", "changed") in b.take(T0 - 50_000)


def test_a_disabled_module_is_pulled_on_request_alone() -> None:
    b = board("web1")
    known(b, "web1", "etc", pulled=None, policy=Policy(enabled=False))
    assert [job for job in b.take(T0 + 800) if isinstance(job, PullJob)] == []
    b.request_pull("web1", "etc")
    assert PullJob("web1", "etc", "requested") in b.take(T0 + 800)


def test_a_host_that_fails_waits_longer_each_time_and_others_go_on() -> None:
    b = board("down", "web1")
    known(b, "web1", "etc", pulled=None)
    now, waits = T0, []
    for _ in range(8):
        b.take(now)
        until = b.check_ended(CheckJob("down", ()), now, failure="connection refused")
        assert until is not None
        assert CheckJob("down", ()) not in b.take(until - 1)
        waits.append(until - now)
        now = until
    assert waits == sorted(waits)
    assert waits[0] <= 30
    assert 2880 <= waits[-1] <= 3600
    assert CheckJob("down", ()) in b.take(now)


def test_a_request_does_not_wait_for_a_failing_host() -> None:
    b = board("web1")
    known(b, "web1", "etc", pulled=None)
    (job,) = (job for job in b.take(T0) if isinstance(job, PullJob))
    b.pull_ended(job, T0, failure="cut", blame="host")
    assert b.take(T0) == []
    b.request_pull("web1", "etc")
    assert b.take(T0) == [PullJob("web1", "etc", "requested")]


def test_a_store_that_cannot_be_written_holds_all_pulls_and_no_checks() -> None:
    b = board("a", "b", "c")
    known(b, "a", "etc", pulled=None)
    known(b, "b", "etc", pulled=None)
    first = b.take(T0)
    assert len([job for job in first if isinstance(job, PullJob)]) == 2
    until = b.pull_ended(PullJob("a", "etc", "due"), T0, failure="no space left", blame="store")
    b.pull_ended(PullJob("b", "etc", "due"), T0, failure="no space left", blame="store")
    b.check_ended(CheckJob("c", ()), T0)
    b.request_check("c")
    assert b.take(T0) == [CheckJob("c", ())]
    assert until is not None
    assert {type(job) for job in b.take(until + 60)} == {PullJob}


def test_pulls_wait_for_a_full_store_as_long_as_it_is_full_once_one_failed_for_it() -> None:
    b = board("a", "b")
    known(b, "a", "etc", pulled=None)
    known(b, "b", "etc")
    assert not b.hold_pulls(T0 + 1000)
    (job,) = [job for job in b.take(T0) if isinstance(job, PullJob)]
    b.pull_ended(job, T0, failure="no space left", blame="store")
    assert b.hold_pulls(T0 + 1000)
    b.request_pull("b", "etc")
    assert [job for job in b.take(T0 + 999) if isinstance(job, PullJob)] == [PullJob("b", "etc", "requested")]
    b.release_pulls()
    assert [job for job in b.take(T0 + 999) if isinstance(job, PullJob)] == [PullJob("a", "etc", "changed")]
    assert not b.hold_pulls(T0 + 5000)


def test_a_cancelled_pull_waits_for_nobody() -> None:
    b = board("web1")
    known(b, "web1", "etc", pulled=None)
    (job,) = b.take(T0)
    assert isinstance(job, PullJob)
    b.pull_ended(job, T0, failure="asked to stop", blame="nobody")
    assert b.take(T0) == [PullJob("web1", "etc", "changed")]


def test_a_pull_that_was_asked_for_and_stopped_does_not_begin_again_by_itself() -> None:
    b = board("web1")
    known(b, "web1", "etc")
    due = b.next_due()
    b.request_pull("web1", "etc")
    (job,) = b.take(T0)
    assert isinstance(job, PullJob)
    b.pull_ended(job, T0 + 1, failure="stopped on request", blame="nobody")
    assert b.take(T0 + 1) == []
    assert b.next_due() == due


def test_a_clock_set_back_stops_nothing() -> None:
    b = board("web1")
    known(b, "web1", "etc")
    now = b.next_due()
    (job,) = b.take(now)
    assert isinstance(job, CheckJob)
    b.check_ended(job, now)
    year_ago = now - 365 * 86400
    assert b.take(year_ago) == []
    assert b.next_due() <= year_ago + 900


def test_hosts_that_stay_keep_what_is_known_of_them() -> None:
    b = board("web1", "web2")
    known(b, "web1", "etc")
    known(b, "web2", "etc")
    b.set_hosts({"web1": POLICY, "web3": POLICY})
    assert b.modules("web1") == ("etc",)
    assert b.modules("web2") == ()
    assert b.take(T0) == [CheckJob("web3", ())]


@pytest.mark.parametrize("checks", [1, 3])
def test_no_more_checks_run_than_allowed(checks: int) -> None:
    b = board(*(f"h{number}" for number in range(10)), slots=Slots(checks, fixed(8), 1))
    assert len(b.take(T0)) == checks
    assert b.take(T0) == []
    assert b.next_due() == float("inf")


@settings(max_examples=60, deadline=None)
@given(st.integers(), st.integers(1, 4), st.integers(1, 3))
def test_limits_hold_and_everything_gets_its_turn(seed: int, pulls: int, per_host: int) -> None:
    random = Random(seed)
    b = board("a", "b", "c", slots=Slots(checks=2, pulls=fixed(pulls), per_host=per_host))
    begun: set[tuple[str, str]] = set()
    running: list[Job] = []
    now = T0
    for _ in range(200):
        new = b.take(now)
        assert not set(new) & set(running)
        running += new
        active = [job for job in running if isinstance(job, PullJob)]
        assert len(active) <= pulls
        assert len({(job.host, job.module) for job in active}) == len(active)
        assert all(sum(job.host == host for job in active) <= per_host for host in "abc")
        begun |= {(job.host, job.module) for job in active}
        if running:
            job = running.pop(random.randrange(len(running)))
            failed = random.random() < 0.2
            if isinstance(job, CheckJob):
                b.offered(job.host, dict.fromkeys(("etc", "www"), POLICY))
                b.check_ended(job, now, failure="no" if failed else "")
            else:
                b.pull_ended(job, now, failure="no" if failed else "")
        now += random.random() * 600
    assert begun == {(host, module) for host in "abc" for module in ("etc", "www")}


def test_no_more_pulls_pass_through_a_hop_than_allowed_and_others_do_not_wait_for_them() -> None:
    ways = {"a": ("bastion",), "b": ("bastion",), "c": ("bastion", "inner"), "d": ()}
    made = Board(Slots(checks=32, pulls=fixed(8), per_host=1, per_hop=1), lambda host: ways[host])
    made.set_hosts(dict.fromkeys(ways, POLICY))
    for host in ways:
        known(made, host, "etc", pulled=None)
    first = [job for job in made.take(T0) if isinstance(job, PullJob)]
    assert [job.host for job in first] == ["a", "d"]
    # What waits for a hop is nothing to wake up for.
    assert made.next_due() > T0
    made.pull_ended(first[0], T0)
    (second,) = [job for job in made.take(T0) if isinstance(job, PullJob)]
    made.pull_ended(second, T0)
    assert [job.host for job in made.take(T0) if isinstance(job, PullJob)] == ["c"]


def test_a_pull_gives_back_the_tokens_that_it_took_whatever_the_way_is_now() -> None:
    way = ("one",)
    made = Board(Slots(checks=32, pulls=fixed(8), per_host=8, per_hop=1), lambda _: way)
    made.set_hosts({"a": POLICY})
    known(made, "a", "etc", "www", pulled=None)
    (job,) = [job for job in made.take(T0) if isinstance(job, PullJob)]
    way = ("two",)
    made.pull_ended(job, T0)
    way = ("one",)
    assert len([job for job in made.take(T0) if isinstance(job, PullJob)]) == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(), st.integers(1, 3), st.integers(1, 6))
def test_hops_are_never_overfull_and_all_tokens_come_back(seed: int, per_hop: int, pulls: int) -> None:
    random = Random(seed)
    hosts = [f"h{number}" for number in range(8)]

    def passes(host: str) -> tuple[str, ...]:
        """Another way each time, as after a relay that failed."""
        return random.choice(((), ("a",), ("b",), ("a", "b"), ("b", "c")))

    b = Board(Slots(checks=8, pulls=fixed(pulls), per_host=2, per_hop=per_hop), passes)
    b.set_hosts(dict.fromkeys(hosts, POLICY))
    for host in hosts:
        known(b, host, "etc", "www", pulled=None)
    running: list[PullJob] = []
    now = T0
    for _ in range(150):
        for job in b.take(now):
            if isinstance(job, CheckJob):
                b.check_ended(job, now)
            else:
                running.append(job)
        taken = Counter(hop for way in b._pulls.values() for hop in way)
        assert taken == +b._passing
        assert all(number <= per_hop for number in taken.values())
        if running:
            job = running.pop(random.randrange(len(running)))
            if random.random() < 0.1:
                b.set_hosts(dict.fromkeys(random.sample(hosts, 5), POLICY))
                b.set_hosts(dict.fromkeys(hosts, POLICY))
            b.pull_ended(job, now, failure="no" if random.random() < 0.2 else "", blame="nobody")
        now += random.random() * 600
    for job in running:
        b.pull_ended(job, now)
    assert +b._passing == Counter()
    assert b.running() == 0


def local(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp()


def bound(**written: str | list[str]) -> Policy:
    """A policy in Berlin as it would be written; checked every 15 minutes."""
    found = {key: spans(value) for key, value in written.items() if key != "pull"}
    return Policy(check=900, pull=pull_time(written.get("pull", "1d")), zone="Europe/Berlin", **found)


def pulls(made: Board, begin: float, end: float, step: int = 60) -> list[tuple[float, PullJob]]:
    """The pulls that begin between two moments; each takes no time, and checks find nothing."""
    found = []
    now = begin
    while now < end:
        for job in made.take(now):
            if isinstance(job, PullJob):
                found.append((now, job))
                made.pull_ended(job, now)
            else:
                made.check_ended(job, now)
        now += step
    return found


def test_a_daily_pull_begins_at_its_time_and_once_after_days_without_a_collector() -> None:
    policy = bound(pull="daily at 02:30")
    b = board("web1", policy=policy)
    known(b, "web1", "etc", policy=policy, pulled=local("2026-11-01 02:30"))
    begun = pulls(b, local("2026-11-25 12:00"), local("2026-11-27 12:00"))
    assert [moment for moment, _ in begun] == [
        local(text) for text in ("2026-11-25 12:00", "2026-11-26 02:30", "2026-11-27 02:30")
    ]


def test_a_pull_waits_for_its_window_and_a_check_does_not() -> None:
    policy = bound(windows=["22:00-06:00"], blackouts=["2026-11-25..2026-11-25"])
    b = board("web1", policy=policy)
    known(b, "web1", "etc", policy=policy, pulled=None)
    noon = local("2026-11-25 12:00")
    b.request_check("web1")
    (job,) = b.take(noon)
    assert isinstance(job, CheckJob)
    b.check_ended(job, noon, changed=["etc"])
    assert pulls(b, noon, local("2026-11-27 12:00"))[0] == (
        local("2026-11-26 00:00"),
        PullJob("web1", "etc", "changed"),
    )


def test_several_missed_moments_in_a_closed_window_make_one_pull() -> None:
    policy = bound(pull="hourly at :00", windows=["04:00-05:00"])
    b = board("web1", policy=policy)
    known(b, "web1", "etc", policy=policy, pulled=local("2026-11-25 04:00"))
    begun = pulls(b, local("2026-11-25 12:00"), local("2026-11-27 12:00"))
    assert [moment for moment, _ in begun] == [local("2026-11-26 04:00"), local("2026-11-27 04:00")]


def test_a_request_waits_for_no_window() -> None:
    policy = bound(windows=["22:00-06:00"])
    b = board("web1", policy=policy)
    noon = local("2026-11-25 12:00")
    known(b, "web1", "etc", policy=policy, pulled=noon)
    b.request_pull("web1", "etc")
    assert PullJob("web1", "etc", "requested") in b.take(noon)


def test_the_loop_wakes_up_when_a_window_opens() -> None:
    policy = Policy(check=None, pull=3600, zone="Europe/Berlin", windows=spans(["22:00-06:00"]))
    b = board("web1", policy=policy)
    noon = local("2026-11-25 12:00")
    b.remember("web1", noon + 5 * 3600, {"etc": None})
    b.offered("web1", {"etc": policy})
    b.take(noon)
    moments = [noon]
    while moments[-1] < local("2026-11-25 22:00"):
        due = b.next_due()
        assert due > moments[-1]
        moments.append(due)
        for job in b.take(due):
            assert isinstance(job, PullJob) is (due == local("2026-11-25 22:00"))
            if isinstance(job, CheckJob):
                b.check_ended(job, due)
    assert len(moments) < 20


def test_a_retry_waits_for_the_window_too() -> None:
    policy = bound(windows=["22:00-06:00"])
    b = board("web1", policy=policy)
    early = local("2026-11-25 05:59")
    known(b, "web1", "etc", policy=policy, pulled=None)
    (job,) = [job for job in b.take(early) if isinstance(job, PullJob)]
    b.pull_ended(job, early + 30, failure="ConnectionLost", blame="module")
    begun = pulls(b, early + 60, local("2026-11-26 12:00"))
    assert begun[0][0] == local("2026-11-25 22:00")


def test_a_failure_of_another_kind_begins_to_wait_anew() -> None:
    b = board("web1")
    now = T0
    for _ in range(8):
        (job,) = b.take(now)
        assert isinstance(job, CheckJob)
        until = b.check_ended(job, now, failure="HostUnreachable")
        assert until is not None
        now = until
    b.take(now)
    until = b.check_ended(job, now, failure="AgentKeyChanged", retryable=False)
    # Somebody has to repair that: the first wait for such a failure, and not the hour of the ninth in a row.
    assert until is not None
    assert 720 <= until - now <= 900


def test_a_host_that_answered_begins_to_wait_anew() -> None:
    b = board("web1")
    now = T0
    for _ in range(8):
        (job,) = b.take(now)
        assert isinstance(job, CheckJob)
        now = b.check_ended(job, now, failure="HostUnreachable") or now
    b.take(now)
    b.check_ended(job, now)
    b.request_check("web1")
    b.take(now)
    until = b.check_ended(job, now, failure="HostUnreachable")
    assert until is not None
    assert until - now <= 30


@pytest.mark.parametrize("jump", [3600, 86400, 10 * 365 * 86400])
@pytest.mark.parametrize("pull", ["6h", "daily at 02:30"])
def test_a_clock_that_jumps_forth_and_back_makes_one_pull_and_delays_none(jump: int, pull: str) -> None:
    policy = bound(pull=pull)
    b = board("web1", policy=policy)
    known(b, "web1", "etc", "www", policy=policy)
    known_until = pulls(b, T0, T0 + 2 * 86400, 600)
    now = T0 + 2 * 86400
    there = pulls(b, now + jump, now + jump + 1, 1) + pulls(b, now + jump + 60, now + jump + 120, 1)
    assert len(there) <= 2
    back = pulls(b, now + 120, now + 121, 1) + pulls(b, now + 180, now + 240, 1)
    assert len(back) <= 2
    after = pulls(b, now + 300, now + 300 + 2 * 86400, 600)
    assert abs(len(after) - len(known_until)) <= 2


def test_what_the_catalog_remembers_from_a_future_that_was_a_mistake_delays_nothing() -> None:
    b = board("web1")
    ahead = T0 + 10 * 365 * 86400
    b.remember("web1", ahead, {"etc": ahead})
    b.offered("web1", {"etc": POLICY})
    b.take(T0)
    assert b.next_due() <= T0 + 900
    assert pulls(b, T0, T0 + 86400, 600)
