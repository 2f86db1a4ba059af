"""The hours that pulls are bound to, remembered until they change: ten thousand modules share a handful of them."""

from __future__ import annotations

from pyrsyncbackup_collector.config.spans import Hours
from pyrsyncbackup_collector.schedule.windows import State, state_at


class Gate:
    """What is bound to the same hours passes through the same gate. Good for one `Gates`."""

    def __init__(self, hours: Hours) -> None:
        self.hours = hours
        # As it is now; None: to be looked up when it is asked for.
        self.state: State | None = None


class Gates:
    """All gates, and what is open at present. Not thread-safe."""

    def __init__(self) -> None:
        self._now = self._since = 0.0
        self._gates: dict[Hours, Gate] = {}
        self._asked: list[Gate] = []

    def of(self, hours: Hours) -> Gate | None:
        """The gate for these hours; None if they are always open."""
        return None if hours.always else self._gates.setdefault(hours, Gate(hours))

    def turned(self, now: float) -> bool:
        """It is `now`; whether a gate that was asked for opened or closed since. Before all that depends on it."""
        self._now = now
        ends = [gate.state.until for gate in self._asked if gate.state is not None]
        if ends and self._since <= now < min(ends):
            return False
        for gate in self._asked:
            gate.state = None
        self._asked = []
        return bool(ends)

    def passes(self, gate: Gate | None, due: float) -> float:
        """When what is due at `due` may begin; good until the next turn, which comes not later than that."""
        if gate is None:
            return due
        if gate.state is None:
            gate.state = state_at(gate.hours, self._now)
            self._asked.append(gate)
            self._since = self._now  # what was asked for before may have been in another state then
        return due if gate.state.open or due > gate.state.until else gate.state.until
