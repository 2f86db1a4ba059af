"""Every failure the agent can name; `statuses` turns them into gRPC statuses, `cli` into exit codes.

AgentError
├── SettingsError          agent.toml or an option is wrong (all problems at once)
├── IdentityError          key, certificate or invitation cannot be read or written
├── ModuleError
│   ├── ModuleUnknown      no definition of that name
│   ├── ModuleNotReady     absent or invalid
│   ├── ModuleBusy         another lease holds it
│   └── HookFailed         a `before` hook failed; carries the tail of its output
├── SessionUnknown         the token is not, or no longer, that of an open lease of this client
├── TooManySessions        a limit is reached
├── RestoreRefused         this agent takes no restore, or not this one
├── RelayDisabled          this agent passes no connections on
├── PeerUnknown            no peer of that name
├── PeerUnreachable        no connection to the peer, or it broke
├── BadRequest             the client's request makes no sense
├── RsyncFailed            the rsync daemon could not be started
└── ShuttingDown           no new work
"""

from __future__ import annotations


class AgentError(Exception):
    """A failure with its cause in plain words and the next step."""

    exit_code = 1

    def __init__(self, cause: str, hint: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.hint = hint

    def __str__(self) -> str:
        """One line: the cause, then the next step."""
        return f"{self.cause} ({self.hint})" if self.hint else self.cause


class SettingsError(AgentError):
    """The configuration is wrong."""

    exit_code = 3

    def __init__(
        self, problems: list[str], hint: str = "correct the file, then run `pyrsyncbackup-agent check`"
    ) -> None:
        super().__init__("; ".join(problems), hint)
        self.problems = problems


class IdentityError(AgentError):
    """Key, certificate or invitation cannot be used."""

    exit_code = 4


class ModuleError(AgentError):
    """Something about one module."""

    exit_code = 5


class ModuleUnknown(ModuleError):
    """No definition of that name."""


class ModuleNotReady(ModuleError):
    """The module is absent or invalid."""


class ModuleBusy(ModuleError):
    """Another lease holds the module."""


class HookFailed(ModuleError):
    """A `before` hook failed."""


class SessionUnknown(AgentError):
    """The session token is not that of an open lease of this client."""


class TooManySessions(AgentError):
    """A limit on sessions or streams is reached."""


class RestoreRefused(AgentError):
    """No restore is taken here, or not under this name."""


class RelayDisabled(AgentError):
    """Connections are not passed on here."""


class PeerUnknown(AgentError):
    """No peer of that name."""


class PeerUnreachable(AgentError):
    """No connection to the peer, or it broke."""


class BadRequest(AgentError):
    """The client's request makes no sense."""


class RsyncFailed(AgentError):
    """The rsync daemon could not be started."""


class ShuttingDown(AgentError):
    """The agent is stopping."""
