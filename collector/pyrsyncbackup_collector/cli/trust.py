"""`host trust`: making a host's two keys known, that of its SSH server and that of its agent."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.cli.hosts import HostArgument, host_app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, exit_codes
from pyrsyncbackup_collector.cli.status import is_alive
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.errors import (
    AgentKeyChanged,
    AgentKeyUnknown,
    BackupError,
    HostKeyChanged,
    HostKeyUnknown,
    UsageError,
)
from pyrsyncbackup_collector.fleet.hosts import Host, ways

if TYPE_CHECKING:
    from pyrsyncbackup_collector.transport.connections import Connections, Inspection


@host_app.command("trust", epilog=exit_codes(4, 5), short_help="Accept a host's keys.")
def trust(
    name: HostArgument,
    ssh_fingerprint: Annotated[
        str, typer.Option("--ssh-fingerprint", metavar="F", help="Of the SSH host key: `ssh-keygen -lf` there.")
    ] = "",
    fingerprint: Annotated[
        str, typer.Option("--fingerprint", metavar="F", help="Of the agent: `pyrsyncbackup-agent identity` there.")
    ] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Also where another key is known already.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Accept what is shown, compared by nobody.")] = False,
    config: ConfigOption = NOT_GIVEN,
) -> None:
    """Show the keys of a host's SSH server and of its agent, and trust what was given or is confirmed.

    An agent that accepted an invitation of ours proves itself: its key needs no fingerprint.
    """
    if ssh_fingerprint and not ssh_fingerprint.startswith("SHA256:"):
        raise UsageError("a fingerprint of an SSH key begins with SHA256:", "`ssh-keygen -lf` shows it")
    place = Workplace.load(config)
    host = place.fleet.host(name)
    consent = Consent(host, yes=yes, replace=replace)
    with place.connections() as connections:
        shown = connections.inspect(host)
        if _trust_ssh(connections, host, shown, consent, ssh_fingerprint):
            shown = connections.inspect(host)
        if not host.enabled and shown.agent_certificate is None and not fingerprint:
            screen.facts([("agent", "none answers, none is needed: the host is a way for others (enabled = false)")])
        else:
            trust_agent(connections, host, shown, consent, fingerprint)
    _check_soon(place, host)


def _check_soon(place: Workplace, host: Host) -> None:
    """Let a daemon check the host and those reached through it at once: after failures it would wait for long."""
    behind = [each.name for each in place.fleet.hosts if each.enabled and host.name in ways(each)]
    # No store or catalog, no daemon: trust does not depend on them.
    with contextlib.suppress(BackupError), place.catalog() as catalog:
        if behind and is_alive(catalog.daemon(), SystemClock().now()):
            for name in behind:
                catalog.request(name, kind="check")
            others = f" and {amounts.counted(len(behind) - 1, 'host')} behind it" if len(behind) > 1 else ""
            screen.note(f"the daemon checks it{others} now")


# What prints the same fingerprint on the host.
_SHOWN_BY = {"--fingerprint": "pyrsyncbackup-agent identity", "--ssh-fingerprint": "ssh-keygen -lf KEY.pub"}


class Consent:
    """Whether a key is the right one: by the fingerprint that was given, by --yes, or by asking."""

    def __init__(self, host: Host, *, yes: bool, replace: bool, command: str = "") -> None:
        """`command` is what to run with the fingerprint; `host trust` without it."""
        self._yes, self.replace = yes, replace
        self._command = command or f"host trust {host.name}"

    def need(self, what: str, shown: str, option: str, refusal: BackupError) -> None:
        """Return if the administrator agrees to `shown`; raise `refusal` with the command that would."""
        if self._yes:
            return
        if not sys.stdin.isatty():
            again = " --replace" if self.replace else ""
            command = f"pyrsyncbackup {self._command} {option} {shown}{again}"
            raise type(refusal)(refusal.cause, f"compare it on the host (`{_SHOWN_BY[option]}`), then run: {command}")
        if not typer.confirm(f"Is this the {what} that the host itself shows?", err=True):
            raise type(refusal)("nothing was changed", "compare the fingerprints on the host")


def _trust_ssh(connections: Connections, host: Host, shown: Inspection, consent: Consent, given: str) -> bool:
    """Make the SSH host key known; whether anything changed."""
    key, server = shown.ssh_key, shown.ssh_server
    if key is None or server is None:
        return False
    if shown.ssh_trusted:
        screen.facts([("SSH host key", f"{key}"), ("", "known already")])
        if given and given.rstrip("=") != key.fingerprint:
            raise HostKeyChanged(f"{host.name}: the server shows {key.fingerprint}, not {given}", "compare again")
        return False
    screen.facts([("SSH host key", f"{key}"), ("", f"of {server}")])
    problem = shown.problem or HostKeyUnknown(f"{host.name}: the SSH host key is not known")
    if isinstance(problem, HostKeyChanged) and not consent.replace:
        raise problem
    if given:
        if given.rstrip("=") != key.fingerprint:
            raise type(problem)(
                f"{host.name}: the SSH server shows {key.fingerprint}, not {given}",
                "somebody may be listening, or the fingerprint is that of another kind of key: `ssh-keygen -lf`",
            )
    else:
        consent.need("SSH host key", key.fingerprint, "--ssh-fingerprint", problem)
    connections.trust_ssh_key(host, server, key, replace=consent.replace)
    screen.facts([("", screen.text("known from now on", screen.GOOD))])
    return True


def trust_agent(connections: Connections, host: Host, shown: Inspection, consent: Consent, given: str) -> None:
    """Pin the agent's key that is shown: proven by an invitation, `given`, or agreed to. Raises BackupError."""
    from pyrsyncbackup import identity

    certificate = shown.agent_certificate
    if certificate is None:
        raise shown.problem or BackupError(f"{host.name}: the agent shows no certificate")
    screen.facts([("agent's key", shown.agent_fingerprint)])
    changed = shown.pinned_certificate is not None and not shown.agent_trusted
    if given and not identity.same_fingerprint(given, certificate):
        raise AgentKeyUnknown(
            f"{host.name}: the agent shows {shown.agent_fingerprint}, not {given}",
            "`pyrsyncbackup-agent identity` on the host prints the right one",
        )
    if shown.agent_trusted:
        screen.facts([("", "pinned already")])
        return
    if changed and not consent.replace:
        assert shown.pinned_certificate is not None  # noqa: S101 - or nothing changed
        raise connections.changed(host, shown.pinned_certificate, certificate)
    if given:
        how = "the given fingerprint"
    elif shown.proven and not changed:
        how = "the invitation that it accepted"
    else:
        kind = AgentKeyChanged if changed else AgentKeyUnknown
        unproven = "is not trusted yet: it did not prove an invitation that counts here, and"
        known = "has changed, and the new one" if changed else unproven
        refusal = kind(f"{host.name}: the agent's key {known} was confirmed by nobody")
        consent.need("agent's key", shown.agent_fingerprint, "--fingerprint", refusal)
        how = "your word"
    connections.pin(host, certificate, replace=consent.replace)
    screen.facts([("", screen.text(f"pinned, proven by {how}", screen.GOOD))])
