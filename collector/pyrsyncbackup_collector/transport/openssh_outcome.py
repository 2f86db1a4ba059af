"""What the end of OpenSSH's client means: its last lines as one of our errors."""

from __future__ import annotations

import errno
import os
import re
import socket

from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import ConnectError, ConnectionLost, HostKeyChanged, HostUnreachable, SshRefused
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.transport.direct import unreachable
from pyrsyncbackup_collector.transport.host_keys import HostKey, Server
from pyrsyncbackup_collector.transport.openssh_command import Settings
from pyrsyncbackup_collector.transport.openssh_messages import Said

_UNRESOLVED = re.compile(r"(?:ssh: )?Could not resolve hostname (\S+): (.*)")
_UNCONNECTED = re.compile(r"(?:ssh: )?connect to (?:host|address) (\S+) port (\d+): (.*)")
_DENIED = re.compile(r"(?:\S+: )?Permission denied \(([^)]*)\)\.?")
_NEGOTIATION = re.compile(r"Unable to negotiate with .*?: (.*)")
_KEY_PROBLEM = re.compile(r"Load key .*|.*: agent refused operation.*|sign_and_send_pubkey: .*|no such identity: .*")
_CONFIG_PROBLEM = re.compile(r"(.*: )?(line \d+: .*|Bad owner or permissions on .*|Bad configuration.*)")
_TERMINATING = re.compile(r": terminating, \d+ bad configuration options$")
# What the client says when the far end of a ProxyCommand or ProxyJump has ended, and how it names that.
_NOISE = re.compile(
    r"(kex_exchange_identification|ssh_dispatch_run_fatal|banner exchange|mm_receive_fd): .*"
    r"|stdio forwarding failed|proxy dialer did not pass back a connection"
    r"|Connection (closed|reset) by UNKNOWN port 65535|Connection to UNKNOWN port 65535 .*"
)
_HOST_KEY = "Host key verification failed."
_CHANGED = "REMOTE HOST IDENTIFICATION HAS CHANGED"
_OFFENDING = re.compile(r"(?:Offending .* key|Add correct host key) in (\S+?):?\d*$")
_ERRNO = {os.strerror(number): number for number in errno.errorcode}


def not_explained(host: Host, said: Said) -> ConnectError:
    """Why `ssh -G` failed."""
    return SshRefused(f"{host.name}: ssh cannot use its configuration: {_last(said)}", "correct the user's ssh_config")


def about_host_key(said: Said) -> bool:
    """Whether the client did not accept the host key, of this server or of one on the way."""
    return _own_words(said)[-1:] == [_HOST_KEY]


def host_key_changed(said: Said) -> bool:
    """Whether it did so because it knows another one."""
    return any(_CHANGED in line for line in said.lines)


def host_key_changed_elsewhere(host: Host, server: Server, key: HostKey, said: Said) -> HostKeyChanged:
    """A file that only the client reads has another key."""
    where = [match[1] for line in said.lines if (match := _OFFENDING.search(line))]
    return HostKeyChanged(
        f"{host.name}: THE SSH HOST KEY OF {server} HAS CHANGED: {', '.join(where[:1]) or 'ssh'} has another one, "
        f"the server now shows {key}",
        f"somebody may be listening; if it was set up anew: `pyrsyncbackup host trust {host.name} --replace`",
    )


def host_key_refused(host: Host, said: Said) -> SshRefused:
    """The client does not accept a host key that our files do not speak against."""
    words = [line for line in _own_words(said) if line.strip("@ ") and line != _HOST_KEY]
    return SshRefused(
        f"{host.name}: ssh does not accept the SSH host key: {' '.join(words[-3:]) or _HOST_KEY}",
        f"correct the user's known_hosts, or ssh_config: {_compare(host)}",
    )


