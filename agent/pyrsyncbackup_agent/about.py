"""What an agent says about itself and its host."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pyrsyncbackup_agent import __version__


@dataclass(frozen=True)
class About:
    """Facts that stay while the agent runs."""

    name: str
    version: str
    os: str
    kernel: str
    machine_id: str
    rsync_version: str
    relay: bool


def about(name: str, rsync: str, relay: bool) -> About:
    """Find them out; what cannot be found out is empty. `relay` is whether connections are passed on."""
    return About(name, __version__, _os_name(), platform.release(), _machine_id(), rsync_version(rsync), relay)


@functools.lru_cache(maxsize=4)
def rsync_version(rsync: str) -> str:
    """Return the first line of `rsync --version`, shortened to the number; empty if there is no rsync."""
    try:
        done = subprocess.run(
            [rsync, "--version"], capture_output=True, stdin=subprocess.DEVNULL, timeout=10, env=os.environ, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    words = done.stdout.decode("utf-8", "replace").split()
    return words[words.index("version") + 1] if "version" in words[:-1] else ""


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def _machine_id() -> str:
    """A digest, since the id itself is meant to stay on the machine (machine-id(5))."""
    for file in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        try:
            if text := file.read_bytes().strip():
                return hashlib.sha256(b"pyrsyncbackup " + text).hexdigest()[:32]
        except OSError:
            continue
    return ""
