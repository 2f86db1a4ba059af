"""What the end of rsync means for a copy: its exit code and last words as one of our errors, its lists as values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from pyrsyncbackup_collector.copies.target import Listed
from pyrsyncbackup_collector.entry import printable
from pyrsyncbackup_collector.errors import CopyError, CopyFull, CopyMissing, CopyRefused, CopyUnreachable
from pyrsyncbackup_collector.store.layout import TEMPORARY


class Ended(NamedTuple):
    """How a process ended: `code` as a shell has it, and what it said."""

    code: int
    output: str
    words: str


# Lines that only say that there was an error before.
_ECHO: Final = re.compile(r"rsync error: |rsync: connection unexpectedly closed|rsync: .*Broken pipe")
_ITEM: Final = re.compile(r"(?P<type>.)\S+ +(?P<size>[\d,.]+) \S+ \S+ (?P<name>.+)")
_KEY: Final = "its SSH host key is not known, or another one"
_LOGIN: Final = "its SSH server does not let us in"
_NONE: Final = "there is no rsync on it"
_FULL: Final = "no space left"
_DENIED: Final = "its file system does not let us"
_MISSING: Final = "there is no such directory"
# What rrsync says of its own directory, and, with this mark put to it, of what was asked for.
_NOT_THERE: Final = "rrsync finds nothing: "
_RRSYNC_MISSES: Final = (_NOT_THERE, "FileNotFoundError: [Errno 2]", "Restricted directory does not exist")
_RRSYNC: Final = re.compile(r"(?=.*rrsync error: .*No such file or directory$)")
# What a line says, what it means, and as which error; the first that fits counts.
_SIGNS: Final = (
    (("Host key verification failed", "REMOTE HOST IDENTIFICATION"), CopyRefused, _KEY),
    (("Permission denied (",), CopyRefused, _LOGIN),
    (("command not found", "rsync: not found"), CopyRefused, _NONE),
    (("(28)", "(122)"), CopyFull, _FULL),
    (("(13)", "(1)", "(30)"), CopyRefused, _DENIED),
    (("No such file or directory (2)", *_RRSYNC_MISSES), CopyMissing, _MISSING),
)
_HINTS: Final = {
    _KEY: "compare what `ssh-keyscan` shows with the machine's own key, then add the line to {known_hosts}",
    _LOGIN: "add {key} to its authorized_keys",
    _NONE: "install rsync there",
    _FULL: "make room there, or let the copy keep less (`keep`)",
    _DENIED: "let its user own the directory, writable",
    _MISSING: "is its file system mounted there?",
}


def has_no_fsync(ended: Ended) -> bool:
    """Whether the other rsync is too old (before 3.2.4) to be told to make things durable."""
    return ended.code != 0 and "--fsync: unknown option" in ended.words


def failure(where: str, ended: Ended, key: str, known_hosts: str) -> CopyError:
    """The CopyError for a run that failed."""
    lines = [line for line in ended.words.splitlines() if line.strip()]
    telling = [line for line in lines if not _ECHO.match(line)]
    said = printable(" / ".join((telling or lines)[-3:])[:500])
    for signs, kind, meaning in _SIGNS:
        if any(sign in _RRSYNC.sub(_NOT_THERE, line, 1) for sign in signs for line in telling):
            hint = _HINTS[meaning].format(key=key, known_hosts=known_hosts)
            return kind(f"{where}: {meaning}: {said}", hint)
    return CopyUnreachable(
        f"{where}: rsync ended with code {ended.code}: {said or 'without a word'}", "the next run goes on"
    )


def listed(output: str, prefix: str = "") -> Iterator[Listed]:
    """The files of a list; drafts are none: rsync's begin with a dot, and ours with another."""
    for line in output.splitlines():
        match = _ITEM.fullmatch(line)
        if match and match["type"] == "-":
            name = f"{prefix}/{match['name']}" if prefix else match["name"]
            last = name.rpartition("/")[2]
            if not last.startswith((".", TEMPORARY)):
                yield Listed(name, int(match["size"].replace(",", "").replace(".", "")))