def login_failure(host: Host, found: Settings, said: Said, *, proxied: bool, timeout: float = 0) -> ConnectError:
    """Why the client came to no login. `timeout`: it was ended after so many seconds."""
    name = host.name
    if proxied and (failure := _way_failure(host, said)):
        return failure
    for line in reversed(said.lines):
        if match := _UNRESOLVED.fullmatch(line):
            return _named(host, unreachable(socket.gaierror(0, match[2]), match[1], found.port, "the SSH server"))
        if match := _UNCONNECTED.fullmatch(line):
            error = OSError(_ERRNO.get(match[3], 0), match[3])
            return _named(host, unreachable(error, match[1], int(match[2]), "the SSH server"))
        if match := _DENIED.fullmatch(line):
            return _denied(host, found, said, match[1].split(","))
        if "Too many authentication failures" in line:
            return SshRefused(
                f"{name}: the SSH server refuses user {printable(found.user)} after too many keys: {_tried(said)}",
                "name the right one, in the host's `ssh.key` or with IdentitiesOnly in ssh_config",
            )
        if match := _NEGOTIATION.fullmatch(line):
            return SshRefused(f"{name}: no common SSH algorithms: {match[1]}", "update the host's SSH server")
        if _CONFIG_PROBLEM.fullmatch(line):
            return not_explained(host, said)
    words = (_own_words(said) or list(said.lines))[-1:]
    if timeout:
        words.insert(0, f"no answer within {timeout:.0f} s")
    return HostUnreachable(
        f"{name}: {found.hostname}:{found.port} ended the connection during the SSH login"
        + "".join(f": {w}" for w in words),
        "is it an SSH server, and below its MaxStartups?",
    )


def lost(host: Host, said: Said) -> ConnectionLost:
    """An open connection has ended."""
    words = [line for line in said.lines if "open failed" not in line]
    why = f": {words[-1]}" if words else ""
    return ConnectionLost(f"{host.name}: the SSH connection was cut{why}", "it is made anew")


def not_started(host: Host, error: OSError) -> ConnectError:
    """The client cannot be started on this machine now."""
    return ConnectError(
        f"{host.name}: ssh cannot be started: {error.strerror or error}",
        "raise the limits of this machine or of the service (LimitNOFILE, TasksMax), or free some space",
    )


def not_forwarded(host: Host, said: Said) -> ConnectError:
    """The running client did not do what it was asked for."""
    return ConnectError(
        f"{host.name}: ssh could not forward: {_last(said)}", "is there space and are there free descriptors here?"
    )


def _way_failure(host: Host, said: Said) -> ConnectError | None:
    """What a ProxyJump or ProxyCommand of the user's said, if that is what failed."""
    if not any(_NOISE.fullmatch(line) and "UNKNOWN port 65535" in line for line in said.lines):
        return None
    words = _own_words(said)
    if not words:
        return None
    cause = f"{host.name}: the way to it, ProxyJump or ProxyCommand in ssh_config, fails: {' '.join(words[-2:])}"
    if any(_DENIED.fullmatch(line) or line == _HOST_KEY for line in words):
        return SshRefused(cause, _compare(host))
    return HostUnreachable(cause, _compare(host))


def _denied(host: Host, found: Settings, said: Said, methods: list[str]) -> SshRefused:
    user = printable(found.user)
    if said.partial:
        return SshRefused(
            f"{host.name}: the SSH server wants more than a key from {user}: {', '.join(methods)}",
            "allow `AuthenticationMethods publickey` for that user",
        )
    if "publickey" not in methods:
        return SshRefused(
            f"{host.name}: the SSH server lets {user} in by {', '.join(filter(None, methods)) or 'no method'} only",
            "allow `PubkeyAuthentication` for that user",
        )
    if said.accepted:
        return SshRefused(
            f"{host.name}: ssh cannot use the key {said.accepted}, which the SSH server would take from {user}",
            "if it has a passphrase, run `ssh-add` with SSH_AUTH_SOCK set here too; if it is on a device, plug that in",
        )
    problems = "".join(f"; {line}" for line in said.lines if _KEY_PROBLEM.fullmatch(line))
    return SshRefused(
        f"{host.name}: the SSH server refuses user {user} with {_tried(said)}{problems}",
        "add the key that `pyrsyncbackup invitation` prints to that user's authorized_keys",
    )


def _own_words(said: Said) -> list[str]:
    """What was said, without what only tells that a proxy has ended."""
    return [line for line in said.lines if not _NOISE.fullmatch(line)]


def _tried(said: Said) -> str:
    if not said.offered:
        return "no key, since none could be read"
    return ("the key " if len(said.offered) == 1 else "the keys ") + ", ".join(said.offered)


def _named(host: Host, failure: HostUnreachable) -> HostUnreachable:
    return HostUnreachable(f"{host.name}: {failure.cause}", failure.hint)


def _last(said: Said) -> str:
    lines = [line for line in said.lines if not _TERMINATING.search(line)]
    return lines[-1] if lines else "it says nothing"


def _compare(host: Host) -> str:
    return f"compare `ssh -v {host.address}` by the same user"
