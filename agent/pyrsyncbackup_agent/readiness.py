"""What would keep this agent from working, found out without changing anything: rsync and the directories."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from pyrsyncbackup_agent.settings import Settings


def problems(settings: Settings) -> list[str]:
    """One line for each, with the remedy."""
    found = []
    if shutil.which(settings.rsync) is None:
        found.append(f"rsync: `{settings.rsync}` is not an executable; install the package rsync, or set `rsync`")
    for key in ("state_dir", "identity_dir", "runtime_dir"):
        if fault := _writable_fault(getattr(settings, key)):
            found.append(f"{key}: {fault}")
    if settings.restore.enabled and (fault := _writable_fault(settings.restore.directory)):
        found.append(f"restore.directory: {fault}")
    if fault := _readable_fault(settings.collectors_dir):
        found.append(f"collectors_dir: {fault}")
    return found


def _writable_fault(directory: Path) -> str:
    """Why the agent could not keep files in `directory`, which it creates if it is missing."""
    if directory.is_dir():
        if not os.access(directory, os.W_OK | os.X_OK):
            return f"{directory} cannot be written by user {os.geteuid()}"
        if directory.stat().st_mode & stat.S_IWOTH:
            return f"{directory} can be written by everybody; run: chmod o-w {directory}"
        return ""
    if os.path.lexists(directory):
        return f"{directory} is not a directory"
    above = next(parent for parent in directory.parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        return f"{directory} does not exist and user {os.geteuid()} cannot create it"
    return ""


def _readable_fault(directory: Path) -> str:
    if not os.path.lexists(directory):
        return ""  # nobody is trusted yet
    if not directory.is_dir():
        return f"{directory} is not a directory"
    if not os.access(directory, os.R_OK | os.X_OK):
        return f"{directory} cannot be read by user {os.geteuid()}"
    status = directory.stat()
    if status.st_mode & stat.S_IWOTH or status.st_uid not in (0, os.geteuid()):
        return f"{directory} decides who may read backups, and others can write to it"
    return ""
