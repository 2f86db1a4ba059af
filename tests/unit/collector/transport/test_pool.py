"""What is open: shared, idle, backed off, dead, closed; with a clock that stands still."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest
from pyrsyncbackup_collector.errors import AgentRefused, ConnectError, ConnectionLost, HostUnreachable
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.transport import pool as pools
from pyrsyncbackup_collector.transport.pool import FIRST_PAUSE, LONGEST_PAUSE, Pool

from tests.support.fleet import direct_host
from tests.support.still_clock import StillClock
from tests.support.waiting import until

IDLE = 120.0
WEB1, WEB2 = direct_host(1, "web1"), direct_host(2, "web2")


@dataclass
class Thing:
    host: Host
    alive: bool = True
    closed: int = 0
    reason: ConnectError | None = None

    def why(self) -> ConnectError | None:
        return self.reason

    def close(self) -> None:
        self.closed += 1
        self.alive = False


@dataclass
class Opener:
    made: list[Thing] = field(default_factory=list)
    asked: list[bool] = field(default_factory=list)
    fails: ConnectError | None = None
    hold: Callable[[], object] = lambda: None

    def __call__(self, host: Host, now: bool) -> Thing:
        self.asked.append(now)
        self.hold()
        if self.fails is not None:
            raise self.fails
        self.made.append(Thing(host))
        return self.made[-1]


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def pool(opener: Opener, clock: StillClock) -> Pool[Thing]:
    return Pool(opener, clock, IDLE)


def use(pool: Pool[Thing], host: Host = WEB1, *, now: bool = False) -> Thing:
    with pool.use(host, now=now) as thing:
        return thing


def failure(pool: Pool[Thing], host: Host = WEB1, *, now: bool = False) -> ConnectError:
    with pytest.raises(ConnectError) as caught, pool.use(host, now=now):
        pass
    return caught.value


def test_one_is_shared_and_kept(pool: Pool[Thing], opener: Opener) -> None:
    with pool.use(WEB1) as one, pool.use(WEB1) as two:
        assert one is two
    assert use(pool) is one
    assert use(pool, WEB2) is not one
    assert len(opener.made) == 2
    assert pool.open_names() == ["web1", "web2"]


def test_threads_that_come_together_wait_for_one_opening(pool: Pool[Thing], opener: Opener) -> None:
    together = threading.Barrier(8)

    def come(_: int) -> Thing:
        together.wait(60)
        return use(pool)

    with ThreadPoolExecutor(8) as threads:
        assert len({id(thing) for thing in threads.map(come, range(8))}) == 1
    assert len(opener.made) == 1


def test_an_idle_one_is_closed_when_its_time_is_over(pool: Pool[Thing], clock: StillClock) -> None:
    assert pool.sweep() is None
    one = use(pool)
    clock.time += 20
    two = use(pool, WEB2)
    assert pool.sweep() == IDLE - 20
    clock.time += IDLE - 20
    with pool.use(WEB2):
        assert pool.sweep() == IDLE
    assert (one.closed, two.closed) == (1, 0)
    clock.time += IDLE
    assert pool.sweep() is None
    assert two.closed == 1


def test_one_that_is_just_being_taken_is_looked_at_again(
    pool: Pool[Thing], clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(pool)
    clock.time += IDLE
    monkeypatch.setattr(pool, "_shut", lambda place: False)
    assert pool.sweep() == IDLE


def test_of_idle_ones_that_are_wanted_the_longest_idle_is_closed(pool: Pool[Thing], clock: StillClock) -> None:
    things = []
    for number in range(3):
        clock.time += 1
        things.append(use(pool, direct_host(1, f"h{number}")))
    with pool.use(direct_host(1, "h0")):
        assert not pool.close_idle(lambda host: host.name == "h0")
        assert pool.close_idle(lambda host: True)
        assert [thing.closed for thing in things] == [0, 1, 0]
        assert pool.close_idle(lambda host: host.name == "h2")
        assert not pool.close_idle(lambda host: True)


def test_who_uses_nothing_any_more_is_told(opener: Opener, clock: StillClock) -> None:
    told: list[int] = []
    pool = Pool(opener, clock, IDLE, lambda: told.append(1))
    with pool.use(WEB1):
        use(pool)
        assert told == []
    assert told == [1]


def test_a_failure_is_told_again_without_another_try_until_its_time_is_over(
    pool: Pool[Thing], opener: Opener, clock: StillClock
) -> None:
    opener.fails = HostUnreachable("down", "up?")
    first = failure(pool)
    again = failure(pool)
    assert again is not first
    assert (type(again), str(again)) == (HostUnreachable, "down (up?)")
    assert len(opener.asked) == 1
    pauses = []
    for _ in range(6):
        backoff = pool.backoff("web1")
        assert backoff is not None
        pauses.append(backoff.next_try - clock.monotonic())
        clock.time = backoff.next_try
        failure(pool)
    assert pauses == [FIRST_PAUSE, 10.0, 20.0, 40.0, LONGEST_PAUSE, LONGEST_PAUSE]
    opener.fails = None
    assert use(pool, now=True).alive
    assert pool.backoff("web1") is None
    assert opener.asked[-1] is True


def test_who_decides_himself_or_comes_with_another_definition_does_not_wait(pool: Pool[Thing], opener: Opener) -> None:
    opener.fails = HostUnreachable("down")
    failure(pool)
    failure(pool, now=True)
    failure(pool, replace(WEB1, agent_port=9))
    assert len(opener.asked) == 3


def test_a_dead_one_is_replaced_and_whoever_had_it_ends_nothing_new(pool: Pool[Thing], opener: Opener) -> None:
    with pytest.raises(ConnectionLost), pool.use(WEB1) as old:  # noqa: PT012
        old.alive = False
        new = use(pool)
        assert new is not old
        raise ConnectionLost("gone")
    assert (old.closed, new.closed) == (1, 0)
    assert use(pool) is new


def test_what_passes_through_the_block_ends_it_once_nobody_uses_it(pool: Pool[Thing]) -> None:
    with pool.use(WEB1) as one:
        with pytest.raises(AgentRefused), pool.use(WEB1):
            raise AgentRefused("no")
        assert one.closed == 0
        assert use(pool) is one  # others keep theirs until they are done
    assert one.closed == 1
    assert use(pool) is not one


def test_the_one_that_was_lost_knows_better_why(pool: Pool[Thing]) -> None:
    with pytest.raises(HostUnreachable, match="cut"), pool.use(WEB1) as thing:  # noqa: PT012
        thing.alive, thing.reason = False, HostUnreachable("cut")
        raise ConnectionLost("Socket closed")
    with pytest.raises(ConnectionLost, match="Socket closed"), pool.use(WEB1) as thing:  # noqa: PT012
        thing.reason = HostUnreachable("an old story")
        raise ConnectionLost("Socket closed")


def test_another_definition_opens_it_anew_once_nobody_uses_the_old_one(pool: Pool[Thing]) -> None:
    other = replace(WEB1, agent_port=9)
    with pool.use(WEB1) as one:
        assert use(pool, other) is one
    two = use(pool, other)
    assert (one.closed, two.host) == (1, other)


def test_what_is_forgotten_begins_anew(pool: Pool[Thing], opener: Opener) -> None:
    one = use(pool)
    pool.forget("web1")
    assert one.closed == 1
    with pool.use(WEB1) as two:
        pool.forget("web1")
        assert two.closed == 0
    assert two.closed == 1
    opener.fails = HostUnreachable("down")
    failure(pool)
    pool.forget("web1")
    opener.fails = None
    assert use(pool).alive
    pool.forget("nobody")


def test_closing_ends_all_and_opens_nothing_afterwards(pool: Pool[Thing], opener: Opener) -> None:
    with pool.use(WEB1) as used:
        idle = use(pool, WEB2)
        pool.close()
        assert (used.closed, idle.closed) == (1, 1)
    assert str(failure(pool, WEB2)) == "web2: the collector is stopping (start it again)"
    assert len(opener.made) == 2
    pool.close()


def test_closing_waits_for_what_is_being_opened_and_nobody_tries_after_it(pool: Pool[Thing], opener: Opener) -> None:
    go = threading.Event()
    opener.hold = lambda: go.wait(60)
    with ThreadPoolExecutor(5) as threads:
        failures = [threads.submit(failure, pool, now=True) for _ in range(4)]
        until(lambda: opener.asked)
        until(lambda: pool._places["web1"].users == 4)
        closing = threads.submit(pool.close)
        until(lambda: pool._closed)
        assert not closing.done()
        go.set()
        closing.result(60)
        assert {str(one.result(60)) for one in failures} == {"web1: the collector is stopping (start it again)"}
    assert len(opener.asked) == 1
    assert all(thing.closed == 1 for thing in opener.made)


def test_many_threads_and_failures_leave_nothing_open(clock: StillClock) -> None:
    lock, opened = threading.Lock(), list[Thing]()

    def open_(host: Host, now: bool) -> Thing:
        thing = Thing(host)
        with lock:
            opened.append(thing)
            if len(opened) % 7 == 0:
                opened.pop()
                raise HostUnreachable("now and then")
        return thing

    pool: Pool[Thing] = Pool(open_, clock, IDLE)

    def work(number: int) -> None:
        host = direct_host(1, f"h{number % 5}")
        try:
            with pool.use(host, now=True) as thing:
                assert thing.host == host
                if number % 11 == 0:
                    raise ConnectionLost("cut")
                if number % 13 == 0:
                    pool.close_idle(lambda _: True)
        except ConnectError:
            pass

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(2000)))
    pool.close()
    assert {thing.closed for thing in opened} == {1}
    assert pool.open_names() == []
    assert all(place.users == 0 for place in pool._places.values())


def test_two_ways_of_opposite_order_do_not_wait_for_each_other_for_ever(
    clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one opens a way as configured before a reload that turned it round, and one as after it."""
    monkeypatch.setattr(pools, "LONGEST_OPENING", 0.2)
    both, inside = threading.Barrier(2), threading.local()
    below = {"web1": WEB2, "web2": WEB1}

    def open_upon_the_other(host: Host, now: bool) -> Thing:
        if not hasattr(inside, "one"):
            inside.one = True
            both.wait(60)
            with pool.use(below[host.name], now=now):
                pass
        return Thing(host)

    pool: Pool[Thing] = Pool(open_upon_the_other, clock, IDLE)

    def use(host: Host) -> str:
        try:
            with pool.use(host, now=True):
                return "opened once the other had given up"
        except ConnectError as error:
            return error.cause

    with ThreadPoolExecutor(2) as threads:
        assert any("is being opened for too long" in cause for cause in threads.map(use, (WEB1, WEB2)))
    pool.close()


def test_a_remembered_failure_holds_nothing_of_the_opening_that_failed(clock: StillClock, opener: Opener) -> None:
    opener.fails = HostUnreachable("away", "look")
    pool: Pool[Thing] = Pool(opener, clock, IDLE)
    with pytest.raises(HostUnreachable), pool.use(WEB1):
        pass
    backoff = pool.backoff("web1")
    assert backoff is not None
    assert backoff.error.__traceback__ is None
    assert (backoff.error.cause, backoff.error.hint) == ("away", "look")
