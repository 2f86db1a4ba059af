"""The log of one module: one line for each commit, prune, pin and unpin, chained by digests, its head signed.

A snapshot exists from the moment its commit line is durable. Reading is lenient, so that backups go on: what does not
fit is told in `faults`, and `verify` is the one who judges.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import msgspec

from pyrsyncbackup_collector.errors import StoreError
from pyrsyncbackup_collector.store.faults import translated
from pyrsyncbackup_collector.store.layout import HEAD, LOG, sync_directory, write_all, write_durably
from pyrsyncbackup_collector.store.signature import Head, Signer, head_fault, make_head

# What the first line names as the digest of the line before.
NO_LINE: Final = "0" * 64
Operation = Literal["commit", "prune", "pin", "unpin", "accept"]


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. `file` and `manifest` (SHA-256 of that file) are given for a commit and a prune.

    `accept` is written when a log did not fit at start: `reason` says what was found, so that it stays known.
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


class ModuleLog:
    """The log in `directory`. One writer at a time: who appends holds the module's lock."""

    def __init__(self, directory: Path, host: str, module: str, signer: Signer | None) -> None:
        self.path = directory / LOG
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
        line = Line(op, sequence, content.digest, file, manifest, time_s, reason)
        raw = _encoder.encode(line)
        with translated(self.path):
            log = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                if os.fstat(log).st_size != content.size:
                    raise StoreError(f"{self.path} was changed by somebody else", "stop what else writes to the store")
                os.lseek(log, 0, os.SEEK_END)
                try:
                    write_all(log, raw + b"\n")
                    os.fsync(log)
                except OSError:
                    with contextlib.suppress(OSError):
                        os.ftruncate(log, content.size)
                    raise
            finally:
                os.close(log)
            if not content.size:
                sync_directory(self.path.parent)
        digest = hashlib.sha256(raw).hexdigest()
        return LogContent(
            (*content.lines, line),
            digest,
            content.count + 1,
            content.size + len(raw) + 1,
            False,
            content.faults,
            (*content.digests, digest),
        )

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
        head = make_head(self._host, self._module, content.count, content.digest, self._signer)
        with translated(self._head_path):
            write_durably(self._head_path, msgspec.json.encode(head) + b"\n")

    def verify(self, content: LogContent) -> list[str]:
        """What does not fit: in the chain, between head and chain, in the signature. Empty: all is well.

        The head may lag behind by one line: a crash between the two does that.
        """
        faults = list(content.faults)
        if content.torn:
            faults.append("the last line is torn")
        with translated(self._head_path):
            try:
                data = self._head_path.read_bytes()
            except FileNotFoundError:
                return faults if content.count <= 1 else [*faults, "the head of the log is missing"]
        try:
            head = msgspec.json.decode(data, type=Head)
        except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
            return [*faults, f"the head of the log cannot be read: {fault}"]
        if wrong := head_fault(head, self._host, self._module, self._signer):
            faults.append(wrong)
        if head.lines > content.count:
            faults.append(f"the log has {content.count} lines, its head knows {head.lines}")
        elif head.lines < content.count - 1:
            faults.append(f"the log has {content.count} lines, its head only knows {head.lines}")
        elif (content.digests[head.lines - 1] if head.lines > 0 else NO_LINE) != head.digest:
            faults.append(f"line {head.lines} of the log is not the one that its head knows")
        return faults

    def is_sealed(self, content: LogContent) -> bool:
        """Whether the head stands for exactly `content` (its signature is not looked at)."""
        with translated(self._head_path):
            try:
                head = msgspec.json.decode(self._head_path.read_bytes(), type=Head)
            except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
                return content.count == 0
        return (head.lines, head.digest) == (content.count, content.digest)
