"""`host test`: the way to a host's agent, hop by hop and step by step, each with its time and its result."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import typer

from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.cli.hosts import HostArgument, host_app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.errors import BackupError, ConnectError
from pyrsyncbackup_collector.fleet import Host, hops, link_hops
from pyrsyncbackup_collector.transport.direct import unreachable
from pyrsyncbackup_collector.transport.offer import ModuleOffer, ModuleState

if TYPE_CHECKING:
    from pyrsyncbackup_collector.transport.agent_client import AgentClient
    from pyrsyncbackup_collector.transport.connections import Connections

T = TypeVar("T")

CONNECT_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step that was walked; `seconds` it took, what came of it, the error that ended the walk.

    `hop` counts from 1; `to` says what that hop leads to.
    """

    hop: int
    to: str
    name: str
    seconds: float
    result: str
    error: BackupError | None = None


@dataclass
class Walk:
    """The steps so far; `told` is called after each."""

    told: Callable[[Step], None]
    steps: list[Step] = field(default_factory=list)
    host: str = ""
    hops: int = 1
    clock: SystemClock = field(default_factory=SystemClock)
    hop: int = 1
    to: str = ""

    def begin(self, hop: int, to: str) -> None:
        """From here on the steps are of this hop."""
        self.hop, self.to = hop, to

    def step(self, name: str, work: Callable[[], T], result: Callable[[T], str]) -> T:
        """Do `work`; raises its BackupError after it was told."""
        begin = self.clock.monotonic()
        try:
            value = work()
        except ConnectError as error:
            # Whatever rests upon what: for who walks it is one way, and he is at this hop of it.
            error.hop = self.hop
            placed = error.placed(self.host, self.hops)
            self._add(Step(self.hop, self.to, name, self.clock.monotonic() - begin, "failed", placed))
            raise placed from error
        except BackupError as error:
            self._add(Step(self.hop, self.to, name, self.clock.monotonic() - begin, "failed", error))
            raise
        self._add(Step(self.hop, self.to, name, self.clock.monotonic() - begin, result(value)))
        return value

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self.told(step)


@host_app.command("test", epilog=exit_codes(4, 5), short_help="Walk the way to a host's agent, step by step.")
def walk_to(name: HostArgument, as_json: JsonOption = False, config: ConfigOption = NOT_GIVEN) -> None:
    """Walk the way to a host's agent: name, TCP, SSH host key, login, agent's port, trust, protocol, modules.

    Where it leads over jump hosts and relays, hop by hop. Each step is shown with its time; the first that fails with
    its cause and the next step. Of several ways each is walked until one works.
    """
    place = Workplace.load(config)
    host = place.fleet.host(name)
    shown = _Shown(hops(host))
    steps = Walk((lambda _: None) if as_json else shown.step, host=name, hops=hops(host))
    failure: BackupError | None = None
    try:
        with place.connections() as connections:
            walk(host, connections, steps)
    except BackupError as error:
        if not steps.steps or steps.steps[-1].error is None:
            raise
        failure = error
    if as_json:
        screen.json({"host": name, "ok": failure is None, "steps": [_document(step) for step in steps.steps]})
    if failure is not None:
        raise typer.Exit(failure.exit_code)


def walk(host: Host, connections: Connections, steps: Walk) -> None:
    """Walk; raises the BackupError of the step that failed."""
    with ExitStack() as stack:
        if _is_only_a_way(host) and not connections.is_pinned(host):
            _to_ssh_server(host, connections, steps, stack)
            screen.note(f"{host.name} is a way for others (enabled = false); its agent, if any, is not asked")
            return
        agent = _to_agent(host, connections, steps, stack)
        steps.step("protocol", agent.checked_info, lambda info: f"agent {info.version}, rsync {info.rsync_version}")
        steps.step("modules", agent.modules, _count)


def _is_only_a_way(host: Host) -> bool:
    return not host.enabled and host.transport in ("sshtunnel", "openssh")


