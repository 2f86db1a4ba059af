"""How many pulls run at a time: within limits, as many as the work needs, and steady."""

from __future__ import annotations

import heapq
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from pyrsyncbackup_collector.config import Policy
from pyrsyncbackup_collector.config.calendar import pull_time
from pyrsyncbackup_collector.config.model import Workers
from pyrsyncbackup_collector.schedule import Board, PullJob, Slots, crew

DAY = 86400.0
T0 = 1_790_000_000.0

limits = st.tuples(st.integers(1, 64), st.integers(1, 64)).map(lambda two: Workers(min=min(two), max=max(two)))
loads = st.builds(
    crew.Load,
    busy=st.floats(0, 600),
    length=st.floats(0, 1e5),
    queue=st.integers(0, 1000),
    waiting=st.floats(0, 1e6),
)
crews = st.builds(crew.Crew, st.integers(1, 64), st.none() | st.floats(T0 - 1e5, T0))


@given(crews, loads, limits)
def test_the_number_is_always_within_the_limits(present: crew.Crew, load: crew.Load, workers: Workers) -> None:
    assert workers.min <= crew.step(present, load, workers, T0).number <= workers.max


@given(crews, loads, loads, limits)
def test_more_work_never_makes_fewer_workers(
    present: crew.Crew, one: crew.Load, other: crew.Load, workers: Workers
) -> None:
    less = crew.Load(*(min(getattr(one, key), getattr(other, key)) for key in crew.Load.__slots__))
    more = crew.Load(*(max(getattr(one, key), getattr(other, key)) for key in crew.Load.__slots__))
    assert crew.wanted(less, workers) <= crew.wanted(more, workers)
    assert crew.step(present, less, workers, T0).number <= crew.step(present, more, workers, T0).number


@settings(max_examples=50)
@given(crews, loads, limits)
def test_for_a_load_that_stays_the_number_goes_one_way_and_comes_to_rest(
    present: crew.Crew, load: crew.Load, workers: Workers
) -> None:
    numbers = [min(max(present.number, workers.min), workers.max)]
    now = T0
    for _ in range(200):
        now += crew.HOLD / 2
        present = crew.step(present, load, workers, now)
        numbers.append(present.number)
    ways = {(after > before) - (after < before) for before, after in itertools.pairwise(numbers)} - {0}
    assert len(ways) <= 1
    assert len(set(numbers[-40:])) == 1
    wanted = crew.wanted(load, workers)
    # While something waits nobody is sent away.
    assert numbers[-1] == (max(wanted, numbers[0]) if load.queue else wanted)


def test_a_number_alone_is_a_fixed_number() -> None:
    four = Workers(min=4, max=4)
    assert crew.first(four).number == 4
    assert crew.step(crew.first(four), crew.Load(100, 100, 100, 1000), four, T0).number == 4


def simulated(made: Board, days: float, length: float) -> tuple[list[int], list[float]]:
    """Days of a board in which each pull takes `length` seconds: workers by minute, and when pulls began."""
    running: list[tuple[float, int, PullJob]] = []
    numbers, begun, count = [], [], itertools.count()
    now = T0
    while now < T0 + days * DAY:
        while running and running[0][0] <= now:
            ends, _, job = heapq.heappop(running)
            made.pull_ended(job, ends)
        for job in made.take(now):
            if isinstance(job, PullJob):
                begun.append(now)
                heapq.heappush(running, (now + length, next(count), job))
            else:
                made.check_ended(job, now)
        numbers.append(made.workers()[1])
        now += 20
    return numbers, begun


def fleet(hosts: int, policy: Policy) -> Board:
    made = Board(Slots(checks=500, pulls=Workers(min=2, max=16), per_host=1))
    names = [f"h{number}" for number in range(hosts)]
    made.set_hosts(dict.fromkeys(names, policy))
    for name in names:
        made.remember(name, T0 - 1, {"etc": T0 - 1})
        made.offered(name, {"etc": policy})
    return made


def test_a_small_fleet_comes_to_rest_with_few_workers() -> None:
    numbers, begun = simulated(fleet(20, Policy(check=None, pull=6 * 3600)), 1, 10)
    assert numbers[0] == 8
    assert set(numbers[len(numbers) // 2 :]) == {2}
    assert len(begun) == 80


def test_a_fleet_that_needs_six_at_a_time_gets_enough_and_not_the_most() -> None:
    """40 pulls of 540 s in each hour are six at a time on average."""
    numbers, begun = simulated(fleet(40, Policy(check=None, pull=3600)), 1, 540)
    rest = numbers[len(numbers) // 2 :]
    assert min(rest) >= 7
    assert max(rest) <= 12
    assert len(begun) >= 23 * 40


def test_nobody_is_sent_away_while_pulls_wait() -> None:
    made = fleet(100, Policy(check=None, pull=DAY))
    made.take(T0)
    made.take(T0 + 2 * DAY)
    before = made.workers()[1]
    for later in range(1, 10):
        made.take(T0 + 2 * DAY + later * crew.HOLD)
        assert made.workers()[1] >= before


def test_all_at_one_moment_bring_the_most_and_later_the_fewest() -> None:
    policy = Policy(check=None, pull=pull_time("daily at 02:30"), zone="UTC")
    numbers, begun = simulated(fleet(400, policy), 1, 60)
    assert max(numbers) == 16
    assert numbers[-1] == 2
    assert len(begun) == 400
    # With the eight of the begin alone it would have been 50 minutes.
    assert max(begun) - min(begun) <= 35 * 60
