"""What a verification found: plain values, one for each thing that is not as it should be, and the sums.

What is sound is only counted. What follows from a finding is for others: `cli` tells it, `daemon` sets objects aside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

# An object whose content differs from its name, or a file that cannot be read.
ROTTEN: Final = "rotten"
# A manifest or a log that does not fit what was logged and signed.
TAMPERED: Final = "tampered"
# Something that snapshots need, or that the log has and names in no prune, is not there.
MISSING: Final = "missing"

OBJECT: Final = "object"
MANIFEST: Final = "manifest"
LOG: Final = "log"

# Snapshots that a finding names; all are counted.
NAMED: Final = 20
# Findings that are kept as values; all are counted. A store whose disk was lost has one for each object.
KEPT: Final = 10_000


def mended_copy(files: str) -> str:
    """What to do about a finding in a second copy, in `files` (a pattern) of it."""
    return f"`pyrsyncbackup replicate NAME --mend FILE` brings {files} again; FILE is from `verify --from NAME --json`"


@dataclass(frozen=True, slots=True)
class Needing:
    """The snapshots that need something: the first of them as HOST/MODULE@NAME, how many, and a path in one."""

    snapshots: tuple[str, ...] = ()
    count: int = 0
    path: bytes = b""

    def with_one(self, snapshot: str, path: bytes = b"") -> Needing:
        """And one more."""
        named = (*self.snapshots, snapshot) if len(self.snapshots) < NAMED else self.snapshots
        return Needing(named, self.count + 1, self.path or path)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not sound.

    `kind` is rotten, tampered or missing; `what` is object, manifest or log; `name` is a digest, HOST/MODULE@NAME or
    HOST/MODULE; `cause` in words; `needing` the snapshots that are affected; `next` what to do.
    """

    kind: str
    what: str
    name: str
    cause: str
    needing: Needing = Needing()
    next: str = ""


@dataclass(slots=True)
class Tally:
    """Collects findings up to a limit and counts all."""

    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        """One more."""
        self.counts[finding.kind] = self.counts.get(finding.kind, 0) + 1
        if len(self.findings) < KEPT:
            self.findings.append(finding)


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at, and what was found.

    `objects` were read and hashed, `size` bytes of content in all; `left_out` were there and not in the sample.
    `manifests` and `logs` were compared with log and signature; `pruned` snapshots are gone by rule, as the log says.
    `accepted` are lines of logs that say what a start of the collector found and went on with. `signatures` says
    whether there was a key to check them with. `total` counts all findings, `findings` has the first ten thousand.
    """

    objects: int
    size: int
    left_out: int
    manifests: int
    logs: int
    pruned: int
    signatures: bool
    accepted: tuple[str, ...]
    findings: tuple[Finding, ...]
    total: int

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return self.total == 0
