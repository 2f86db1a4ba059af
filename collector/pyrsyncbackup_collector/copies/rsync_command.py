"""The argument vectors of rsync for a copy on another machine, and the ssh_config that goes with them; pure values.

Files are named by NUL-separated lists, never on the command line. The place itself has only characters that need no
quoting (`config.copies`); paths of ours, which may have any, stand in the ssh_config.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pyrsyncbackup_collector.config.copies import SshPlace

# A line that is dead is found after so many seconds without a byte.
SILENCE: Final = 120
# Answered by the server: three probes without an answer are the end.
_ALIVE: Final = 15

_BASIC: Final = ("rsync", "--from0", "--no-motd", f"--timeout={SILENCE}")


def ssh_config(place: SshPlace, key: Path | None, known_hosts: Sequence[Path], control: Path, timeout: float) -> str:
    """What OpenSSH shall go by: first this, then the user's and the system's own configuration."""
    lines = [
        "Host *",
        "  BatchMode yes",
        "  StrictHostKeyChecking yes",
        "  UpdateHostKeys no",
        f"  UserKnownHostsFile {' '.join(_quoted(file) for file in known_hosts) or '/dev/null'}",
        "  ClearAllForwardings yes",
        "  PermitLocalCommand no",
        "  RemoteCommand none",
        "  RequestTTY no",
        "  ForwardAgent no",
        "  Compression no",
        "  LogLevel ERROR",
        f"  ConnectTimeout {max(1, round(timeout))}",
        f"  ServerAliveInterval {_ALIVE}",
        "  ServerAliveCountMax 3",
        # One login for all that a round asks.
        "  ControlMaster auto",
        f"  ControlPath {_quoted(control)}",
        "  ControlPersist 60",
    ]
    if key is not None:
        lines.append(f"  IdentityFile {_quoted(key)}")
    if place.user:
        lines.append(f"  User {place.user}")
    if place.port:
        lines.append(f"  Port {place.port}")
    return "\n".join([*lines, "Include ~/.ssh/config", "Include /etc/ssh/ssh_config", ""])


def upload(place: SshPlace, config: Path, root: Path, names: Path, *, replace: bool, durable: bool = True) -> list[str]:
    """Bring root/NAME of each name in the file `names`; with `replace` also over what is there."""
    how = ["--ignore-times"] if replace else ["--ignore-existing"]
    if durable:
        how.append("--fsync")
    return [*_BASIC, *_remote_shell(config), *how, *_MODES, f"--files-from={names}", f"{root}/", _remote(place)]


def sizes(place: SshPlace, config: Path, nothing: Path, names: Path) -> list[str]:
    """List those of the names that are there; into the directory `nothing` nothing is written."""
    return [
        *_BASIC,
        *_remote_shell(config),
        *_LISTING,
        "--ignore-missing-args",
        f"--files-from={names}",
        _remote(place),
        f"{nothing}/",
    ]


def listing(place: SshPlace, config: Path, prefix: str) -> list[str]:
    """List all below a directory."""
    return [*_BASIC, *_remote_shell(config), *_LISTING, "--recursive", _remote(place, prefix)]


def download(place: SshPlace, config: Path, root: Path, names: Path) -> list[str]:
    """Bring those of the names that are there to root/NAME."""
    how = ["--ignore-missing-args", "--ignore-times", *_MODES]
    return [*_BASIC, *_remote_shell(config), *how, f"--files-from={names}", _remote(place), f"{root}/"]


def delete(place: SshPlace, config: Path, nothing: Path, names: Path) -> list[str]:
    """Remove each of the names: they are missing in the directory `nothing`, which has their parents only."""
    how = ["--delete-missing-args", "--dirs", *_MODES]
    return [*_BASIC, *_remote_shell(config), *how, f"--files-from={names}", f"{nothing}/", _remote(place)]


def end(place: SshPlace, config: Path) -> list[str]:
    """End the connection that waits for more work."""
    return ["ssh", "-F", os.fspath(config), "-O", "exit", "--", place.host]


_MODES: Final = ("--whole-file", "--chmod=D700,F600", "--no-implied-dirs")
_LISTING: Final = ("--list-only", "--no-human-readable")


def _remote_shell(config: Path) -> list[str]:
    # rsync splits this at spaces; the file lies in a directory whose name has none.
    return ["-e", f"ssh -F {config}"]


def _remote(place: SshPlace, prefix: str = "") -> str:
    host = f"[{place.host}]" if ":" in place.host else place.host
    path = place.path.rstrip("/")
    return f"{host}:{path}/{prefix}/" if prefix else f"{host}:{path}/"


def _quoted(path: Path) -> str:
    return '"' + os.fspath(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'
