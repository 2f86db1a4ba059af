"""The argument vectors of OpenSSH's client, and what it says of its own configuration, as pure values.

What the user's ssh_config says of a server counts, but for what would disturb: options on the command line come first.
Passed are those that make the client ask nothing, start nothing and listen nowhere but where it is told, and what our
own configuration names. Which host keys are right is decided in `trusting`.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.transport.host_keys import Known, Server

PROXY = Path(__file__).with_name("openssh_proxy.py")

# Two probes without an answer, then the end: a dead path is found after 27 s.
ALIVE_INTERVAL = 9
ALIVE_COUNT = 2

# An option of our own stands before the same one in the user's file.
_QUIET = (
    "BatchMode=yes",
    "UpdateHostKeys=no",
    "NoHostAuthenticationForLocalhost=no",
    "ClearAllForwardings=yes",
    "ExitOnForwardFailure=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "GSSAPIDelegateCredentials=no",
    "Tunnel=no",
    "AddKeysToAgent=no",
    "VisualHostKey=no",
    "ConnectionAttempts=1",
    # What passes is encrypted already.
    "Compression=no",
    # The level at which the client says which connection could not be forwarded.
    "LogLevel=DEBUG1",
)
# Up to twice as fast as ChaCha20, which stands first by default.
_FAST = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
_KINDS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user's configuration comes to for one server, as `ssh -G` says it; lists as they stand there."""

    hostname: str
    port: int
    user: str
    alias: str = ""
    identities: tuple[str, ...] = ()
    known_hosts: tuple[str, ...] = ()
    host_key_algorithms: tuple[str, ...] = ()
    ciphers: tuple[str, ...] = ()
    proxied: bool = False
    detaches: bool = False
    asks_for_host_keys: bool = False

    def server(self, jump: str = "") -> Server:
        """The server as known_hosts names it."""
        return Server(self.alias, 22, jump) if self.alias else Server(self.hostname, self.port, jump)


def settings(lines: Iterable[str]) -> Settings:
    """What `ssh -G` printed. Raises KeyError or ValueError if it is something else."""
    values: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(" ")
        values.setdefault(name.lower(), []).append(value)

    def one(name: str, default: str = "") -> str:
        return values.get(name, [default])[0]

    return Settings(
        hostname=values["hostname"][0],
        port=int(values["port"][0]),
        user=values["user"][0],
        alias=one("hostkeyalias"),
        identities=tuple(values.get("identityfile", ())),
        known_hosts=tuple(one("userknownhostsfile").split()),
        host_key_algorithms=tuple(one("hostkeyalgorithms").split(",")),
        ciphers=tuple(one("ciphers").split(",")),
        proxied=one("proxyjump", "none") != "none" or one("proxycommand", "none") != "none",
        detaches=one("forkafterauthentication", "no") != "no",
        asks_for_host_keys=one("knownhostscommand", "none") != "none",
    )


def explain(host: Host) -> list[str]:
    """Ask what the user's configuration says of the host's server; nothing is connected."""
    return ["ssh", "-G", *_destination(host)]


def explain_defaults() -> list[str]:
    """Ask what holds without any configuration."""
    return ["ssh", "-F", "none", "-G", "--", "localhost"]


def master(
    host: Host,
    control: Path,
    found: Settings,
    default_ciphers: tuple[str, ...],
    trust: Mapping[str, str],
    timeout: float,
    through: str | None = None,
) -> list[str]:
    """The connection itself: it logs in, then waits at the socket `control` for what it shall forward.

    `trust` is what `trusting` returned. `through` is a Unix socket that leads to the server's port.
    """
    options = {
        "ControlMaster": "yes",
        "ControlPath": _value(control),
        "ControlPersist": "no",
        "StrictHostKeyChecking": "yes",
        "ServerAliveInterval": str(ALIVE_INTERVAL),
        "ServerAliveCountMax": str(ALIVE_COUNT),
        **trust,
    }
    if found.ciphers == default_ciphers:
        options["Ciphers"] = ",".join(_first(_FAST, found.ciphers))
    keys = _keys(host, found)
    return ["ssh", "-N", *_common(found, timeout, through), *_options(options), *keys, *_destination(host)]


def show_key(
    host: Host, file: Path, found: Settings, known: Known, timeout: float, through: str | None = None
) -> list[str]:
    """Let the server show its host key, of a known kind if it can, and have it written to `file`; nobody logs in."""
    options = {
        "ControlMaster": "no",
        "ControlPath": "none",
        "StrictHostKeyChecking": "accept-new",
        "UserKnownHostsFile": _value(file),
        "GlobalKnownHostsFile": "/dev/null",
        "HashKnownHosts": "no",
        "CheckHostIP": "no",
        "VerifyHostKeyDNS": "no",
        "PreferredAuthentications": "none",
    }
    if found.asks_for_host_keys:
        options["KnownHostsCommand"] = "none"
    if known.keys:
        wanted = [name for kind in known.kinds() for name in _KINDS.get(kind, (kind,))]
        options["HostKeyAlgorithms"] = ",".join(_first(wanted, found.host_key_algorithms))
    return ["ssh", "-N", *_common(found, timeout, through), *_options(options), *_destination(host)]


