"""Tokens of the hops, for pulls without the board."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random

from pyrsyncbackup_collector.schedule.tokens import Tokens


def test_hops_are_never_overfull_and_nobody_waits_in_a_circle() -> None:
    tokens, lock = Tokens(2), threading.Lock()
    passing: Counter[str] = Counter()
    most = 0

    def pull(number: int) -> None:
        nonlocal most
        hops = Random(number).sample("abcd", 3)
        with tokens.held([*hops, hops[0]]):
            with lock:
                passing.update(hops)
                most = max(most, *passing.values())
            with lock:
                passing.subtract(hops)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(pull, range(500)))
    assert 1 <= most <= 2


def test_a_token_comes_back_after_a_failure() -> None:
    tokens = Tokens(1)
    for _ in range(3):
        try:
            with tokens.held(["a"]):
                raise OSError
        except OSError:
            pass
    with tokens.held(["a", "a"]):
        pass
