"""Queues in which calls of one key take turns: in this process (`LocalQueues`), or in a store (`SharedQueues`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from nexus_core.errors import Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable

RETRY_AFTER = 1.0
"""Seconds after which a caller may try again whose call was refused because a queue is full."""


class Place:
    """The place of one call in a queue.

    Attributes:
        id: A name that no other place has.
        position: How many calls are before it; 0 when it is its turn.
        turn: Done when it is its turn. The call may cancel it.
        is_over: Whether the call has left its queue.
        moved: Called when the position changes.
    """

    __slots__ = ("id", "is_over", "moved", "position", "turn")

    def __init__(self, place_id: str) -> None:
        self.id = place_id
        self.position = 0
        self.is_over = False
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.moved: Callable[[], None] | None = None

    def move(self, position: int) -> None:
        """Note how many calls are before it now."""
        if position == self.position and (position or self.turn.done()):
            return
        self.position = position
        if self.turn.done():
            return
        if position == 0:
            self.turn.set_result(None)
        elif self.moved is not None:
            self.moved()


class QueueLimits:
    """How many calls may wait.

    Args:
        per_key: In one queue.
        total: In this process.

    Attributes:
        waiting: How many wait in this process.
    """

    def __init__(self, per_key: int, total: int) -> None:
        self._per_key = per_key
        self._total = total
        self.waiting = 0

    def check(self, waiting: int) -> None:
        """Let one more call wait in a queue.

        Args:
            waiting: How many wait there.

        Raises:
            Overloaded: There is no room for it.
        """
        if waiting >= self._per_key:
            raise self._full("max_queued_per_key", self._per_key, waiting)
        if self.waiting >= self._total:
            raise self._full("max_queued_calls", self._total, waiting)

    @staticmethod
    def _full(limit: str, most: int, waiting: int) -> Overloaded:
        return Overloaded(
            f"The call has to wait for others with the same key, and its queue is full: {limit} ({most}) calls wait.",
            retry_after=RETRY_AFTER,
            details={"limit": limit, "position": waiting + 1},
        )


class Queues(Protocol):
    """Queues by key. The first call in one has its turn; the others wait."""

    async def join(self, key: str, place: Place) -> None:
        """Put a place at the end of a queue.

        Raises:
            Overloaded: There is no room for it.
            BackendUnavailable: The store does not answer.
        """

    async def leave(self, key: str, place: Place) -> None:
        """Take a place out of its queue, if it is there: the next one has its turn."""

    async def close(self) -> None:
        """End what runs for the queues."""


class LocalQueues:
    """Queues of this process alone."""

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._queues: dict[str, list[Place]] = {}

    async def join(self, key: str, place: Place) -> None:
        """See `Queues.join`."""
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = []
        else:
            self._limits.check(len(queue) - 1)
        queue.append(place)
        place.move(len(queue) - 1)

    async def leave(self, key: str, place: Place) -> None:
        """See `Queues.leave`."""
        queue = self._queues.get(key, [])
        if place not in queue:
            return
        queue.remove(place)
        if not queue:
            del self._queues[key]
        for position, each in enumerate(queue):
            each.move(position)

    async def close(self) -> None:
        """See `Queues.close`."""
