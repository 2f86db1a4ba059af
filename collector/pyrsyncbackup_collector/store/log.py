"""The log of one module: a line for each commit, prune, pin and freeze, chained by digests, its head signed.

A snapshot exists from the moment its commit line is durable. Reading is lenient, so that backups go on: what does not
fit is told in `faults`, and `verify` is the one who judges.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import msgspec

from pyrsyncbackup_collector.errors import StoreError
from pyrsyncbackup_collector.store.faults import translated
from pyrsyncbackup_collector.store.layout import HEAD, LOG, sync_directory, write_all, write_durably
from pyrsyncbackup_collector.store.signature import Head, Signer, head_fault, signed

# What the first line names as the digest of the line before.
NO_LINE: Final = "0" * 64
Operation = Literal["commit", "prune", "pin", "unpin", "freeze", "resume", "accept"]


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. `file` and `manifest` (SHA-256 of that file) are given for a commit and a prune.

    `freeze` and `resume` name the newest snapshot of then: from the one to the other no rule removes any. `accept` is
    written when a log did not fit at start: `reason` says what was found, so that it stays known.
    """

    op: Operation
    sequence: int
    previous: str
    file: str = ""
    manifest: str = ""
    time_s: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LogContent:
    """A log as it was read. `size` is the length in bytes up to the last whole line, `torn` whether more follows."""

    lines: tuple[Line, ...] = ()
    digest: str = NO_LINE
    count: int = 0
    size: int = 0
    torn: bool = False
    faults: tuple[str, ...] = ()
    # Digest of each line, so that a head that lags can be placed.
    digests: tuple[str, ...] = field(default=(), repr=False)

    def committed(self) -> dict[int, Line]:
        """Commit lines of the snapshots that were not pruned, by sequence number."""
        found: dict[int, Line] = {}
        for line in self.lines:
            if line.op == "commit":
                found[line.sequence] = line
            elif line.op == "prune":
                found.pop(line.sequence, None)
        return found

    def pruned(self) -> dict[int, Line]:
        """Prune lines, by sequence number."""
        return {line.sequence: line for line in self.lines if line.op == "prune"}

    def pins(self) -> dict[int, str]:
        """The pinned snapshots by sequence number, and why each is pinned; those that were pruned are none."""
        found: dict[int, str] = {}
        for line in self.lines:
            if line.op == "pin":
                found[line.sequence] = line.reason
            elif line.op in ("unpin", "prune"):
                found.pop(line.sequence, None)
        return found

    def frozen(self) -> Line | None:
        """The line of the freeze that holds, if one does; it ends with its snapshot, too, which no rule removes."""
        found: Line | None = None
        for line in self.lines:
            if line.op == "freeze":
                found = line
            elif line.op == "resume" or (found and line.op == "prune" and line.sequence == found.sequence):
                found = None
        return found

    def accepted(self) -> int:
        """The sequence number of the newest snapshot when the last freeze was ended, 0 if none was."""
        return max((line.sequence for line in self.lines if line.op == "resume"), default=0)

    def lost_lines(self, after: int) -> str:
        """Why lines may be gone, pins among them: what a start accepted, after snapshot number `after`; or nothing."""
        reasons = (line.reason for line in self.lines if line.op == "accept" and line.sequence > after)
        # Of the head's signature alone nothing is lost.
        return next((one for one in reasons if any("sign" not in part for part in one.split("; "))), "")

    def highest(self) -> int:
        """The highest sequence number ever given, 0 if none."""
        return max((line.sequence for line in self.lines), default=0)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)


def parse(data: bytes) -> LogContent:
    """Read a log: lines that cannot be decoded are left out and told in `faults`."""
    end = data.rfind(b"\n") + 1
    lines: list[Line] = []
    digests: list[str] = []
    faults: list[str] = []
    previous = NO_LINE
    for number, raw in enumerate(data[:end].split(b"\n")[:-1], 1):
        try:
            line = _decoder.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
            faults.append(f"line {number} cannot be read: {fault}")
        else:
            lines.append(line)
            if line.previous != previous:
                faults.append(f"line {number} does not follow the line before it")
        previous = hashlib.sha256(raw).hexdigest()
        digests.append(previous)
    return LogContent(tuple(lines), previous, len(digests), end, end < len(data), tuple(faults), tuple(digests))


def _chained(content: LogContent, lines: Sequence[Line]) -> tuple[LogContent, bytes]:
    """What the log holds after these lines, and their bytes."""
    digest, digests, added, written = content.digest, list(content.digests), list(content.lines), b""
    for line in lines:
        chained = msgspec.structs.replace(line, previous=digest)
        raw = _encoder.encode(chained)
        digest = hashlib.sha256(raw).hexdigest()
        added.append(chained)
        digests.append(digest)
        written += raw + b"\n"
    after = LogContent(
        *(tuple(added), digest, len(digests), content.size + len(written), False, content.faults, tuple(digests))
    )
    return after, written


