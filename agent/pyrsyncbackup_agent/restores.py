"""Restores that collectors send: each into a new directory of its own, if the host's settings allow any.

A restore grows under another name and gets its own when all of it is there; one that broke off goes on where it was.
What it holds belongs to the agent's user: putting it into its place is the work of the host's administrator.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyrsyncbackup_agent.errors import RestoreRefused, TooManySessions
from pyrsyncbackup_agent.rsyncd import MUNGED, Daemon, receive
from pyrsyncbackup_agent.settings import Restore

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]{0,199}")
# Behind the name of a restore that is not complete.
PARTIAL: Final = ".partial"
# What is ours inside one, and gone when it is complete: the directory of files on their way, links on theirs.
_OURS: Final = b".pyrsyncbackup-push-"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Receiving:
    """A restore on its way: the daemon that takes it, and the directory that it will be."""

    daemon: Daemon
    directory: Path
    _parent: int

    def finish(self) -> Path:
        """All of it arrived: remove what is ours, give links their targets and the directory its name.

        Raise RestoreRefused.
        """
        name = self.directory.name
        try:
            partial = os.open(name + PARTIAL, _DIRECTORY, dir_fd=self._parent)
            try:
                _complete(partial)
            finally:
                os.close(partial)
            os.rename(name + PARTIAL, name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        except OSError as error:
            raise RestoreRefused(f"restore: {self.directory} could not be finished: {error.strerror}") from error
        return self.directory


class Restores:
    """Takes restores, one at a time."""

    def __init__(self, settings: Restore, runtime_dir: Path, rsync: str) -> None:
        self._settings, self._runtime_dir, self._rsync = settings, runtime_dir, rsync
        self._busy = threading.Lock()

    @contextlib.contextmanager
    def receive(self, name: str) -> Iterator[Receiving]:
        """Take a restore into the new directory `name`; its daemon is gone when the block ends.

        Raise RestoreRefused, TooManySessions while another one is on its way, RsyncFailed.
        """
        if not self._settings.enabled:
            raise RestoreRefused(
                "restore: this host takes none", "allow it there in agent.toml: [restore] enabled = true"
            )
        if not _NAME.fullmatch(name) or name.endswith(PARTIAL):
            raise RestoreRefused(f"restore: not a name for a directory: {name[:200]!r}")
        if not self._busy.acquire(blocking=False):
            raise TooManySessions("another restore is on its way to this host")
        run = self._runtime_dir / f"restore-{secrets.token_hex(4)}"
        try:
            with contextlib.ExitStack() as stack:
                parent, target = self._open(name, stack)
                arriving = _OURS + secrets.token_hex(8).encode()
                os.mkdir(arriving, 0o700, dir_fd=target)
                daemon = receive(self._rsync, target, arriving.decode(), run)
                stack.callback(daemon.close, 0)
                yield Receiving(daemon, self._settings.directory / name, parent)
        finally:
            shutil.rmtree(run, ignore_errors=True)
            self._busy.release()

    def _open(self, name: str, stack: contextlib.ExitStack) -> tuple[int, int]:
        directory = self._settings.directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            parent = os.open(directory, _DIRECTORY)
            stack.callback(os.close, parent)
            status = os.fstat(parent)
            if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise RestoreRefused(f"restore: others than the agent may write to {directory}", "chmod 0700 it")
            if _exists(name, parent):
                raise RestoreRefused(f"restore: {directory / name} is there already", "move or remove it on the host")
            with contextlib.suppress(FileExistsError):
                os.mkdir(name + PARTIAL, 0o700, dir_fd=parent)
            target = os.open(name + PARTIAL, _DIRECTORY, dir_fd=parent)
            stack.callback(os.close, target)
        except OSError as error:
            raise RestoreRefused(
                f"restore: {directory} cannot be used: {error.strerror}", "let the agent's user own it"
            ) from error
        return parent, target


def _exists(name: str, parent: int) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _complete(top: int) -> None:
    """Remove what is ours below the open directory, and give every link its own target.

    Nobody else writes there by now. Names are taken one by one and no link is followed; directories that their owner
    may not change are opened to him for the time. Of any depth: one descriptor, and the names on the way back.
    """
    current = os.dup(top)
    try:
        pending = [_tidy(current)]
        while pending:
            if not pending[-1]:
                pending.pop()
                if pending:
                    current = _replaced(current, os.open(b"..", _DIRECTORY, dir_fd=current))
                continue
            current = _replaced(current, os.open(pending[-1].pop(), _DIRECTORY, dir_fd=current))
            pending.append(_tidy(current))
    finally:
        os.close(current)


def _replaced(old: int, new: int) -> int:
    os.close(old)
    return new


def _tidy(directory: int) -> list[bytes]:
    """Do it in the one open directory; the names of directories in it."""
    before = os.fstat(directory)
    below: list[bytes] = []
    links: list[tuple[bytes, os.stat_result]] = []
    ours: list[bytes] = []
    for name in map(os.fsencode, os.listdir(directory)):
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if name.startswith(_OURS):
            ours.append(name)
        elif stat.S_ISDIR(status.st_mode):
            below.append(name)
        elif stat.S_ISLNK(status.st_mode) and os.readlink(name, dir_fd=directory).startswith(MUNGED):
            links.append((name, status))
    if not ours and not links:
        return below
    os.fchmod(directory, stat.S_IMODE(before.st_mode) | 0o700)
    for name in ours:
        _remove(name, directory)
    for name, status in links:
        _unmunge(name, status, directory)
    os.fchmod(directory, stat.S_IMODE(before.st_mode))
    os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))
    return below


def _unmunge(name: bytes, status: os.stat_result, directory: int) -> None:
    target = os.readlink(name, dir_fd=directory)
    draft = _OURS + secrets.token_hex(8).encode()
    os.symlink(target[len(MUNGED) :], draft, dir_fd=directory)
    os.utime(draft, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=directory, follow_symlinks=False)
    os.rename(draft, name, src_dir_fd=directory, dst_dir_fd=directory)


def _remove(name: bytes, directory: int) -> None:
    """A link, or a directory that holds files only."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        inside = os.open(name, _DIRECTORY, dir_fd=directory)
        try:
            for each in os.listdir(inside):
                os.unlink(each, dir_fd=inside)
        finally:
            os.close(inside)
        os.rmdir(name, dir_fd=directory)
