"""`EventLog`: the latest events of this process, for those who follow them all rather than one run's.

It listens from the first follower on: as long as nobody follows, it costs nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from typing import TYPE_CHECKING

from nexus_core.errors import MalformedRequest
from nexus_core.events import EVENTS_MISSED, WORKFLOW_OUTPUT, ChannelEvent, EventBus

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = 1000
"""Events that are kept for followers who come back."""

BACKLOG = 1000
"""Events that wait for one follower, before the oldest make room and the follower is told."""

_LONGEST_ID = 64


class EventLog:
    """The log of one platform.

    Args:
        bus: Where events are told.

    Attributes:
        epoch: Names this log among those of other processes, and of this one before a restart.
    """

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._kept: deque[ChannelEvent] = deque(maxlen=KEPT)
        self._followers: set[Follower] = set()
        self._is_listening = False
        self._began_after = 0
        self.epoch = f"{int(time.time()):x}{secrets.token_hex(2)}"

    def id_of(self, event: ChannelEvent) -> str:
        """Return the id by which a follower can go on after an event."""
        return f"{self.epoch}-{event.number}"

    def follow(self, after: str | None, wanted: Callable[[ChannelEvent], bool]) -> Follower:
        """Return a follower of the events that are wanted, from now on or from those after an id.

        Args:
            after: The id of the last event that the follower has seen; None for from now on.
            wanted: Whether it wants an event. Called on the event loop with each; must be quick.

        Raises:
            MalformedRequest: The id has not the form of one.
        """
        if not self._is_listening:
            self._is_listening, self._began_after = True, self._bus.latest
            self._bus.listen(self._heard)
        follower = Follower(wanted, self._followers.discard)
        if after is not None:
            self._catch_up(follower, after)
        self._followers.add(follower)
        return follower

    def _catch_up(self, follower: Follower, after: str) -> None:
        """Give a follower what came after the last event that it has seen, and tell it if that is not everything."""
        epoch, dash, digits = after.partition("-")
        if len(after) > _LONGEST_ID or not dash or not digits.isascii() or not digits.isdigit():
            raise MalformedRequest("The id of the last event was not given out by a server.")
        number = int(digits)
        oldest = self._kept[0].number - 1 if len(self._kept) == KEPT else self._began_after
        if epoch != self.epoch or number < oldest or number > self._bus.latest:
            follower.miss(0)
            number = 0
        for event in self._kept:
            if event.number > number:
                follower.put(event)

    def _heard(self, event: ChannelEvent) -> None:
        if event.type == WORKFLOW_OUTPUT:  # as large as results: who wants it follows the run
            return
        light = event if event.result is None else event.without_result()
        self._kept.append(light)
        for follower in self._followers:
            follower.put(light)


class Follower:
    """What waits for somebody who follows events: bounded, and honest about what was dropped."""

    def __init__(self, wanted: Callable[[ChannelEvent], bool], gone: Callable[[Follower], None]) -> None:
        self._wanted = wanted
        self._gone = gone
        self._waiting: deque[ChannelEvent] = deque()
        self._missed: int | None = None
        self._news = asyncio.Event()

    def put(self, event: ChannelEvent) -> None:
        """Add an event, if it is wanted. Called on the event loop."""
        if not self._wanted(event):
            return
        if len(self._waiting) >= BACKLOG:
            self._waiting.popleft()
            self.miss(1)
        self._waiting.append(event)
        self._news.set()

    def miss(self, count: int) -> None:
        """Note that some events won't come; 0 where nobody knows how many."""
        self._missed = (self._missed or 0) + count
        self._news.set()

    async def next(self, timeout: float | None = None) -> ChannelEvent | None:
        """Return the next event; None when there is none within ``timeout`` seconds.

        In the place of events that were dropped comes one of type ``events.missed``, with their count if it is known.
        """
        if not self._waiting and self._missed is None:
            self._news.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._news.wait()
            except TimeoutError:
                return None
        if self._missed is not None:
            missed, self._missed = self._missed, None
            return ChannelEvent(EVENTS_MISSED, data={"count": missed or None})
        return self._waiting.popleft()

    def close(self) -> None:
        """Follow no more."""
        self._gone(self)
