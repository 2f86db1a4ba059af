"""What is open, one of a kind for each host: opened when it is needed, shared while it is used, closed when idle.

Connections with SSH servers and connections with agents live in pools of their own; those that rest upon another one
use it for as long as they are open. How one is opened is the owner's business, and so is what a failure means.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.errors import ConnectError, ConnectionLost
from pyrsyncbackup_collector.fleet.hosts import Host

# A failed opening is tried again after 5 s, then after twice as long each time, up to a minute: a bastion that came
# back should not keep all behind it waiting. Who decides for himself how long to wait says `now`.
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0
# Longer than any way of eight hops takes to open or to fail. Two who open ways of opposite order, one as configured
# before a reload and one as after it, would wait for each other for ever.
LONGEST_OPENING = 300.0


class Openable(Protocol):
    """What a pool holds. Thread-safe."""

    @property
    def alive(self) -> bool:
        """False once it is known to be broken."""
        ...

    def why(self) -> ConnectError | None:
        """Why it broke, as far as it knows."""
        ...

    def close(self) -> None:
        """End it, and the use of what it rests upon."""
        ...


T = TypeVar("T", bound=Openable)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Failures in a row, when (monotonic) it may be tried again, and the last error."""

    failures: int
    next_try: float
    error: ConnectError


@dataclass
class _Place(Generic[T]):
    """One host's place; `lock` is held while it is being opened or closed."""

    host: Host
    lock: threading.Lock = field(default_factory=threading.Lock)
    value: T | None = None
    users: int = 0
    since: float = 0
    broken: bool = False
    backoff: Backoff | None = None


class Pool(Generic[T]):
    """All that is open of one kind. Thread-safe. `open_` makes one, and is told `now`; `idle` is in seconds.

    `unused` is called, from any thread, when one is used by nobody any more.
    """

    def __init__(
        self, open_: Callable[[Host, bool], T], clock: Clock, idle: float, unused: Callable[[], None] = lambda: None
    ) -> None:
        self._open, self._clock, self._idle, self._unused = open_, clock, idle, unused
        self._places: dict[str, _Place[T]] = {}
        self._lock = threading.Lock()
        self._closed = False

    @contextlib.contextmanager
    def use(self, host: Host, *, now: bool = False) -> Iterator[T]:
        """The open one of `host`, shared with whoever else uses it.

        While the host is backed off its last error is raised again at once, unless `now`. A ConnectError that passes
        through the block ends it; the next use opens it anew.
        """
        place = self._enter(host)
        value: T | None = None
        try:
            value = self._opened(place, host, now)
            yield value
        except ConnectError as error:
            # Another one may have taken its place meanwhile.
            if place.value is value:
                place.broken = True
            # It may know better than gRPC, to which every end is a socket that was closed.
            if isinstance(error, ConnectionLost) and value is not None and not value.alive and (better := value.why()):
                raise better from error
            raise
        finally:
            self._leave(place)

    def backoff(self, name: str) -> Backoff | None:
        """The failures in a row of the host of that name; None if the last opening came about."""
        place = self._places.get(name)
        return place.backoff if place else None

    def open_names(self) -> list[str]:
        """The hosts whose place is open."""
        return [name for name, place in list(self._places.items()) if place.value is not None]

    def forget(self, name: str) -> None:
        """What it was opened with has changed: the next use begins anew."""
        place = self._places.get(name)
        if place is not None:
            place.backoff, place.broken = None, True
            self._shut(place)
            with self._lock:
                if not place.users and place.value is None:
                    self._places.pop(name, None)

    def sweep(self) -> float | None:
        """Close what was idle for too long; return the seconds until the next, None if nothing is open."""
        pauses = []
        for place in list(self._places.values()):
            if place.value is None:
                continue
            left = place.since + self._idle - self._clock.monotonic()
            if place.users or left > 0:
                pauses.append(self._idle if place.users else left)
            elif not self._shut(place):  # somebody is just taking it
                pauses.append(self._idle)
        return min(pauses, default=None)

    def close_idle(self, wanted: Callable[[Host], bool]) -> bool:
        """Close the one that is idle for longest, of the hosts that are `wanted`; whether there was one."""
        idle = [
            place
            for place in list(self._places.values())
            if place.value is not None and not place.users and wanted(place.host)
        ]
        return any(self._shut(place) for place in sorted(idle, key=lambda place: place.since))

    def close(self) -> None:
        """Close all, also those in use; nothing is opened afterwards."""
        with self._lock:
            self._closed = True
        places = list(self._places.values())
        # First what can be closed at once: one that is being opened may take its time.
        for place in places:
            if place.lock.acquire(blocking=False):
                self._drop_and_release(place)
        for place in places:
            if place.lock.acquire(timeout=LONGEST_OPENING):
                self._drop_and_release(place)

    def _enter(self, host: Host) -> _Place[T]:
        with self._lock:
            if self._closed:
                raise _stopping(host)
            place = self._places.setdefault(host.name, _Place(host))
            place.users += 1
            return place

    def _leave(self, place: _Place[T]) -> None:
        with self._lock:
            place.users -= 1
            place.since = self._clock.monotonic()
            unused = not place.users
        if unused and place.broken:
            self._shut(place)
        if unused:
            self._unused()

    def _opened(self, place: _Place[T], host: Host, now: bool) -> T:
        with _held(place.lock, host):
            dead = place.value is not None and not place.value.alive
            # Who else uses a dead one has lost it, too; others keep theirs until they are done.
            if dead or (place.users == 1 and (place.broken or place.host != host)):
                self._drop(place)
            if place.value is not None:
                return place.value
            backoff = None if now or place.host != host else place.backoff
            if backoff is not None and self._clock.monotonic() < backoff.next_try:
                raise backoff.error.anew()
            if self._closed:  # while it waited for who tried before
                raise _stopping(host)
            place.host = host
            try:
                place.value = self._open(host, now)
            except ConnectError as error:
                place.backoff = self._backed_off(place.backoff, error)
                raise
            if self._closed:
                self._drop(place)
                raise _stopping(host)
            place.backoff, place.broken = None, False
            return place.value

    def _backed_off(self, before: Backoff | None, error: ConnectError) -> Backoff:
        failures = before.failures + 1 if before else 1
        pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 16), LONGEST_PAUSE)
        # Without the traceback, which would keep all that the failed opening had.
        return Backoff(failures, self._clock.monotonic() + pause, error.anew())

    def _shut(self, place: _Place[T]) -> bool:
        """Close one that nobody uses; whether it was open. One that is just being opened is in use."""
        if not place.lock.acquire(blocking=False):
            return False
        if place.users:
            place.lock.release()
            return False
        return self._drop_and_release(place)

    def _drop_and_release(self, place: _Place[T]) -> bool:
        try:
            return self._drop(place)
        finally:
            place.lock.release()

    @staticmethod
    def _drop(place: _Place[T]) -> bool:
        """Close it, if it is open; the place's lock is held."""
        value, place.value = place.value, None
        if value is not None:
            value.close()
        return value is not None


@contextlib.contextmanager
def _held(lock: threading.Lock, host: Host) -> Iterator[None]:
    if not lock.acquire(timeout=LONGEST_OPENING):
        raise ConnectError(f"{host.name}: its connection is being opened for too long", "it is tried again")
    try:
        yield
    finally:
        lock.release()


def _stopping(host: Host) -> ConnectionLost:
    return ConnectionLost(f"{host.name}: the collector is stopping", "start it again")
