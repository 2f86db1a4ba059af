"""Every failure the collector can name, with its exit code and whether trying again can help.

BackupError                 exit 1
├── UsageError              2   what was asked for cannot be understood
├── ConfigError             3   configuration (all problems at once)
├── NotFound                4   no such host, module, snapshot or path
├── ConnectError            5   retryable
│   ├── HostUnreachable         name, address or port does not answer
│   ├── SshRefused              sshd answered and does not let us in or forward (not retryable)
│   ├── HostKeyUnknown          SSH host key not in known_hosts (not retryable)
│   ├── HostKeyChanged          SSH host key differs from known_hosts (not retryable)
│   ├── AgentUnreachable        SSH works, the agent's port does not answer
│   ├── RelayRefused            the relay is none, or does not offer this peer (not retryable)
│   ├── RelayBusy               the relay passes on as many connections as it may
│   ├── PeerUnreachable         the relay works, the peer behind it does not answer
│   ├── AgentKeyUnknown         not pinned, and not proven by the invitation (not retryable)
│   ├── AgentKeyChanged         differs from the pinned one (not retryable)
│   ├── AgentRefused            the agent does not trust our certificate (not retryable)
│   ├── ProtocolMismatch        protocol ranges do not meet (not retryable)
│   └── ConnectionLost          an open connection ended or went silent
│       └── AnswerOverdue           an agent did not answer within the limit
├── ModuleError             6
│   ├── ModuleUnknown       4   the agent has no such module
│   ├── ModuleNotReady          absent or invalid there
│   ├── ModuleBusy              another lease holds it (retryable)
│   └── HookFailed              a `before` hook failed there
├── AgentBusy               6   the agent's limits are reached (retryable)
├── AgentMisbehaved         7   the agent sent what no honest agent sends
├── TransferFailed          8   rsync brought nothing and cannot say why (retryable)
│   └── PullOverdue             listing or transferring took longer than its limit (retryable)
├── SandboxUnavailable      9   neither bubblewrap nor Landlock works here
├── StoreError             10
│   ├── StoreMissing            not there (not mounted?)
│   ├── StoreBusy               another collector holds the lock
│   ├── StoreFull               no space (retryable)
│   ├── StoreReadOnly
│   ├── CommitOverdue           a commit took longer than its limit (retryable)
│   ├── ChoreOverdue            work on the store gave no sign of life (retryable)
│   └── StoreDamaged            an object, manifest or log that does not fit
│       └── SnapshotDamaged     the newest snapshot of a module cannot be read
├── CatalogError           11
│   ├── CatalogLocked           (retryable)
│   ├── CatalogFull             no space for it (retryable)
│   ├── CatalogDamaged
│   └── CatalogMismatch         older than the store or of another store: rebuild
├── RestoreError           12   the target cannot take it
├── CopyError              16   a second copy cannot be used
│   ├── CopyMissing             none there (not mounted, or not made yet)
│   ├── CopyUnreachable         its server does not answer, or not well (retryable)
│   ├── CopyRefused             its server or file system does not let us
│   ├── CopyFull                no space there (retryable)
│   ├── CopySealed              encrypted, and the key for it is not given
│   └── CopyDamaged             something in it that does not fit
├── ClockDoubtful           1   the clock moved: nothing expires by it
└── Cancelled             130   asked to stop
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Self


def did_you_mean(written: str, names: Iterable[str], otherwise: str = "", *, before: str = "") -> str:
    """The hint for a name that is not there: those that come close, at most three, else `otherwise`.

    What is shown `before` each is the part of the name that is right.
    """
    known = list(names)
    near = difflib.get_close_matches(written, known, n=3) or difflib.get_close_matches(written.lower(), known, n=3)
    if not near:
        return otherwise
    *others, last = [before + name for name in near]
    return f"did you mean {', '.join(others)}{' or ' if others else ''}{last}?"


class BackupError(Exception):
    """A failure with its cause in plain words and the next step.

    `cause` and `hint` may hold text that came from a host: whoever prints them escapes control characters
    (`pyrsyncbackup_collector.entry.printable`).
    """

    exit_code = 1
    retryable = False

    def __init__(self, cause: str, hint: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.hint = hint

    def __str__(self) -> str:
        """One line: the cause, then the next step."""
        return f"{self.cause} ({self.hint})" if self.hint else self.cause


class UsageError(BackupError):
    """What was asked for cannot be understood: a reference, a time, a name."""

    exit_code = 2


class ConfigError(BackupError):
    """The configuration is wrong; `problems` has one line for each fault."""

    exit_code = 3

    def __init__(self, problems: list[str], hint: str = "correct the file, then run `pyrsyncbackup check`") -> None:
        super().__init__("; ".join(problems), hint)
        self.problems = problems


class NotFound(BackupError):
    """No such host, module, snapshot or path."""

    exit_code = 4


class ConnectError(BackupError):
    """The way to an agent does not work. `hop` says where on it, counted from 1; 0 where nobody said."""

    exit_code = 5
    retryable = True
    hop = 0
    # The host for whose way the cause says where, and the cause without that.
    located = ""
    plain = ""

    def at(self, hop: int) -> Self:
        """The same, and where it happened, unless that is known already."""
        self.hop = self.hop or hop
        return self

    def placed(self, host: str, hops: int) -> Self:
        """As a new exception that says where on the way to `host`, of so many hops, it happened."""
        hop = self.hop or hops
        plain = (self.plain or self.cause).removeprefix(f"{host}: ")
        error = self.anew(f"{host}: hop {hop} of {max(hop, hops)}: {plain}" if hops > 1 else f"{host}: {plain}")
        error.located, error.plain = host, plain
        return error

    def anew(self, cause: str | None = None) -> Self:
        """The same failure as a new exception, with another cause if one is given."""
        error = type(self)(cause or self.cause, self.hint).at(self.hop)
        error.located, error.plain = self.located, self.plain
        return error


class HostUnreachable(ConnectError):
    """Name, address or port does not answer."""


class SshRefused(ConnectError):
    """The SSH server answers and does not let us in, or does not forward."""

    retryable = False


class HostKeyUnknown(ConnectError):
    """The SSH host key is not in known_hosts."""

    retryable = False


class HostKeyChanged(ConnectError):
    """The SSH host key differs from known_hosts."""

    retryable = False


class AgentUnreachable(ConnectError):
    """The SSH connection works, the agent's port does not answer."""


