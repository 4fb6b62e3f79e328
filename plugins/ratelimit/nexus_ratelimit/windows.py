"""The strategies in memory: one counter for each budget.

Times are integer nanoseconds of a clock that never goes back, so that every comparison is exact. Stores of other
plugins count in the same way: see `nexus_core.state.stores.CountingStore`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nexus_ratelimit.limits import Limit


class Window(Protocol):
    """The counter of one budget.

    Attributes:
        until: Time from which the whole budget is available again.
    """

    until: int

    def has_room(self, now: int, limit: Limit) -> bool:
        """Whether another call is allowed."""

    def take(self, now: int, limit: Limit) -> None:
        """Count a call. Call `has_room` first."""

    def left(self, now: int, limit: Limit) -> tuple[int, int]:
        """Return the remaining calls, and the nanoseconds until there are more. Call `has_room` first."""


class FixedWindow:
    """Counts calls in a window that begins with the first one. Around its end, twice the limit is possible."""

    __slots__ = ("count", "until")

    def __init__(self) -> None:
        self.count = 0
        self.until = 0

    def has_room(self, now: int, limit: Limit) -> bool:
        """See `Window.has_room`."""
        if now >= self.until:
            self.count = 0
        return self.count < limit.calls

    def take(self, now: int, limit: Limit) -> None:
        """See `Window.take`."""
        if self.count == 0:
            self.until = now + limit.length
        self.count += 1

    def left(self, now: int, limit: Limit) -> tuple[int, int]:
        """See `Window.left`."""
        return limit.calls - self.count, self.until - now


class MovingWindow:
    """Stores the time of every call: exact, with eight bytes per call."""

    __slots__ = ("_first", "times", "until")

    def __init__(self) -> None:
        self.times = array("q")
        self._first = 0
        self.until = 0

    def has_room(self, now: int, limit: Limit) -> bool:
        """See `Window.has_room`."""
        times = self.times
        self._first = bisect_right(times, now - limit.length, self._first)
        if self._first * 2 > len(times):  # then moving the rest costs less than the removed times did
            del times[: self._first]
            self._first = 0
        return len(times) - self._first < limit.calls

    def take(self, now: int, limit: Limit) -> None:
        """See `Window.take`."""
        self.times.append(now)
        self.until = now + limit.length

    def left(self, now: int, limit: Limit) -> tuple[int, int]:
        """See `Window.left`."""
        return limit.calls - len(self.times) + self._first, self.times[self._first] + limit.length - now


class SlidingWindow:
    """Two counters: of this window and of the one before, weighted by the part of it within the last window's length.

    The calls of the previous window are assumed to be evenly distributed, so that their number is enough.
    """

    __slots__ = ("_before", "_index", "count", "until")

    def __init__(self) -> None:
        self._index = 0
        self.count = 0
        self._before = 0
        self.until = 0

    def has_room(self, now: int, limit: Limit) -> bool:
        """See `Window.has_room`."""
        index, spent = divmod(now, limit.length)
        if index != self._index:
            self._before = self.count if index == self._index + 1 else 0
            self._index, self.count = index, 0
        return self._before * (limit.length - spent) <= (limit.calls - self.count - 1) * limit.length

    def take(self, now: int, limit: Limit) -> None:
        """See `Window.take`."""
        self.count += 1
        self.until = (self._index + 2) * limit.length

    def left(self, now: int, limit: Limit) -> tuple[int, int]:
        """See `Window.left`."""
        length, before, count = limit.length, self._before, self.count
        rest = length - now % length
        left = max(0, limit.calls - count - -(-before * rest // length))
        may_count = limit.calls - left - 1  # maximum weight of the calls for one more to be allowed
        if before and may_count >= count:
            return left, rest - (may_count - count) * length // before
        if count:  # in the next window, where these are the previous calls
            return left, rest + length - min(length, may_count * length // count)
        return left, rest


STRATEGIES: dict[str, type[Window]] = {
    "sliding_window": SlidingWindow,
    "moving_window": MovingWindow,
    "fixed_window": FixedWindow,
}
"""The class of each strategy."""
