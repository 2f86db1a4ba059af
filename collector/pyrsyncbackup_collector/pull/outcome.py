"""What the end of an rsync client means. It is quoted beside the outcome, which is read from what arrived."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from pyrsyncbackup_collector.errors import BackupError, StoreFull, TransferFailed
from pyrsyncbackup_collector.transport.offer import DaemonExit

# rsync(1), "EXIT VALUES". 23 and 24 are everyday: a file that vanished or cannot be read.
MEANINGS = {
    0: "success",
    1: "syntax or usage error",
    2: "protocol incompatibility",
    3: "errors selecting input or output files",
    5: "error starting the client-server protocol",
    10: "error in socket I/O, or an option that the agent refuses",
    11: "error in file I/O",
    12: "error in the protocol data stream",
    13: "errors with program diagnostics",
    14: "error in interprocess communication",
    20: "interrupted by a signal",
    22: "out of memory",
    23: "some files could not be transferred",
    24: "some files vanished before they could be transferred",
    30: "timeout",
    35: "timeout waiting for the daemon",
    127: "program not found",
}

# The C library's words, in the locale that the sandbox sets.
NO_SPACE = os.strerror(errno.ENOSPC)


@dataclass(frozen=True, slots=True)
class Ended:
    """How one run ended: code (negative: signal) and last lines of the client, the agent's daemon, the connection."""

    code: int
    lines: tuple[str, ...]
    daemon: DaemonExit | None
    lost: BackupError | None

    def quote(self) -> str:
        """One line for people: code, meaning, last words of either side."""
        meaning = MEANINGS.get(self.code) or _signal(self.code) or "unknown exit code"
        words = [f"rsync exit code {self.code}: {meaning}"]
        words += [line for line in self.lines[-1:] if line]
        if self.daemon is not None and self.daemon.code != 0 and self.daemon.messages:
            words.append(f"the agent's rsync ({self.daemon.code}): {self.daemon.messages.splitlines()[-1]}")
        return "; ".join(words)


# Exit codes of runs that did what they could: what did not arrive then is the matter of single files.
ORDINARY = frozenset({0, 23, 24})


def failure(ended: Ended, arrived: int = 0) -> BackupError:
    """The error for a run that was broken off, when so many files had arrived."""
    if ended.lost is not None:
        return ended.lost
    if ended.code == 127:
        return TransferFailed("rsync is not installed on this machine", "install rsync 3.2.5 or newer")
    if any(NO_SPACE in line for line in ended.lines):
        return StoreFull(f"the store: no space for what arrives: {ended.quote()}", "make room on its file system")
    what = f"the transfer broke off after {arrived} files" if arrived else "nothing arrived"
    return TransferFailed(f"{what}: {ended.quote()}", "look at the agent's log; the next run goes on from here")


def _signal(code: int) -> str:
    """Words for a code that stands for a signal, as Python says it or, of a process in a sandbox, as a shell does."""
    number = -code if code < 0 else code - 128
    return f"ended by signal {number}" if 0 < number < 65 else ""