class RelayRefused(ConnectError):
    """The agent on the way is no relay, or offers no such peer."""

    retryable = False


class RelayBusy(ConnectError):
    """The relay passes on as many connections as it may."""


class PeerUnreachable(ConnectError):
    """The relay answers, the peer behind it does not."""


class AgentKeyUnknown(ConnectError):
    """The agent's certificate is neither pinned nor proven by the invitation."""

    retryable = False


class AgentKeyChanged(ConnectError):
    """The agent's certificate differs from the pinned one."""

    retryable = False


class AgentRefused(ConnectError):
    """The agent does not trust our certificate."""

    retryable = False


class ProtocolMismatch(ConnectError):
    """The protocol ranges of agent and collector do not meet."""

    retryable = False


class ConnectionLost(ConnectError):
    """An open connection ended, or went silent."""


class AnswerOverdue(ConnectionLost):
    """The agent did not answer within the limit."""


class ModuleError(BackupError):
    """The agent cannot offer this module."""

    exit_code = 6


class ModuleUnknown(ModuleError):
    """The agent has no module of that name: as for a host or a snapshot that is not there."""

    exit_code = 4


class ModuleNotReady(ModuleError):
    """The module is absent or invalid on that host."""


class ModuleBusy(ModuleError):
    """Another lease holds the module."""

    retryable = True


class HookFailed(ModuleError):
    """A `before` hook failed on the host."""


class AgentBusy(BackupError):
    """The agent's limits are reached."""

    exit_code = 6
    retryable = True


class AgentMisbehaved(BackupError):
    """The agent sent what no honest agent sends; the pull ends, nothing of it is kept."""

    exit_code = 7


class TransferFailed(BackupError):
    """The transfer brought nothing."""

    exit_code = 8
    retryable = True


class PullOverdue(TransferFailed):
    """Listing or transferring took longer than its limit."""


class SandboxUnavailable(BackupError):
    """No sandbox works on this machine."""

    exit_code = 9


class StoreError(BackupError):
    """The store cannot be used."""

    exit_code = 10


class StoreMissing(StoreError):
    """The store is not there."""


class StoreBusy(StoreError):
    """Another collector holds the store's lock."""


class StoreFull(StoreError):
    """No space left."""

    retryable = True


class StoreReadOnly(StoreError):
    """The store cannot be written."""


class CommitOverdue(StoreError):
    """A commit took longer than its limit: the store's file system does not answer."""

    retryable = True


class ChoreOverdue(StoreError):
    """Work on the store gave no sign of life for too long: a file system does not answer."""

    retryable = True


class StoreDamaged(StoreError):
    """An object, a manifest or a log does not fit."""


class SnapshotDamaged(StoreDamaged):
    """The newest snapshot of a module, with that name and number, cannot be read."""

    def __init__(self, cause: str, name: str, sequence: int) -> None:
        super().__init__(cause, "`pyrsyncbackup pull` makes a full snapshot in its place")
        self.name = name
        self.sequence = sequence

    @property
    def note(self) -> str:
        """What is said of the pull that goes on without it."""
        return f"snapshot {self.name} is damaged: a full one was made in its place"


class CatalogError(BackupError):
    """The catalog cannot be used."""

    exit_code = 11


class CatalogLocked(CatalogError):
    """Another process holds the catalog's lock."""

    retryable = True


class CatalogFull(CatalogError):
    """No space left where the catalog is."""

    retryable = True


class CatalogDamaged(CatalogError):
    """The catalog is not a sound SQLite database."""


class CatalogMismatch(CatalogError):
    """The catalog is older than the store, or belongs to another store."""


class RestoreError(BackupError):
    """The target cannot take what is restored."""

    exit_code = 12


class CopyError(BackupError):
    """A second copy cannot be used."""

    exit_code = 16


class CopyMissing(CopyError):
    """There is no copy at that place."""


class CopyUnreachable(CopyError):
    """The server of the copy does not answer, or fails at what it is asked."""

    retryable = True


class CopyRefused(CopyError):
    """The server, or the file system, of the copy does not let us."""


class CopyFull(CopyError):
    """No space left for the copy."""

    retryable = True


class CopySealed(CopyError):
    """The copy is encrypted, and the key that is needed is not there."""


class CopyDamaged(CopyError):
    """Something in the copy does not fit."""


class ClockDoubtful(BackupError):
    """The clock moved in a way that would let snapshots expire which should not."""


class Cancelled(BackupError):
    """Asked to stop."""

    exit_code = 130
