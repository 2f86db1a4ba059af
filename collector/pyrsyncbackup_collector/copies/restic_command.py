"""The argument vectors of restic for handing snapshots over, and what its answers mean.

Repository and password are no arguments: both may hold secrets, and argument vectors are seen by all. They go by the
environment, the password by a file that restic reads itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from pyrsyncbackup_collector.copies.credentials import must_be_private
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import CopyError, CopyRefused
from pyrsyncbackup_collector.store.snapshot import Snapshot

TAG: Final = "pyrsyncbackup"
# restic could not read some of the files, and saved the others.
INCOMPLETE: Final = 3
_SHOWN: Final = 100


def environment(inherited: Mapping[str, str], repository: str, password_file: Path | None) -> dict[str, str]:
    """What restic runs with: all that its back ends may read from ours, and times in UTC.

    Raises CopyRefused for a file with its password that others may read.
    """
    own = {**inherited, "RESTIC_REPOSITORY": repository, "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    own.pop("RESTIC_REPOSITORY_FILE", None)
    if password_file is not None:
        own["RESTIC_PASSWORD_FILE"] = str(password_file.absolute())
        for other in ("RESTIC_PASSWORD", "RESTIC_PASSWORD_COMMAND"):
            own.pop(other, None)
    if file := own.get("RESTIC_PASSWORD_FILE"):
        must_be_private(Path(file))
    return own


def tag(snapshot: Snapshot) -> str:
    """By which a snapshot is found again."""
    return f"{snapshot.host}/{snapshot.module}@{snapshot.name}"


def find(snapshot: Snapshot) -> list[str]:
    """Ask whether it is there already."""
    return ["restic", "snapshots", "--json", "--host", snapshot.host, "--tag", tag(snapshot)]


def backup(snapshot: Snapshot) -> list[str]:
    """Save the directory in which it is run, as of the host and the time of the snapshot."""
    time = datetime.fromtimestamp(int(snapshot.time), UTC).strftime("%Y-%m-%d %H:%M:%S")
    names = [part for name in (TAG, tag(snapshot)) for part in ("--tag", name)]
    # No cache of the tree: it lies below another directory each time.
    return ["restic", "backup", "--quiet", "--host", snapshot.host, "--time", time, *names, "--force", "."]


def is_there(output: str) -> bool:
    """Whether `find` found it. Raises CopyError for an answer of another form."""
    try:
        found = msgspec.json.decode(output or "[]", type=list[Any] | None)
    except msgspec.MsgspecError:
        raise CopyError(f"restic answered something else: {printable(output[:200])}") from None
    return bool(found)


def unread(words: str) -> list[str]:
    """What restic said of files that it could not read."""
    return [printable(line) for line in words.splitlines() if line.strip()][:_SHOWN]


def failure(code: int, words: str) -> CopyError:
    """Why restic did not do it."""
    said = printable(" / ".join(line for line in words.splitlines() if line.strip())[-500:])
    if "wrong password" in words or "an empty password" in words or "password" in words.lower():
        return CopyRefused(f"restic: {said}", "give --password-file FILE, or set RESTIC_PASSWORD_FILE")
    if "unable to open config file" in words or "Is there a repository" in words:
        return CopyError(f"restic: {said}", "`restic init` makes a repository; it is never made by itself")
    return CopyError(f"restic ended with code {code}: {said or 'without a word'}", "run it again; restic goes on")
