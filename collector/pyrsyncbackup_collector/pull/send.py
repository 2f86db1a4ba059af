"""A restored tree on its way to a host: rsync from a directory of ours to the daemon of the agent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import TransferFailed
from pyrsyncbackup_collector.pull.outcome import NO_SPACE
from pyrsyncbackup_collector.pull.rsync_command import sender
from pyrsyncbackup_collector.pull.rsync_process import Client, Pump
from pyrsyncbackup_collector.pull.sandbox import Limits, Sandbox

# Nothing in the sandbox writes; a file of rsync's own would be a fault.
_NO_FILES = Limits(file_size=1 << 20)


class Push(Pump, Protocol):
    """A Pump that knows afterwards where the restore is."""

    @property
    def last(self) -> Any:
        """The agent's last message; `directory` is a path of the host, or nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Sent:
    """Where the restore is on the host, and what rsync said of what could not be kept there ("": all was).

    Both are printable.
    """

    directory: str
    remark: str


def send(source: Path, push: Push, sandbox: Sandbox) -> Sent:
    """Send all in `source` (absolute). Raises BackupError: then the host keeps what arrived for the next try."""
    ended = Client(lambda fd: sandbox.wrap(sender(source, fd), source, _NO_FILES)).run(push)
    if ended.lost is not None:
        raise ended.lost
    quote = printable(ended.quote())
    directory = printable(push.last.directory[:4096]) if push.last is not None else ""
    if not directory:
        said = ended.daemon.messages.splitlines() if ended.daemon is not None else []
        full = next((printable(line) for line in said if NO_SPACE in line), "")
        raise TransferFailed(
            f"the host did not take all of it: {full or quote}", "run it again: it goes on where it was"
        )
    clean = ended.code == 0 and ended.daemon is not None and ended.daemon.code == 0
    return Sent(directory, "" if clean else quote)
