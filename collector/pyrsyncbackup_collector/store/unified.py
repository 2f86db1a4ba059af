"""Two lists of lines as one unified difference, in bounded time. Pure.

difflib finds what a person would, in time that grows with the square of the lines, and faster where somebody chose them
for that: minutes for 10,000. After enough steps the rest is told as removed and added: right, if longer than need be.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

# Lines, and pairs of equal ones, that are looked at: some seconds. 10,000 lines with 2,000 changes take a tenth of it.
STEPS: Final = 5_000_000


def unified(
    before: Sequence[str], after: Sequence[str], before_name: str, after_name: str, context: int
) -> Iterator[str]:
    """The lines of `diff -u`, those of the contents with the ends that they have; nothing if they are equal."""
    groups = _Matcher(before, after).get_grouped_opcodes(context)
    for number, group in enumerate(groups):
        if number == 0:
            yield f"--- {before_name}\n"
            yield f"+++ {after_name}\n"
        (_, before_from, _, after_from, _), (_, _, before_to, _, after_to) = group[0], group[-1]
        yield f"@@ -{_range(before_from, before_to)} +{_range(after_from, after_to)} @@\n"
        for tag, old, old_end, new, new_end in group:
            if tag == "equal":
                yield from (" " + line for line in before[old:old_end])
            else:
                yield from ("-" + line for line in before[old:old_end])
                yield from ("+" + line for line in after[new:new_end])


class _Matcher(difflib.SequenceMatcher[str]):
    """One that finds nothing equal any more after STEPS."""

    def __init__(self, before: Sequence[str], after: Sequence[str]) -> None:
        super().__init__(None, before, after)
        there: dict[str, list[int]] = self.b2j  # type: ignore[attr-defined]
        self._sums = [0, *accumulate(1 + len(there.get(line, ())) for line in before)]
        self._left = STEPS

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> difflib.Match:
        """As there, or none."""
        end = len(self._sums) - 1 if ahi is None else ahi
        self._left -= self._sums[end] - self._sums[alo]
        if self._left < 0:
            return difflib.Match(alo, blo, 0)
        return super().find_longest_match(alo, ahi, blo, bhi)


def _range(begin: int, end: int) -> str:
    """Lines from `begin` on, as they are numbered there: an empty range is told by the line before it."""
    length = end - begin
    if length == 1:
        return f"{begin + 1}"
    return f"{begin + 1 if length else begin},{length}"
