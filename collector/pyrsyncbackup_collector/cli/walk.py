"""`host test`: the way to a host's agent, step by step, each with its time and its result."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import typer

from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.cli.hosts import HostArgument, host_app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.errors import BackupError
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.transport.direct import unreachable
from pyrsyncbackup_collector.transport.offer import ModuleOffer, ModuleState

if TYPE_CHECKING:
    from pyrsyncbackup_collector.transport.connections import Connections

T = TypeVar("T")

CONNECT_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step that was walked; `seconds` it took, what came of it, the error that ended the walk."""

    name: str
    seconds: float
    result: str
    error: BackupError | None = None


@dataclass
class Walk:
    """The steps so far; `told` is called after each."""

    told: Callable[[Step], None]
    steps: list[Step] = field(default_factory=list)
    clock: SystemClock = field(default_factory=SystemClock)

    def step(self, name: str, work: Callable[[], T], result: Callable[[T], str]) -> T:
        """Do `work`; raises its BackupError after it was told."""
        begin = self.clock.monotonic()
        try:
            value = work()
        except BackupError as error:
            self._add(Step(name, self.clock.monotonic() - begin, "failed", error))
            raise
        self._add(Step(name, self.clock.monotonic() - begin, result(value)))
        return value

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self.told(step)


@host_app.command("test", epilog=exit_codes(4, 5), short_help="Walk the way to a host's agent, step by step.")
def walk_to(name: HostArgument, as_json: JsonOption = False, config: ConfigOption = NOT_GIVEN) -> None:
    """Walk the way to a host's agent: name, TCP, SSH host key, login, agent's port, trust, protocol, modules.

    Each step is shown with its time; the first that fails with its cause and the next step.
    """
    place = Workplace.load(config)
    host = place.fleet.host(name)
    steps = Walk((lambda _: None) if as_json else _show)
    failure: BackupError | None = None
    try:
        with place.connections() as connections:
            walk(host, connections, steps)
    except BackupError as error:
        if not steps.steps or steps.steps[-1].error is not error:
            raise
        failure = error
    if as_json:
        screen.json({"host": name, "ok": failure is None, "steps": [_document(step) for step in steps.steps]})
    if failure is not None:
        raise typer.Exit(failure.exit_code)


def walk(host: Host, connections: Connections, steps: Walk) -> None:
    """Walk; raises the BackupError of the step that failed."""
    direct = host.transport == "direct"
    port, what = (host.agent_port, "the agent") if direct else (host.ssh.port, "sshd")
    steps.step("name", lambda: _resolve(host.address, port, what), ", ".join)
    steps.step("tcp", lambda: _connect(host.address, port, what), lambda _: f"port {port} answers")
    with ExitStack() as stack:
        if not direct:
            steps.step("ssh host key", lambda: connections.host_key(host), lambda key: f"{key.kind}, the known one")
            steps.step(
                "ssh login",
                lambda: stack.enter_context(connections.endpoint(host)),
                lambda _: f"as {host.ssh.user}, forwarding to port {host.agent_port}",
            )
        agent = steps.step(
            "agent",
            lambda: stack.enter_context(connections.agent(host, now=True)),
            lambda _: "its key is the pinned one, and it trusts ours",
        )
        steps.step("protocol", agent.checked_info, lambda info: f"agent {info.version}, rsync {info.rsync_version}")
        steps.step("modules", agent.modules, _count)


def _resolve(address: str, port: int, what: str) -> list[str]:
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise unreachable(error, address, port, what) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _connect(address: str, port: int, what: str) -> None:
    try:
        socket.create_connection((address, port), CONNECT_TIMEOUT).close()
    except OSError as error:
        raise unreachable(error, address, port, what) from error


def _count(modules: list[ModuleOffer]) -> str:
    counts = [(state.value, sum(1 for module in modules if module.state is state)) for state in ModuleState]
    return ", ".join(f"{count} {state}" for state, count in counts if count) or "none"


def _show(step: Step) -> None:
    failed = step.error is not None
    mark = screen.text("failed" if failed else "ok", screen.BAD if failed else screen.GOOD)
    took = screen.text(f"{amounts.took(step.seconds):>8}", screen.QUIET)
    screen.fields((14, screen.text(step.name)), (7, mark), (9, took), (0, screen.text("" if failed else step.result)))
    if step.error is not None:
        screen.error(step.error.cause, step.error.hint)


def _document(step: Step) -> dict[str, object]:
    return {
        "step": step.name,
        "ok": step.error is None,
        "seconds": round(step.seconds, 6),
        "result": step.result,
        "cause": step.error.cause if step.error else None,
        "hint": step.error.hint if step.error else None,
    }
