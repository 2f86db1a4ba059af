"""`restore --to-host`: what is restored here, sent to a host, and removed here.

What an agent that is not root could not give anyway is left out before, so that the report is the same whoever sends.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from pyrsyncbackup_collector.cli.restore_progress import sending
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.entry import DIRECTORY, FILE, Entry, printable
from pyrsyncbackup_collector.errors import NotFound, StoreFull
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.pull import sandbox
from pyrsyncbackup_collector.pull.send import Sent, send
from pyrsyncbackup_collector.store.acl import unnamed
from pyrsyncbackup_collector.store.attributes import ACLS
from pyrsyncbackup_collector.store.layout import remove_tree
from pyrsyncbackup_collector.store.restore_report import Reason, RestoreReport, Tally
from pyrsyncbackup_collector.store.selection import Amount
from pyrsyncbackup_collector.store.snapshot import Snapshot

# Stands for the snapshot's own host.
OWN: Final = "."
OPTION: Final = "--to-host"
_SCRATCH: Final = "sending"


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is sent: the chosen entries of a snapshot, what they come to, and what was chosen (none: everything)."""

    snapshot: Snapshot
    amount: Amount
    choice: tuple[bytes, ...]

    @property
    def name(self) -> str:
        """The directory on the host; another choice of the same snapshot has another one."""
        name = f"{self.snapshot.host}-{self.snapshot.module}-{self.snapshot.name}"
        digest = hashlib.sha256(b"\0".join(self.choice)).hexdigest()
        return f"{name}-{digest[:8]}" if self.choice else name


def with_own_host(arguments: Sequence[str]) -> list[str]:
    """A command line in which each `--to-host` without a host gets the snapshot's own.

    No host has a slash in its name, and every REF has one: what follows with one is no host, nor is an option.
    """
    completed: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        completed.append(word)
        if word == "--":
            break
        if word == OPTION and (not rest or rest[0].startswith("-") or "/" in rest[0]):
            completed.append(OWN)
    return completed + rest


def host_named(place: Workplace, name: str, snapshot: Snapshot) -> Host:
    """The host that `--to-host` says. Raises NotFound."""
    if name == OWN:
        return place.fleet.host(snapshot.host)
    try:
        return place.fleet.host(name)
    except NotFound as error:
        path = f"say `{OPTION} {OWN} {printable(name)}`"
        hint = (
            f"{error.hint} If it is a path, {path}"
            if error.hint.endswith("?")
            else f"{error.hint}; if it is a path, {path}"
        )
        raise NotFound(error.cause, hint) from None


def send_to_host(
    place: Workplace, host: Host, parcel: Parcel, fill: Callable[[Path, Callable[[Entry], Entry]], RestoreReport]
) -> tuple[RestoreReport, Sent]:
    """What `fill` restores into a directory, as a new directory on `host`.

    `fill` is given the directory, and what each entry goes through before. Returns its report as it holds for the host,
    and where the restore is. Raises BackupError; what arrived then stays there for the next try.
    """
    chosen = sandbox.choose(place.config.sandbox)
    with place.connections() as connections, connections.agent(host, now=True) as agent:
        # Before anything is restored: a host that refuses says so at once.
        agent.try_push(parcel.name)
        with _scratch(place.config.state, parcel.amount.size) as folder:
            fitted = _Fitted()
            report = fill(folder / "tree", fitted)
            push = agent.push(parcel.name)
            with sending(host.name, lambda: push.sent):
                sent = send((folder / "tree").resolve(), push, chosen)
    return _on_host(report, fitted.tally, Path(f"{host.name}:{sent.directory}")), sent


class _Fitted:
    """Makes entries such as an agent can have them; `tally` says what that took."""

    def __init__(self) -> None:
        self.tally = Tally()

    def __call__(self, entry: Entry) -> Entry:
        """`entry` that its owner may read, without what only root may give."""
        # Neither rsync here nor the agent there is root: what their user may not read could not be sent.
        needed = 0o500 if entry.type == DIRECTORY else 0o400 if entry.type == FILE else 0
        if entry.mode & needed != needed:
            self.tally.note(entry.path, Reason.ATTRIBUTE, "mode: made readable for its owner")
            entry = msgspec.structs.replace(entry, mode=entry.mode | needed)
        kept = {name: value for name, value in entry.xattrs.items() if name.startswith("user.") or name in ACLS}
        if len(kept) < len(entry.xattrs):
            self.tally.note(entry.path, Reason.NOT_BY_AGENT, "attributes that only root may set")
            entry = msgspec.structs.replace(entry, xattrs=kept)
        acls = {name: unnamed(value) for name, value in entry.xattrs.items() if name in ACLS}
        if acls.items() - entry.xattrs.items():
            # In the sandbox of rsync nobody has a number but its own user.
            self.tally.note(entry.path, Reason.NOT_BY_AGENT, "ACLs that name users or groups")
            entry = msgspec.structs.replace(entry, xattrs=entry.xattrs | acls)
        return entry


def _on_host(report: RestoreReport, fitted: Tally, target: Path) -> RestoreReport:
    """The report of the directory here as it holds there, where all belongs to the agent's user."""
    found = [
        replace(shortfall, reason=Reason.NOT_BY_AGENT) if shortfall.reason is Reason.SPECIAL else shortfall
        for shortfall in (*report.shortfalls, *fitted.report(target).shortfalls)
        if shortfall.reason is not Reason.OWNER
    ]
    ranks = {reason: number for number, reason in enumerate(Reason)}
    found.sort(key=lambda shortfall: (ranks[shortfall.reason], shortfall.what))
    return replace(report, target=target, shortfalls=tuple(found))


@contextmanager
def _scratch(state: Path, size: int) -> Iterator[Path]:
    """A private directory below `state`, removed afterwards, as is what a killed command left. Raises StoreFull."""
    top = state / _SCRATCH
    top.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _clear(top, lock)
        fcntl.flock(lock, fcntl.LOCK_SH)
        room = os.statvfs(top)
        if room.f_bavail * room.f_frsize < size:
            raise StoreFull(
                f"{state} has no room for {size >> 20} MiB", "make room: what goes to a host is restored there first"
            )
        folder = top / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            remove_tree(folder)
    finally:
        os.close(lock)


def _clear(top: Path, lock: int) -> None:
    """Remove what is there, if nobody else is at work."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    for left in top.iterdir():
        remove_tree(left)
