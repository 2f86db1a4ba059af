"""Whether a pull that was cut off goes on by itself, and after which pause. Pure.

Sessions are cut (PAM, a NAT that forgets, a relay that restarts), and what was transferred is kept: so a pull that had
begun tries again while that brings something new, and for about a minute where it does not. Then its host waits for
its turn, as after any failure.
"""

from __future__ import annotations

from typing import Final

from pyrsyncbackup_collector.errors import AgentBusy, BackupError, ConnectError, ModuleBusy

FIRST_PAUSE: Final = 1.0
# Attempts in a row that brought nothing: 1 + 2 + 4 + 8 + 16 + 32 seconds. An agent needs up to 45 s to see that a
# connection is dead, and until then holds its module for it.
FRUITLESS: Final = 6
# Attempts at all: who is cut off more often waits for his turn like others.
MOST: Final = 1000


class Attempts:
    """The attempts of one pull."""

    def __init__(self) -> None:
        self.made = 0
        self._began = False
        self._fruitless = 0

    def pause_after(self, error: BackupError, *, began: bool, brought: bool) -> float | None:
        """Seconds until the next attempt; None if there is none.

        `began`: the attempt had the module open; `brought`: contents came by it.
        """
        self.made += 1
        self._began = self._began or began
        if not self._began or not _may_pass(error) or self.made >= MOST:
            return None
        self._fruitless = 0 if brought else self._fruitless + 1
        if self._fruitless > FRUITLESS:
            return None
        return FIRST_PAUSE * float(2 ** max(self._fruitless - 1, 0))


def _may_pass(error: BackupError) -> bool:
    """Whether another connection may mend it. A module or agent is busy until it notices that we are gone."""
    return isinstance(error, ConnectError | AgentBusy | ModuleBusy) and error.retryable
