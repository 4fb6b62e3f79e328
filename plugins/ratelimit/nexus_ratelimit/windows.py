"""The strategies in memory: one object for each budget, which knows what was taken from it.

Times are whole nanoseconds of a clock that never goes back, so that every comparison is exact. The stores of other
plugins count in the same way: see `nexus_core.state.stores.CountingStore`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nexus_ratelimit.limits import Limit


class Window(Protocol):
    """What was taken from one budget.

    Attributes:
        until: When all of it is there again, whatever it was.
    """

    until: int

    def has_room(self, now: int, limit: Limit) -> bool:
        """Whether a call may be taken."""

    def take(self, now: int, limit: Limit) -> None:
        """Take a call. Ask `has_room` first."""

    def left(self, now: int, limit: Limit) -> tuple[int, int]:
        """Return how many calls there are, and the nanoseconds until there are more. Ask `has_room` first."""


class FixedWindow:
    """Counts the calls of a window that begins with its first one. Around its end, twice the limit may be taken."""

    __slots__ = ("_count", "until")

    def __init__(self) -> None:
        self._count = 0
        self.until = 0

    def has_room(self, now: int, limit: Limit) -> bool:
        """See `Window.has_room`."""
        if now >= self.until:
            self._count = 0
        return self._count < limit.calls

    def take(self, now: int, limit: Limit) -> None:
        """See `Window.take`."""
        if self._count == 0:
            self.until = now + limit.length
        self._count += 1

    def left(self, now: int, limit: Limit) -> tuple[int, int]:
        """See `Window.left`."""
        return limit.calls - self._count, self.until - now


class MovingWindow:
    """Keeps the time of every call: exact, at eight bytes a call."""

    __slots__ = ("_first", "_times", "until")

    def __init__(self) -> None:
        self._times = array("q")
        self._first = 0
        self.until = 0

    def has_room(self, now: int, limit: Limit) -> bool:
        """See `Window.has_room`."""
        times = self._times
        self._first = bisect_right(times, now - limit.length, self._first)
        if self._first * 2 > len(times):  # moving what is left then costs less than what has been taken out
            del times[: self._first]
            self._first = 0
        return len(times) - self._first < limit.calls

    def take(self, now: int, limit: Limit) -> None:
        """See `Window.take`."""
        self._times.append(now)
        self.until = now + limit.length

    def left(self, now: int, limit: Limit) -> tuple[int, int]:
        """See `Window.left`."""
        return limit.calls - len(self._times) + self._first, self._times[self._first] + limit.length - now


class SlidingWindow:
    """Two counters: of this window, and of the one before, which weighs as much as of it lies in the last length.

    It takes the calls of the window before as evenly spread, and so needs no more than their number.
    """

    __slots__ = ("_before", "_count", "_index", "until")

    def __init__(self) -> None:
        self._index = 0
        self._count = 0
        self._before = 0
        self.until = 0

    def has_room(self, now: int, limit: Limit) -> bool:
        """See `Window.has_room`."""
        index, spent = divmod(now, limit.length)
        if index != self._index:
            self._before = self._count if index == self._index + 1 else 0
            self._index, self._count = index, 0
        return self._before * (limit.length - spent) <= (limit.calls - self._count - 1) * limit.length

    def take(self, now: int, limit: Limit) -> None:
        """See `Window.take`."""
        self._count += 1
        self.until = (self._index + 2) * limit.length

    def left(self, now: int, limit: Limit) -> tuple[int, int]:
        """See `Window.left`."""
        length, before, count = limit.length, self._before, self._count
        rest = length - now % length
        left = max(0, limit.calls - count - -(-before * rest // length))
        may_count = limit.calls - left - 1  # what the calls must weigh at most for there to be one more
        if before and may_count >= count:
            return left, rest - (may_count - count) * length // before
        if count:  # not in this window: in the next one, these are the calls before
            return left, rest + length - min(length, may_count * length // count)
        return left, rest


STRATEGIES: dict[str, type[Window]] = {
    "sliding_window": SlidingWindow,
    "moving_window": MovingWindow,
    "fixed_window": FixedWindow,
}
"""The class of each strategy."""