def _to_agent(host: Host, connections: Connections, steps: Walk, stack: ExitStack) -> AgentClient:
    """Walk to the agent of `host`; what was opened stays open in `stack`."""
    if host.via:
        _through_relay(host, connections, steps, stack)
    elif host.transport == "direct":
        steps.begin(1, f"direct to {host.name}")
        _to_port(host.address, host.agent_port, "the agent", steps)
    else:
        _to_ssh_server(host, connections, steps, stack)
    return steps.step(
        "agent",
        lambda: stack.enter_context(connections.agent(host, now=True)),
        lambda _: "its key is the pinned one, and it trusts ours",
    )


def _through_relay(host: Host, connections: Connections, steps: Walk, stack: ExitStack) -> None:
    """Walk to the first relay that passes us on to `host`."""
    for number, relay in enumerate(host.via, start=1):
        with ExitStack() as attempt:
            try:
                _to_agent(relay, connections, steps, attempt)
                steps.begin(hops(host, relay), f"relay {relay.name} to {host.name}")
                steps.step(
                    "relay",
                    partial(_try_passage, host, relay, connections),
                    lambda _, relay=relay: f"{relay.name} passes us on to {host.peer}",  # type: ignore[misc]
                )
            except ConnectError:
                if number == len(host.via):
                    raise
                continue
            stack.push(attempt.pop_all())
            return


def _try_passage(host: Host, relay: Host, connections: Connections) -> None:
    """Only for a moment: the relay may have room for one connection of ours."""
    with connections.endpoint(host, relay):
        pass


def _to_ssh_server(host: Host, connections: Connections, steps: Walk, stack: ExitStack) -> None:
    """Walk to the SSH server of `host` and log in there."""
    if host.ssh.jump is not None:
        _to_ssh_server(host.ssh.jump, connections, steps, stack)
    steps.begin(link_hops(host), f"{'openssh' if host.transport == 'openssh' else 'ssh'} to {host.name}")
    # Of what is in the user's ssh_config, and of what a jump host reaches, nothing can be tried from here.
    if host.ssh.jump is None and host.transport != "openssh":
        _to_port(host.address, host.ssh.port, "sshd", steps)
    steps.step("ssh host key", lambda: connections.host_key(host), lambda key: f"{key.kind}, the known one")
    steps.step(
        "ssh login",
        lambda: stack.enter_context(connections.link(host, now=True)),
        lambda _: f"as {host.ssh.user}" if host.ssh.user else "as your ssh_config says",
    )


def _to_port(address: str, port: int, what: str, steps: Walk) -> None:
    steps.step("name", lambda: _resolve(address, port, what), ", ".join)
    steps.step("tcp", lambda: _connect(address, port, what), lambda _: f"port {port} answers")


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


class _Shown:
    """The steps as lines; where there are several hops each begins with a line of its own."""

    def __init__(self, hops: int) -> None:
        self._hops, self._last = hops, (0, "")

    def step(self, step: Step) -> None:
        """One line, and the error below it."""
        if self._hops > 1 and (step.hop, step.to) != self._last:
            self._last = step.hop, step.to
            screen.say(f"hop {step.hop} of {max(self._hops, step.hop)}: {step.to}", screen.TITLE)
        failed = step.error is not None
        mark = screen.text("failed" if failed else "ok", screen.BAD if failed else screen.GOOD)
        took = screen.text(f"{amounts.took(step.seconds):>8}", screen.QUIET)
        result = screen.text("" if failed else step.result)
        screen.fields((14, screen.text(step.name)), (7, mark), (9, took), (0, result))
        if step.error is not None:
            screen.error(step.error.cause, step.error.hint)


def _document(step: Step) -> dict[str, object]:
    return {
        "hop": step.hop,
        "to": step.to,
        "step": step.name,
        "ok": step.error is None,
        "seconds": round(step.seconds, 6),
        "result": step.result,
        "cause": step.error.cause if step.error else None,
        "hint": step.error.hint if step.error else None,
    }