class ModuleLog:
    """The log in `directory`. One writer at a time: who appends holds the module's lock."""

    def __init__(
        self, directory: Path, host: str, module: str, signer: Signer | None, coming_head: bytes | None = None
    ) -> None:
        """`coming_head` is the head that a second copy says for a log whose own may not have come yet."""
        self.path = directory / LOG
        self._coming_head = coming_head
        self._head_path = directory / HEAD
        self._host = host
        self._module = module
        self._signer = signer

    def read(self) -> LogContent:
        """What it holds now; empty if there is none."""
        with translated(self.path):
            try:
                return parse(self.path.read_bytes())
            except FileNotFoundError:
                return LogContent()

    def append(
        self,
        content: LogContent,
        op: Operation,
        sequence: int,
        *,
        file: str = "",
        manifest: str = "",
        time_s: int = 0,
        reason: str = "",
    ) -> LogContent:
        """Add a line after `content`, which is what the log holds, durably; return what it holds then.

        If that fails nothing is added. The head is renewed by `seal`.
        """
        return self.extend(content, [Line(op, sequence, "", file, manifest, time_s, reason)])

    def announce(self, content: LogContent, lines: Sequence[Line]) -> None:
        """Say in the head, durably and signed, that `extend` adds these lines: until it did, there is none of them."""
        after, _ = _chained(content, lines)
        self._write_head(Head(content.count, content.digest, coming_lines=after.count, coming_digest=after.digest))

    def extend(self, content: LogContent, lines: Sequence[Line]) -> LogContent:
        """Add lines, whose `previous` is not looked at, as `append` does; several need `announce` first."""
        after, raw = _chained(content, lines)
        with translated(self.path):
            log = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                if os.fstat(log).st_size != content.size:
                    raise StoreError(f"{self.path} was changed by somebody else", "stop what else writes to the store")
                os.lseek(log, 0, os.SEEK_END)
                try:
                    write_all(log, raw)
                    os.fsync(log)
                except OSError:
                    with contextlib.suppress(OSError):
                        os.ftruncate(log, content.size)
                    raise
            finally:
                os.close(log)
            if not content.size:
                sync_directory(self.path.parent)
        return after

    def undone(self, content: LogContent) -> LogContent:
        """Remove what a crash left of lines that were announced together, unless all are there."""
        head = self._read_head()
        if not isinstance(head, Head) or not head.lines < content.count < head.coming_lines:
            return content
        if (content.digests[head.lines - 1] if head.lines else NO_LINE) != head.digest:
            return content
        with translated(self.path):
            raw = self.path.read_bytes()[: content.size]
        size = sum(len(line) + 1 for line in raw.split(b"\n")[: head.lines])
        return self.cut(replace(content, size=size))

    def accept(self, content: LogContent) -> tuple[LogContent, list[str]]:
        """Where log and head do not fit, say so in the log itself, so that going on does not hide it.

        Returns what the log holds then, and what did not fit and was not said before.
        """
        known = any(line.op == "accept" for line in content.lines)
        faults = self.verify(content)
        if not faults or (known and content.faults == tuple(faults) and self.is_sealed(content)):
            return content, []
        after = self.append(content, "accept", content.highest(), reason="; ".join(faults)[:2000])
        self.seal(after)
        return after, faults

    def cut(self, content: LogContent) -> LogContent:
        """Remove a torn last line."""
        with translated(self.path):
            log = os.open(self.path, os.O_WRONLY)
            try:
                os.ftruncate(log, content.size)
                os.fsync(log)
            finally:
                os.close(log)
        return parse(self.path.read_bytes())

    def seal(self, content: LogContent) -> None:
        """Sign and write the head for `content`."""
        self._write_head(Head(content.count, content.digest))

    def _write_head(self, head: Head) -> None:
        written = signed(self._host, self._module, head, self._signer)
        with translated(self._head_path):
            write_durably(self._head_path, msgspec.json.encode(written) + b"\n")

    def _read_head(self) -> Head | str | None:
        """The head, why it cannot be read, or None if there is none."""
        with translated(self._head_path):
            try:
                return _head(self._head_path.read_bytes())
            except FileNotFoundError:
                return None

    def verify(self, content: LogContent) -> list[str]:
        """What does not fit: in the chain, between head and chain, in the signature. Empty: all is well.

        The head may lag behind by one line, or by those that it announces: a crash between the two does that.
        """
        faults = self._against(content, self._read_head())
        if faults and self._coming_head is not None and not self._against(content, _head(self._coming_head)):
            return []
        return faults

    def faults(self) -> list[str]:
        """As `verify`, for who does not hold the module's lock: it is read again while somebody writes to it."""
        content = self.read()
        while faults := self.verify(content):
            before, content = content, self.read()
            if content == before:
                break
        return faults

    def _against(self, content: LogContent, head: Head | str | None) -> list[str]:
        faults = list(content.faults)
        if content.torn:
            faults.append("the last line is torn")
        if head is None:
            return faults if content.count <= 1 else [*faults, "the head of the log is missing"]
        if isinstance(head, str):
            return [*faults, f"the head of the log cannot be read: {head}"]
        if wrong := head_fault(head, self._host, self._module, self._signer):
            faults.append(wrong)
        if head.lines > content.count:
            faults.append(f"the log has {content.count} lines, its head knows {head.lines}")
        elif head.lines < content.count - 1 and not content.count <= head.coming_lines:
            faults.append(f"the log has {content.count} lines, its head only knows {head.lines}")
        elif (content.digests[head.lines - 1] if head.lines > 0 else NO_LINE) != head.digest:
            faults.append(f"line {head.lines} of the log is not the one that its head knows")
        elif head.coming_lines == content.count and head.coming_digest != content.digest:
            faults.append("the last lines of the log are not those that its head announces")
        return faults

    def is_sealed(self, content: LogContent) -> bool:
        """Whether the head stands for exactly `content` (its signature is not looked at)."""
        head = self._read_head()
        if not isinstance(head, Head):
            return content.count == 0
        return (head.lines, head.digest, head.coming_lines) == (content.count, content.digest, 0)


def _head(data: bytes) -> Head | str:
    """The head, or why it cannot be read."""
    try:
        return msgspec.json.decode(data, type=Head)
    except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
        return str(fault)