def forward(control: Path, path: Path, address: str, port: int) -> list[str]:
    """Have a running master listen at `path` for connections to `address`:`port`."""
    return _ask_master(control, "forward", path, address, port)


def cancel(control: Path, path: Path, address: str, port: int) -> list[str]:
    """Have a running master listen there no longer; connections that are open stay."""
    return _ask_master(control, "cancel", path, address, port)


def trusting(
    known: Known, own: Path, server: Server, named: Path | None, found: Settings, revoked: Path | None
) -> dict[str, str]:
    """The options that say where the right host key of `server` stands; none where the user's configuration says it.

    Our file, `own`, decides alone for a server that it knows; after it the file that our configuration names. `revoked`
    is a file that marks the keys as such that are revoked in any file that we read.
    """
    options, files = {}, [_value(file) for file in (revoked,) if file]
    if known.file == own:
        files.append(_value(own))
        options = {"HostKeyAlias": server.own_name, "CheckHostIP": "no", "VerifyHostKeyDNS": "no"}
    elif named is not None:
        files.append(_value(named))
        options = {"VerifyHostKeyDNS": "no"}
    elif files:
        files += [file for file in found.known_hosts if file != "none"]
    if options:
        options["GlobalKnownHostsFile"] = "/dev/null"
        if found.asks_for_host_keys:
            options["KnownHostsCommand"] = "none"
    if files:
        options["UserKnownHostsFile"] = " ".join(files)
    return options


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The client's environment: messages that we can read, and no window or program that asks for a passphrase.

    It runs what its configuration names by $SHELL, which is nologin for a service's user.
    """
    kept = {name: value for name, value in inherited.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return {**kept, "LC_ALL": "C", "SHELL": "/bin/sh", "SSH_ASKPASS_REQUIRE": "never"}


def _common(found: Settings, timeout: float, through: str | None) -> list[str]:
    argv = [part for option in _QUIET for part in ("-o", option)]
    options = {"ConnectTimeout": str(math.ceil(timeout))}
    if found.detaches:  # older releases do not know it
        options["ForkAfterAuthentication"] = "no"
    if through is not None:
        proxy = shlex.join([sys.executable, "-IS", str(PROXY), through])
        options.update(ProxyCommand=proxy.replace("%", "%%"), ProxyUseFdpass="yes")
    return [*argv, *_options(options)]


def _keys(host: Host, found: Settings) -> list[str]:
    """The keys to log in with: the one that our configuration names, or else ours after the user's.

    A key on the command line is tried first, and the usual ones no longer: so all are named.
    """
    if not host.ssh.more_keys:
        return _options({"IdentitiesOnly": "yes", "IdentityFile": _value(host.ssh.key)})
    if not host.ssh.key.exists():
        return []
    users = [part for file in found.identities for part in _options({"IdentityFile": _quoted(file)})]
    return [*users, *_options({"IdentityFile": _value(host.ssh.key)})]


def _destination(host: Host) -> list[str]:
    argv = ["-l", host.ssh.user] if host.ssh.user else []
    if host.ssh.port:
        argv += ["-p", str(host.ssh.port)]
    return [*argv, "--", host.address]


def _ask_master(control: Path, what: str, path: Path, address: str, port: int) -> list[str]:
    local = str(path).replace("\\", "\\\\").replace(":", "\\:")
    remote = f"[{address}]" if ":" in address else address
    # Without the user's file, whose forwards would be asked for, too. A destination is wanted, and not used.
    control_path = str(control).replace("%", "%%")
    return ["ssh", "-F", "none", "-S", control_path, "-O", what, "-L", f"{local}:{remote}:{port}", "--", "localhost"]


def _options(options: Mapping[str, str]) -> list[str]:
    return [part for name, value in options.items() for part in ("-o", f"{name}={value}")]


def _value(path: Path) -> str:
    """A path as a value of an option, in which % begins a token."""
    return _quoted(os.fspath(path).replace("%", "%%"))


def _quoted(value: str) -> str:
    return f'"{value}"' if " " in value else value


def _first(wanted: Sequence[str], names: Sequence[str]) -> list[str]:
    """`names` with those of `wanted` first; none is added."""
    return [*(name for name in wanted if name in names), *(name for name in names if name not in wanted)]
