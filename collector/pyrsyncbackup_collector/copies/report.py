"""What a round did, as a plain value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Round:
    """Counts are of this round; `left_out` and `lost` are pairs of what and why.

    `left_out` was not brought: it is rotten, changed or missing in the source. `lost` was in the copy and is not any
    more, and the source does not have it either. `held` snapshots and `stored_size` of objects are what the copy has at
    the end; sizes in bytes.
    """

    snapshots: int = 0
    objects: int = 0
    size: int = 0
    repaired: int = 0
    removed: int = 0
    removed_objects: int = 0
    held: int = 0
    stored_size: int = 0
    checked: bool = False
    left_out: list[tuple[str, str]] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """For JSON; `problems` counts what somebody should look at."""
        return {
            "snapshots": self.snapshots,
            "objects": self.objects,
            "size": self.size,
            "repaired": self.repaired,
            "removed": self.removed,
            "removed_objects": self.removed_objects,
            "held": self.held,
            "stored_size": self.stored_size,
            "checked": self.checked,
            "problems": len(self.left_out) + len(self.lost),
            "left_out": [{"what": what, "why": why} for what, why in self.left_out],
            "lost": [{"what": what, "why": why} for what, why in self.lost],
        }
