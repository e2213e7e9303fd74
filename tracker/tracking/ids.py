"""Object ids that were given, kept as ranges: months of ids given one after the other take a few bytes."""

from bisect import bisect_right
from collections.abc import Iterable


class UsedIds:
    """A set of ids >= 1 to which one only adds."""

    def __init__(self) -> None:
        # Disjoint and in order: range i is from _starts[i] up to and without _ends[i], and no two of them touch.
        self._starts: list[int] = []
        self._ends: list[int] = []

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int]]) -> "UsedIds":
        """The ids of `ranges`, as that property gave them."""
        ids = cls()
        for start, end in ranges:
            ids._starts.append(start)
            ids._ends.append(end)
        return ids

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Each from its first number up to and without its second, in order."""
        return list(zip(self._starts, self._ends, strict=True))

    def __contains__(self, number: int) -> bool:
        i = bisect_right(self._starts, number)
        return i > 0 and number < self._ends[i - 1]

    def add(self, number: int) -> None:
        if number in self:
            return
        i = bisect_right(self._starts, number)
        extends = i > 0 and self._ends[i - 1] == number
        meets = i < len(self._starts) and self._starts[i] == number + 1
        if extends and meets:
            self._ends[i - 1] = self._ends.pop(i)
            del self._starts[i]
        elif extends:
            self._ends[i - 1] += 1
        elif meets:
            self._starts[i] = number
        else:
            self._starts.insert(i, number)
            self._ends.insert(i, number + 1)

    def next(self, largest: int, least: int = 1) -> int:
        """The id after the greatest one so far, and not below `least`.

        Where the greatest was `largest`: the smallest that is free, below `least` only where all others are used.
        """
        after = max(least, self._ends[-1] if self._ends else 1)
        return next(free for free in (after, self._free_from(least), self._free_from(1)) if free <= largest)

    def _free_from(self, least: int) -> int:
        """The smallest that is free, from `least` up."""
        i = bisect_right(self._starts, least)
        return max(least, self._ends[i - 1]) if i > 0 else least
