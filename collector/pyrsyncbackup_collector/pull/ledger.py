"""What a pull needs of the catalog, declared by the one who needs it.

Every method is one short transaction, may be called from any thread, and raises CatalogError alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from pyrsyncbackup_collector.store.chunks import Chunked
from pyrsyncbackup_collector.store.snapshot import Change, Snapshot
from pyrsyncbackup_collector.store.store import Store


@dataclass(frozen=True, slots=True)
class ModuleMemory:
    """What is remembered of the newest state of a module.

    `sequence` is that of the newest snapshot the tokens belong to. `tokens` holds eight bytes, little endian, for each
    entry of it, in its order; 0 is no token. `fingerprint` is that of the last settled complete listing, or b"".
    """

    sequence: int
    tokens: bytes
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Known:
    """A snapshot that the catalog knows: `digest` is the SHA-256 of its manifest file, hexadecimal."""

    sequence: int
    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One content that is now an object in the store, or lies there in chunks: then `stored_size` is 0."""

    sha256: str
    size: int
    stored_size: int
    public: bool
    chunked: Chunked | None = None


class Ledger(Protocol):
    """The catalog, as a pull sees it."""

    def memory(self, host: str, module: str) -> ModuleMemory | None:
        """What is remembered of the module; None if it was never pulled."""
        ...

    def newest(self, host: str, module: str) -> Known | None:
        """The newest snapshot of the module that is known, whether the store has it or not; None if there is none."""
        ...

    def unusable(self, host: str, module: str, name: str, cause: str, *, missing: bool) -> None:
        """Remember that snapshot `name`, the newest of the module, is damaged or missing, and why."""
        ...

    def claimable_sizes(self, host: str, sizes: AbstractSet[int], *, share: bool) -> set[int]:
        """Those of `sizes` (bytes) that some content has which this host may claim.

        That is what it sent before or, with `share`, what is public.
        """
        ...

    def pin_claimable(self, pull: str, host: str, claims: Sequence[tuple[str, bool]], *, share: bool) -> set[str]:
        """Look up (sha256, public here) claims; pin and return the digests that are known and this host may claim.

        A content counts as public only if a host that sent it said so and it is public here too.
        """
        ...

    def record_objects(self, pull: str, host: str, objects: Sequence[StoredObject]) -> None:
        """Make objects known, as sent by `host`, and pin them for `pull`. Call after the store's sync.

        List and chunks of a content in chunks become known as well, but are nothing that anyone may claim.
        """
        ...

    def pin_known(self, pull: str, digests: Collection[str]) -> dict[str, int]:
        """Pin `digests` for `pull`, whether they are objects or are about to become some; sizes of those that are.

        Before a content is written, or is not written because it is known: nobody removes it from here on.
        """
        ...

    def known(self, digests: Collection[str]) -> dict[str, int]:
        """Sizes (bytes) of those of `digests` that are objects already, whoever sent them.

        A content in chunks is known while its list and all its chunks are. Says nothing about who may claim them.
        """
        ...

    def lists(self, digests: Collection[str]) -> dict[str, str]:
        """The digest of the list of chunks of those of `digests` that are contents in chunks: `Entry.chunks`."""
        ...

    def commit(
        self,
        run: str,
        snapshot: Snapshot,
        changes: Iterable[Change],
        memory: ModuleMemory,
        *,
        previous: int | None = None,
        share: bool = True,
        whole: bool = False,
    ) -> None:
        """Record a snapshot that lies in the store: its row, its changed paths, the memory; one transaction.

        `changes` are those since snapshot number `previous` (0: there was none; default: the number before). Raises
        CatalogMismatch if that is not the newest one in the catalog (a commit did not reach it). A second time with the
        same snapshot does nothing. Without `share` no content becomes public by it. With `whole`, `changes` are all
        entries there are, whatever `previous` held.
        """
        ...

    def catch_up(self, store: Store, host: str, module: str) -> None:
        """Add a snapshot of the module that lies in the store and did not reach the catalog.

        Raises CatalogMismatch if there is more than one.
        """
        ...

    def lost(self, host: str, module: str) -> AbstractSet[str]:
        """Digests of contents of the module's newest state whose objects are damaged: they are to be fetched anew."""
        ...

    def remember(self, host: str, module: str, memory: ModuleMemory) -> None:
        """Replace the memory of a module whose listing showed no difference."""
        ...

    def unpin(self, pull: str) -> None:
        """Drop all pins of `pull`."""
        ...
